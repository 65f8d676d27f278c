//! How a graph's inputs and output fit the manifest's.

use std::ops::Range;

use ev_models_core::{InputColumns, LoadOptions};
use ort::{
    session::Session,
    value::{Outlet, TensorElementType, ValueType},
};

/// Where the graph's inputs come from, and its output.
#[derive(Debug)]
pub(crate) struct Fit {
    pub(crate) columns: usize,
    pub(crate) inputs: Vec<GraphInput>,
    pub(crate) output: GraphOutput,
    /// The graph takes any number of rows; otherwise one at a time.
    pub(crate) is_dynamic: bool,
}

/// An input of the graph.
#[derive(Debug)]
pub(crate) struct GraphInput {
    pub(crate) name: String,
    pub(crate) element: Element,
    /// The columns of a row that it takes.
    pub(crate) columns: Range<usize>,
    /// Shape of a row's value: every dimension but the first.
    pub(crate) shape: Vec<usize>,
}

/// The output that is the answer.
#[derive(Debug)]
pub(crate) struct GraphOutput {
    pub(crate) name: String,
    pub(crate) is_double: bool,
}

/// Types of numbers that columns become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Fp32,
    Fp64,
    Int32,
    Int64,
    Uint8,
    Bool,
}

/// The dimensions of a graph's tensor, `None` where the file leaves one open.
type Dimensions = Vec<Option<usize>>;

// === impl Fit ===

impl Fit {
    /// Checks a graph against what the manifest gives it.
    ///
    /// # Errors
    ///
    /// What differs: names, types, shapes, found and expected.
    pub(crate) fn new(session: &Session, options: &LoadOptions) -> Result<Fit, String> {
        let groups = match options.inputs.as_slice() {
            [] => &[InputColumns { name: String::new(), shape: vec![options.columns] }][..],
            groups => groups,
        };
        let mut inputs = Vec::new();
        let mut is_dynamic = true;
        for (index, outlet) in session.inputs().iter().enumerate() {
            let (element, dimensions) = tensor(outlet, "input")?;
            let (columns, wanted) = if session.inputs().len() == 1 {
                (0..options.columns, if let [one] = groups { one.shape.clone() } else { vec![options.columns] })
            } else {
                named(groups, session.inputs(), index)?
            };
            let rows = dimensions.first().copied().ok_or_else(|| {
                format!("input `{}` is a single value, expected a first dimension that counts rows", outlet.name())
            })?;
            match rows {
                None => {}
                Some(1) => is_dynamic = false,
                Some(rows) => {
                    return Err(format!(
                        "input `{}` takes exactly {rows} rows at a time; export it with a first dimension of any size",
                        outlet.name()
                    ));
                }
            }
            let shape = row_shape(&dimensions[1..], &wanted).ok_or_else(|| {
                format!(
                    "input `{}` takes {} a row, the manifest gives {wanted:?}, which is {} values",
                    outlet.name(),
                    shown(&dimensions[1..]),
                    columns.len()
                )
            })?;
            inputs.push(GraphInput { name: outlet.name().to_owned(), element, columns, shape });
        }
        if let Some(unused) =
            groups.iter().find(|group| inputs.len() > 1 && !inputs.iter().any(|input| input.name == group.name))
        {
            return Err(format!("the graph has no input `{}`; it has {}", unused.name, names(session.inputs())));
        }
        if inputs.is_empty() {
            return Err("the graph takes no input".to_owned());
        }
        let output = GraphOutput::new(session.outputs(), &options.output)?;
        Ok(Fit { columns: options.columns, inputs, output, is_dynamic })
    }
}

/// The columns of the manifest's input of the same name, and their shape.
fn named(groups: &[InputColumns], outlets: &[Outlet], index: usize) -> Result<(Range<usize>, Vec<usize>), String> {
    let name = outlets[index].name();
    let mut first = 0;
    for group in groups {
        if group.name == name {
            return Ok((first..first + group.width(), group.shape.clone()));
        }
        first += group.width();
    }
    let known: Vec<&str> = groups.iter().take(12).map(|group| group.name.as_str()).collect();
    Err(format!(
        "the graph takes {}, and the manifest has no column `{name}`; it has {}",
        names(outlets),
        known.join(", ")
    ))
}

