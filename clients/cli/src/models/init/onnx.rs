//! What an ONNX file says of its inputs and outputs: the few messages of `onnx.proto` that hold them.

use prost::Message;

use super::skeleton::{Skeleton, SkeletonInput};
use crate::failure::Failure;

/// `TensorProto.DataType.FLOAT`.
const FLOAT: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

/// A weight: early files list weights among the inputs.
#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<ShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct ShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    /// Absent for a dimension that is only named.
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
}

/// Reads a `.onnx`.
pub(super) fn read(file: &str, bytes: &[u8], name: &str) -> Result<Skeleton, Failure> {
    let model =
        ModelProto::decode(bytes).map_err(|error| Failure::usage(format!("{file} is not ONNX: {error}"), &[]))?;
    let graph = model.graph.filter(|graph| !graph.output.is_empty());
    let graph = graph.ok_or_else(|| Failure::usage(format!("{file} is not ONNX: it has no graph"), &[]))?;
    let is_weight = |name: &str| graph.initializer.iter().any(|weight| weight.name == name);
    let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(|input| !is_weight(&input.name)).collect();
    let columns = inputs.iter().map(|input| columns(file, input)).collect::<Result<Vec<_>, _>>()?;
    let output = graph.output.iter().find(|output| float_shape(output).is_some());
    let output = output.ok_or_else(|| Failure::usage(format!("{file} has no output of float32"), &[ADVICE]))?;
    let width = float_shape(output).and_then(values_a_row).unwrap_or(1);

    let found: Vec<String> =
        inputs.iter().zip(&columns).map(|(input, columns)| format!("{} [rows, {columns}]", input.name)).collect();
    let producer = if model.producer_name.is_empty() { "unknown" } else { &model.producer_name };
    Ok(Skeleton {
        name: name.to_owned(),
        backend: "ort",
        file: file.to_owned(),
        description: format!("ONNX model (IR version {}, written by {producer}).", model.ir_version),
        inputs: inputs
            .iter()
            .zip(&columns)
            .map(|(input, columns)| SkeletonInput {
                name: input.name.clone(),
                width: Some(*columns),
                comment: String::new(),
            })
            .collect(),
        output: output.name.clone(),
        width,
        output_comment: format!("{width} value(s) a row."),
        summary: format!("ONNX; {} -> {} [rows, {width}]", found.join(", "), output.name),
        notes: vec!["it needs a server that was built with the `ort` backend".to_owned()],
    })
}

const ADVICE: &str = "export it with float32 inputs and outputs of shape [rows, columns]";

fn columns(file: &str, input: &ValueInfoProto) -> Result<usize, Failure> {
    let refused = |what: &str| Failure::usage(format!("input `{}` of {file} {what}", input.name), &[ADVICE]);
    let shape = float_shape(input).ok_or_else(|| refused("is not float32"))?;
    values_a_row(shape).ok_or_else(|| refused("has no fixed number of columns"))
}

/// The dimensions of a float32 tensor.
fn float_shape(value: &ValueInfoProto) -> Option<&[DimensionProto]> {
    let tensor = value.r#type.as_ref()?.tensor_type.as_ref().filter(|tensor| tensor.elem_type == FLOAT)?;
    Some(tensor.shape.as_ref().map_or(&[], |shape| shape.dim.as_slice()))
}

/// Values of a row: the product of all dimensions but the first.
fn values_a_row(shape: &[DimensionProto]) -> Option<usize> {
    let (_, rest) = shape.split_first()?;
    rest.iter().try_fold(1usize, |product, dimension| {
        let size = usize::try_from(dimension.dim_value?).ok().filter(|size| *size > 0)?;
        product.checked_mul(size)
    })
}

#[cfg(test)]
mod tests {
    use ev_models_core::Manifest;

    use super::*;

    fn value(name: &str, elem_type: i32, dimensions: &[Option<i64>]) -> ValueInfoProto {
        let dim = dimensions.iter().map(|&dim_value| DimensionProto { dim_value }).collect();
        let tensor_type = Some(TensorTypeProto { elem_type, shape: Some(ShapeProto { dim }) });
        ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
    }

    fn model(input: Vec<ValueInfoProto>, output: Vec<ValueInfoProto>) -> Vec<u8> {
        let initializer = vec![TensorProto { name: "weights".to_owned() }];
        let graph = Some(GraphProto { initializer, input, output });
        ModelProto { ir_version: 10, producer_name: "skl2onnx".to_owned(), graph }.encode_to_vec()
    }

    #[test]
    fn inputs_and_outputs_are_found() {
        let bytes = model(
            vec![value("x", FLOAT, &[None, Some(4)]), value("weights", FLOAT, &[Some(9)])],
            vec![value("label", 7, &[None]), value("scores", FLOAT, &[None, Some(3)])],
        );
        let skeleton = read("m.onnx", &bytes, "mine").expect("read");
        assert_eq!(skeleton.summary, "ONNX; x [rows, 4] -> scores [rows, 3]");
        let manifest = Manifest::parse(&skeleton.to_toml()).expect("a manifest");
        assert_eq!(manifest.column_count(), 4);
        assert_eq!(manifest.outputs[0].head_width(), 3);
        assert_eq!(manifest.model.backend, "ort");
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let good = || vec![value("y", FLOAT, &[None, Some(1)])];
        for (bytes, part) in [
            (b"hello".to_vec(), "not ONNX"),
            (Vec::new(), "no graph"),
            (model(vec![value("x", 7, &[None, Some(4)])], good()), "is not float32"),
            (model(vec![value("x", FLOAT, &[None, None])], good()), "no fixed number"),
            (model(vec![value("x", FLOAT, &[None, Some(4)])], vec![value("y", 7, &[None])]), "no output"),
        ] {
            let failure = read("m.onnx", &bytes, "m").expect_err(part).to_string();
            assert!(failure.contains(part), "{failure}");
        }
    }
}
