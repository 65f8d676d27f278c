//! Decoding by table and at random; nothing here needs a server.

use std::collections::HashMap;

use bytes::Bytes;
use ev_models_core::Manifest;
use ev_proto::inference::{
    InferTensorContents, ModelInferRequest,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use proptest::prelude::*;

use super::{
    outputs::{self, Part},
    tensors::Columns,
};
use crate::pipeline::{Plan, PredictError};

const MANIFEST: &str = r#"
[model]
name = "made-up"
task = "generic"
description = "For tests."
backend = "forest"
license = "Apache-2.0"

[[inputs]]
name = "label"
dtype = "BYTES"
vocabulary = ["a", "b"]

[[inputs]]
name = "level"
dtype = "FP32"
required = true

[[inputs]]
name = "curve"
dtype = "FP32"
shape = [2, 2]

[[inputs]]
name = "alarm"
dtype = "BOOL"

[[heads]]
name = "point"
file = "point.ubj"

[[outputs]]
name = "raw"
kind = "prediction"
width = 3
"#;

const ROWS_MAX: usize = 100;

fn manifest() -> Manifest {
    Manifest::parse(MANIFEST).expect("a manifest")
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    let (name, datatype) = (name.to_owned(), datatype.to_owned());
    InferInputTensor { name, datatype, shape: shape.to_vec(), parameters: HashMap::new(), contents: None }
}

fn typed(mut tensor: InferInputTensor, values: &[f32]) -> InferInputTensor {
    tensor.contents = Some(InferTensorContents { fp32_contents: values.to_vec(), ..Default::default() });
    tensor
}

fn request(inputs: Vec<InferInputTensor>, raw: &[&[u8]]) -> ModelInferRequest {
    let raw_input_contents = raw.iter().map(|bytes| Bytes::copy_from_slice(bytes)).collect();
    ModelInferRequest { inputs, raw_input_contents, ..ModelInferRequest::default() }
}

/// The rows of a request, or the first violation.
fn decoded(request: &ModelInferRequest) -> Result<usize, String> {
    let plan = Plan::new(&manifest());
    Columns::decode(&plan, request, ROWS_MAX).map(|columns| columns.rows()).map_err(|error| error.to_string())
}

fn level(shape: &[i64]) -> InferInputTensor {
    tensor("level", "FP32", shape)
}

#[test]
fn shapes_are_rows_and_the_shape_of_a_row() {
    let check = |shape: &[i64], count: usize, expected: bool| {
        let curve = typed(tensor("curve", "FP32", shape), &vec![0.0; count]);
        let found = decoded(&request(vec![typed(level(&[2]), &[1.0, 2.0]), curve], &[]));
        assert_eq!(found.is_ok(), expected, "{shape:?}: {found:?}");
    };
    check(&[2, 4], 8, true);
    check(&[2, 2, 2], 8, true);
    check(&[2, 1, 4], 8, false);
    check(&[2], 8, false);
    check(&[8], 8, false);
    check(&[2, -4], 8, false);
    check(&[-2, -4], 8, false);
    check(&[2, 4], 7, false);
    check(&[2, i64::MAX], 8, false);
    check(&[i64::MAX, i64::MAX], 8, false);
    check(&[i64::MIN, 4], 8, false);
}

#[test]
fn the_first_input_says_how_many_rows_there_are() {
    let check = |shape: &[i64], expected: &str| {
        assert_eq!(decoded(&request(vec![level(shape)], &[])).expect_err("refused"), expected);
    };
    check(&[], "`inputs.level.shape` is [], expected [n] or [n, 1] for n rows");
    check(&[-3], "`inputs.level.shape` is [-3], expected [n] or [n, 1] for n rows");
    check(&[0], "`inputs.level.shape` is [0], expected at least one row");
    check(&[101], "the batch has 101 rows, expected at most 100; split it, or use the stream");
    check(
        &[2, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        "`inputs.level.shape` is [2, 1, 1, 1, 1, 1, 1, 1] and 2 more dimensions, expected [2] or [2, 1], as many rows as the first input",
    );
}

#[test]
fn raw_contents_are_read_in_place() {
    let inputs = || {
        vec![
            tensor("alarm", "BOOL", &[2, 1]),
            level(&[2]),
            tensor("label", "BYTES", &[2, 1]),
            tensor("curve", "FP32", &[2, 4]),
        ]
    };
    let good: [&[u8]; 4] = [&[0, 1], &[0; 8], b"\x01\0\0\0a\0\0\0\0", &[0; 32]];
    assert_eq!(decoded(&request(inputs(), &good)), Ok(2));
    let check = |entry: usize, bytes: &[u8], expected: &str| {
        let mut raw = good;
        raw[entry] = bytes;
        assert_eq!(decoded(&request(inputs(), &raw)).expect_err("refused"), expected);
    };
    check(0, &[0, 7], "`inputs.alarm[1]` is the byte 7, expected 0 or 1");
    check(
        0,
        &[0],
        "`raw_input_contents[0]` has 1 bytes, expected 2: input `alarm` has 2 rows of 1 BOOL values of 1 bytes",
    );
    check(
        3,
        &[0; 31],
        "`raw_input_contents[3]` has 31 bytes, expected 32: input `curve` has 2 rows of 4 FP32 values of 4 bytes",
    );
    check(2, b"\x01\0\0\0a\0\0\0\0\0", "`raw_input_contents[2]` has 1 bytes after the last of 2 values, expected none");
    check(2, b"\x01\0\0\0\xff\0\0\0\0", "`inputs.label[0]` is not UTF-8 from byte 0 on, expected text");
    check(
        2,
        b"\xff\xff\xff\xff",
        "`raw_input_contents[2]` says that value 0 of input `label` has 4294967295 bytes, but only 0 follow",
    );
}

#[test]
fn at_most_a_few_violations_are_told() {
    let many = (0..5000).map(|index| tensor(&format!("{index}{}", "x".repeat(500)), "FP32", &[1])).collect();
    let plan = Plan::new(&manifest());
    match Columns::decode(&plan, &request(many, &[]), ROWS_MAX) {
        Err(PredictError::Invalid(violations)) => {
            assert_eq!(violations.len(), super::tensors::VIOLATIONS_MAX);
            assert!(violations.iter().all(|violation| violation.field.len() < 80));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_output_hides_the_general_tensor_of_its_name() {
    let output = &manifest().outputs[0];
    assert_eq!(outputs::offered(output).collect::<Vec<_>>(), [Part::Prediction, Part::OutOfDistribution]);
    let wanted = [InferRequestedOutputTensor { name: "raw".into(), ..Default::default() }];
    assert_eq!(outputs::select(output, &wanted).expect("known"), [Part::Prediction]);
    let wanted = [InferRequestedOutputTensor { name: "raw_q10".into(), ..Default::default() }];
    assert!(outputs::select(output, &wanted).is_err());
}

proptest! {
    /// Whatever comes, decoding answers, with as many rows as may be.
    #[test]
    fn nothing_makes_decoding_panic(
        shapes in prop::collection::vec(prop::collection::vec(prop_oneof![-2i64..6, any::<i64>()], 0..4), 1..5),
        names in prop::collection::vec(prop::sample::select(vec!["label", "level", "curve", "alarm", "other"]), 1..5),
        types in prop::collection::vec(prop::sample::select(vec!["BYTES", "FP32", "BOOL", "INT64"]), 1..5),
        raw in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
    ) {
        let inputs = shapes.iter().zip(&names).zip(&types).map(|((shape, name), datatype)| tensor(name, datatype, shape));
        let raw: Vec<&[u8]> = raw.iter().map(Vec::as_slice).collect();
        if let Ok(rows) = decoded(&request(inputs.collect(), &raw)) {
            prop_assert!((1..=ROWS_MAX).contains(&rows));
        }
    }
}