/// The shape of a row's value that suits both sides: the graph's, with the manifest's sizes where it leaves them open.
fn row_shape(graph: &[Option<usize>], manifest: &[usize]) -> Option<Vec<usize>> {
    let width: usize = manifest.iter().product();
    let filled: Vec<usize> = if graph.len() == manifest.len() {
        graph.iter().zip(manifest).map(|(graph, manifest)| graph.unwrap_or(*manifest)).collect()
    } else {
        // A vector that the graph shapes otherwise: at most one open dimension has one answer.
        let known = graph.iter().flatten().try_fold(1usize, |product, size| product.checked_mul(*size))?;
        let open = graph.iter().filter(|size| size.is_none()).count();
        if open > 1 || known == 0 || !width.is_multiple_of(known) {
            return None;
        }
        graph.iter().map(|size| size.unwrap_or(width / known)).collect()
    };
    let product = filled.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    // Of equal ranks every dimension must be the same: [3, 224, 200] is no [3, 200, 224].
    let same = graph.len() != manifest.len() || filled == manifest;
    (product == Some(width) && same).then_some(filled)
}

/// Type and dimensions of a tensor of numbers.
fn tensor(outlet: &Outlet, kind: &str) -> Result<(Element, Dimensions), String> {
    let refused = || format!("{kind} `{}` is {}, expected a tensor of numbers", outlet.name(), outlet.dtype());
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else { return Err(refused()) };
    let element = match ty {
        TensorElementType::Float32 => Element::Fp32,
        TensorElementType::Float64 => Element::Fp64,
        TensorElementType::Int32 => Element::Int32,
        TensorElementType::Int64 => Element::Int64,
        TensorElementType::Uint8 => Element::Uint8,
        TensorElementType::Bool => Element::Bool,
        _ => return Err(refused()),
    };
    Ok((element, shape.iter().map(|size| usize::try_from(*size).ok()).collect()))
}

fn names(outlets: &[Outlet]) -> String {
    let names: Vec<String> = outlets.iter().take(12).map(|outlet| format!("`{:.100}`", outlet.name())).collect();
    names.join(", ")
}

fn shown(dimensions: &[Option<usize>]) -> String {
    let sizes: Vec<String> =
        dimensions.iter().take(8).map(|size| size.map_or("?".to_owned(), |size| size.to_string())).collect();
    format!("[{}]", sizes.join(", "))
}

// === impl GraphOutput ===

impl GraphOutput {
    fn new(outlets: &[Outlet], name: &str) -> Result<GraphOutput, String> {
        let outlet = match outlets {
            [only] => only,
            _ => outlets.iter().find(|outlet| outlet.name() == name).ok_or_else(|| {
                format!(
                    "the graph gives {}, and the manifest's output is `{name}`: name it as one of them",
                    names(outlets)
                )
            })?,
        };
        match tensor(outlet, "output")? {
            (Element::Fp32, _) => Ok(GraphOutput { name: outlet.name().to_owned(), is_double: false }),
            (Element::Fp64, _) => Ok(GraphOutput { name: outlet.name().to_owned(), is_double: true }),
            _ => Err(format!("output `{}` is {}, expected a tensor of floats", outlet.name(), outlet.dtype())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_takes_the_shape_that_suits_both() {
        let check = |graph: &[Option<usize>], manifest: &[usize], expected: Option<&[usize]>| {
            assert_eq!(row_shape(graph, manifest).as_deref(), expected, "{graph:?} and {manifest:?}");
        };
        check(&[Some(3)], &[3], Some(&[3]));
        check(&[None], &[3], Some(&[3]));
        check(&[Some(4)], &[3], None);
        check(&[Some(3), None, None], &[3, 8, 9], Some(&[3, 8, 9]));
        check(&[Some(3), Some(9), Some(8)], &[3, 8, 9], None);
        check(&[Some(3), Some(2), Some(2)], &[12], Some(&[3, 2, 2]));
        check(&[Some(3), None, Some(2)], &[12], Some(&[3, 2, 2]));
        check(&[Some(3), None, None], &[12], None);
        check(&[], &[], Some(&[]));
        check(&[], &[1], Some(&[]));
        check(&[Some(1)], &[], Some(&[1]));
        check(&[], &[2], None);
        check(&[Some(0)], &[2], None);
        check(&[Some(usize::MAX), Some(2)], &[2], None);
    }
}
