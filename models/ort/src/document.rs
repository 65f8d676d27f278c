//! An ONNX file before the library sees it: whole, self-contained, and not declaring more than it holds.

use ev_models_core::LoadError;

use crate::wire::{Field, Message, Value, WireError};

/// Graphs inside graphs (branches of `If`, bodies of `Loop`).
const DEPTH_MAX: usize = 32;
/// Weights smaller than this are cheaper to hold twice than to share.
const SHARED_BYTES_MIN: usize = 1_024;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: u64 = 1;

/// What was found in a file.
#[derive(Debug, Default)]
pub(crate) struct Document<'f> {
    /// Float weights of the outermost graph.
    pub(crate) weights: Vec<Weight<'f>>,
    /// Nodes of the outermost graph.
    pub(crate) node_count: usize,
    graphs: usize,
}

/// A named tensor that all instances may share.
#[derive(Debug)]
pub(crate) struct Weight<'f> {
    pub(crate) name: &'f str,
    pub(crate) shape: Vec<i64>,
    /// Little-endian float32 values, as many as the shape says.
    pub(crate) bytes: &'f [u8],
}

/// What is wrong with a file, before the file has a name.
#[derive(Debug)]
pub(crate) enum Problem {
    Malformed { place: String, problem: String },
    Unsupported { what: String, advice: &'static str },
}

type Checked = Result<(), Problem>;

// === impl Document ===

impl<'f> Document<'f> {
    /// Looks through a file.
    pub(crate) fn read(bytes: &'f [u8]) -> Result<Document<'f>, Problem> {
        let mut document = Document::default();
        for field in Message::new(bytes).fields() {
            let Field { number, value } = field?;
            match (number, value) {
                (7, Value::Bytes(graph)) => document.graph(graph, "graph", 0)?,
                (20, Value::Bytes(_)) => {
                    return Err(Problem::unsupported(
                        "training information".to_owned(),
                        "export the model for inference",
                    ));
                }
                // Functions are nodes, as graphs are.
                (25, Value::Bytes(function)) => document.nodes(function, 7, "functions", 1)?,
                _ => {}
            }
        }
        if document.graphs == 0 {
            return Err(Problem::malformed("the top", "there is no graph, expected an ONNX model"));
        }
        Ok(document)
    }

    fn graph(&mut self, graph: Message<'f>, place: &str, depth: usize) -> Checked {
        if depth > DEPTH_MAX {
            return Err(Problem::malformed(place, format!("more than {DEPTH_MAX} graphs inside each other")));
        }
        self.graphs += 1;
        for field in graph.fields() {
            match field? {
                Field { number: 5, value: Value::Bytes(tensor) } => {
                    let weight = tensor_in(tensor, &format!("{place}.initializer"))?;
                    if depth == 0 {
                        self.weights.extend(weight);
                    }
                }
                Field { number: 15, value: Value::Bytes(_) } => return Err(sparse(place)),
                _ => {}
            }
        }
        self.nodes(graph, 1, place, depth)
    }

    /// The nodes of a graph or function, which stand in its field `number`.
    fn nodes(&mut self, message: Message<'f>, number: u64, place: &str, depth: usize) -> Checked {
        for field in message.fields() {
            let field = field?;
            let Value::Bytes(node) = field.value else { continue };
            if field.number != number {
                continue;
            }
            self.node_count += usize::from(depth == 0);
            for field in node.fields() {
                if let Field { number: 5, value: Value::Bytes(attribute) } = field? {
                    self.attribute(attribute, &format!("{place}.node.attribute"), depth)?;
                }
            }
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: Message<'f>, place: &str, depth: usize) -> Checked {
        for field in attribute.fields() {
            match field? {
                Field { number: 5 | 10, value: Value::Bytes(tensor) } => tensor_in(tensor, place).map(drop)?,
                Field { number: 6 | 11, value: Value::Bytes(graph) } => {
                    // The place names the innermost graph only: a hostile file must not write long texts.
                    self.graph(graph, "subgraph", depth + 1)?;
                }
                Field { number: 22 | 23, value: Value::Bytes(_) } => return Err(sparse(place)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Checks a tensor; gives it back where it can be shared.
fn tensor_in<'f>(tensor: Message<'f>, place: &str) -> Result<Option<Weight<'f>>, Problem> {
    let (mut dimensions, mut data_type, mut name, mut raw) = (Vec::new(), 0, "", None);
    let mut is_external = false;
    for field in tensor.fields() {
        match field? {
            Field { number: 1, value: Value::Varint(size) } => dimensions.push(size),
            Field { number: 1, value: Value::Bytes(sizes) } => dimensions.extend(sizes.varints()?),
            Field { number: 2, value: Value::Varint(number) } => data_type = number,
            Field { number: 8, value: Value::Bytes(text) } => name = std::str::from_utf8(text.bytes).unwrap_or(""),
            Field { number: 9, value: Value::Bytes(values) } => raw = Some(values.bytes),
            Field { number: 13, value: Value::Bytes(_) } => is_external = true,
            Field { number: 14, value: Value::Varint(location) } => is_external |= location == EXTERNAL,
            _ => {}
        }
    }
    let place = || format!("{place} `{name:.100}`");
    if is_external {
        return Err(Problem::unsupported(
            format!("{} keeps its values in another file", place()),
            "save the model as one file, with its weights inside",
        ));
    }
    let shape: Option<Vec<i64>> = dimensions.iter().map(|size| i64::try_from(*size).ok()).collect();
    let count = dimensions.iter().try_fold(1, |count: u64, size| count.checked_mul(*size));
    // The smallest types of ONNX put four values into a byte; eight leave room for what may come.
    let holds = (tensor.bytes.len() as u64).saturating_mul(8);
    let (Some(shape), Some(count)) = (shape, count.filter(|count| *count <= holds)) else {
        let shown: Vec<u64> = dimensions.iter().copied().take(8).collect();
        return Err(Problem::malformed(
            place(),
            format!("declares the shape {shown:?}, and holds {} bytes", tensor.bytes.len()),
        ));
    };
    let Some(bytes) = raw.filter(|_| data_type == FLOAT) else { return Ok(None) };
    if bytes.len() as u64 != count * 4 {
        return Err(Problem::malformed(place(), format!("has {} bytes, expected 4 for {count} values", bytes.len())));
    }
    Ok((bytes.len() >= SHARED_BYTES_MIN && !name.is_empty()).then_some(Weight { name, shape, bytes }))
}

fn sparse(place: &str) -> Problem {
    Problem::unsupported(format!("{place} has sparse tensors"), "save the model with dense ones")
}

// === impl Problem ===

impl Problem {
    fn malformed(place: impl Into<String>, problem: impl Into<String>) -> Problem {
        Problem::Malformed { place: place.into(), problem: problem.into() }
    }

    fn unsupported(what: String, advice: &'static str) -> Problem {
        Problem::Unsupported { what, advice }
    }

    /// The error of a file.
    pub(crate) fn into_error(self, file: &str) -> LoadError {
        let file = file.to_owned();
        match self {
            Problem::Malformed { place, problem } => LoadError::Malformed { file, place, problem },
            Problem::Unsupported { what, advice } => LoadError::Unsupported { file, what, advice: advice.to_owned() },
        }
    }
}

impl From<WireError> for Problem {
    fn from(WireError { offset, problem }: WireError) -> Problem {
        Problem::malformed(format!("byte {offset}"), problem)
    }
}
