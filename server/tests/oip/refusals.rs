//! Every kind of bad request: its code, and a message that names field, value and what is expected.

use std::collections::HashMap;

use bytes::Bytes;
use ev_proto::inference::{InferParameter, InferTensorContents, ModelInferRequest, infer_parameter::ParameterChoice};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::support::{Client, TestServer, flags, numbers, raw, request, texts, wanting};

/// Two rows that are good.
fn good() -> ModelInferRequest {
    let inputs = vec![
        texts("make", &["Tesla", "Kia"]),
        texts("model", &["Model 3", "EV6"]),
        numbers("battery_capacity_kwh", &[60.0, 77.4]),
    ];
    request("ev-range", inputs)
}

fn changed(change: impl FnOnce(&mut ModelInferRequest)) -> ModelInferRequest {
    let mut request = good();
    change(&mut request);
    request
}

fn raw_changed(change: impl FnOnce(&mut ModelInferRequest)) -> ModelInferRequest {
    let mut request = raw(good());
    change(&mut request);
    request
}

fn shaped(shape: &[i64]) -> ModelInferRequest {
    changed(|request| request.inputs[0].shape = shape.to_vec())
}

async fn check(client: &mut Client, request: ModelInferRequest, expected: &str) {
    let status = client.model_infer(request).await.expect_err(expected);
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(status.message(), expected);
    let details = status.get_error_details();
    assert_eq!(details.error_info().expect("a reason").domain, "evserve");
    if expected.starts_with('`') {
        let violation = &details.bad_request().expect("fields").field_violations[0];
        assert!(expected.starts_with(&format!("`{}` {}", violation.field, violation.description)), "{violation:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_values_are_named_with_their_row() {
    let server = TestServer::start().await;
    let client = &mut server.client();
    for (values, problem) in [
        ([60.0, f32::NAN], "[1]` is NaN, expected a finite number"),
        ([f32::INFINITY, 60.0], "[0]` is inf, expected a finite number"),
        ([60.0, 60_000.0], "[1]` is 60000, expected 1 to 1000 kWh"),
    ] {
        let bad = changed(|request| request.inputs[2] = numbers("battery_capacity_kwh", &values));
        let expected = format!("`inputs.battery_capacity_kwh{problem}");
        check(client, bad.clone(), &expected).await;
        check(client, raw(bad), &expected).await;
    }
    let empty = changed(|request| request.inputs[0] = texts("make", &["Tesla", ""]));
    check(client, empty, "`inputs.make[1]` is missing, expected a value: the model requires it").await;
    let long = changed(|request| request.inputs[0] = texts("make", &["Tesla", &"x".repeat(65)]));
    check(client, long, "`inputs.make[1]` has 65 bytes, expected at most 64").await;
    let binary = |request: &mut ModelInferRequest| {
        let contents = request.inputs[1].contents.as_mut().expect("typed");
        contents.bytes_contents[1] = Bytes::from_static(b"EV\xff6");
    };
    check(client, changed(binary), "`inputs.model[1]` is not UTF-8 from byte 2 on, expected text").await;
    check(client, raw(changed(binary)), "`inputs.model[1]` is not UTF-8 from byte 2 on, expected text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_and_types_are_named() {
    let server = TestServer::start().await;
    let client = &mut server.client();
    check(
        client,
        request("ev-range", vec![]),
        "`inputs.make` is missing, expected BYTES values: the model requires it (and 1 more field violations)",
    )
    .await;
    let less = changed(|request| drop(request.inputs.remove(1)));
    check(client, less, "`inputs.model` is missing, expected BYTES values: the model requires it").await;
    let twice = changed(|request| request.inputs.push(texts("make", &["Tesla", "Kia"])));
    check(client, twice, "`inputs.make` is there twice, expected once").await;
    let unknown = changed(|request| request.inputs[2].name = "battery_capacity".into());
    let status = client.model_infer(unknown).await.expect_err("unknown");
    assert_eq!(status.code(), Code::InvalidArgument);
    let expected = "`inputs.battery_capacity` is not an input of the model, expected of: make, model, ";
    assert!(status.message().starts_with(expected), "{status}");
    for other in ["FP64", "INT32", "BYTES", ""] {
        let wrong = changed(|request| request.inputs[2].datatype = other.into());
        let expected = format!("`inputs.battery_capacity_kwh.datatype` is `{other}`, expected FP32");
        check(client, wrong, &expected).await;
    }
    let field = changed(|request| {
        let fp64_contents = vec![60.0, 77.4];
        request.inputs[2].contents = Some(InferTensorContents { fp64_contents, ..Default::default() });
    });
    check(client, field, "`inputs.battery_capacity_kwh` holds fp64_contents, expected fp32_contents for FP32").await;
    let output = wanting(good(), &["range_q50", "range_q99"]);
    let expected = "`outputs.range_q99` is not an output of the model, expected of: range_q10, range_q50, range_q90, raw, out_of_distribution";
    check(client, output, expected).await;
    check(client, wanting(good(), &["raw", "raw"]), "`outputs.raw` is requested twice, expected once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_shapes_are_named_and_cost_nothing() {
    let server = TestServer::start().await;
    let client = &mut server.client();
    let dimension = "[n] or [n, 1] for n rows";
    check(client, shaped(&[-1, 1]), &format!("`inputs.make.shape` is [-1, 1], expected {dimension}")).await;
    check(client, shaped(&[]), &format!("`inputs.make.shape` is [], expected {dimension}")).await;
    check(client, shaped(&[0, 1]), "`inputs.make.shape` is [0, 1], expected at least one row").await;
    let rows = "[2] or [2, 1], as many rows as the first input";
    check(client, shaped(&[2, 3]), &format!("`inputs.make.shape` is [2, 3], expected {rows}")).await;
    check(client, shaped(&[2, -1]), &format!("`inputs.make.shape` is [2, -1], expected {rows}")).await;
    check(client, shaped(&[2, i64::MAX]), &format!("`inputs.make.shape` is [2, {}], expected {rows}", i64::MAX)).await;
    let many = shaped(&[i64::MAX, i64::MAX]);
    check(
        client,
        many,
        &format!("the batch has {} rows, expected at most 8192; split it, or use the stream", i64::MAX),
    )
    .await;
    check(client, shaped(&[8193, 1]), "the batch has 8193 rows, expected at most 8192; split it, or use the stream")
        .await;
    let disagree = changed(|request| request.inputs[2] = numbers("battery_capacity_kwh", &[60.0]));
    check(client, disagree, &format!("`inputs.battery_capacity_kwh.shape` is [1, 1], expected {rows}")).await;
    let fewer = changed(|request| request.inputs[2].contents = numbers("", &[60.0]).contents);
    let expected =
        "`inputs.battery_capacity_kwh` has 1 values in fp32_contents, expected 2: 2 rows of 1 as its shape says";
    check(client, fewer, expected).await;
    let none = changed(|request| request.inputs[2].contents = None);
    check(
        client,
        none,
        "`inputs.battery_capacity_kwh.contents` is missing, expected the values here or in raw_input_contents",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_raw_contents_are_named() {
    let server = TestServer::start().await;
    let client = &mut server.client();
    let set = |entry: usize, bytes: &[u8]| {
        let bytes = Bytes::copy_from_slice(bytes);
        raw_changed(|request| request.raw_input_contents[entry] = bytes)
    };
    check(client, set(2, &[0; 7]), "`raw_input_contents[2]` has 7 bytes, expected 8: input `battery_capacity_kwh` has 2 rows of 1 FP32 values of 4 bytes").await;
    let fewer = raw_changed(|request| drop(request.raw_input_contents.pop()));
    check(client, fewer, "`raw_input_contents` has 2 entries, expected 3: one for each input, in order").await;
    let both = raw_changed(|request| request.inputs[0].contents = texts("make", &["Tesla", "Kia"]).contents);
    check(client, both, "`inputs.make.contents` stands beside raw_input_contents, expected one of the two").await;
    check(client, set(0, b"\x05\0\0\0Tesla\x03\0"), "`raw_input_contents[0]` ends with 2 bytes where value 1 of input `make` should begin, expected each value as a little-endian length of 4 bytes and that many bytes").await;
    check(
        client,
        set(0, b"\x05\0\0\0Tesla\xff\xff\xff\xffKia"),
        "`raw_input_contents[0]` says that value 1 of input `make` has 4294967295 bytes, but only 3 follow",
    )
    .await;
    check(
        client,
        set(0, b"\x05\0\0\0Tesla\x03\0\0\0Kia!"),
        "`raw_input_contents[0]` has 1 bytes after the last of 2 values, expected none",
    )
    .await;
    let hottest = numbers("cell_temperature_max_celsius", &[25.0]);
    let mut flag = raw(request("thermal-risk", vec![hottest, flags("moisture_detected", &[true])]));
    flag.raw_input_contents[1] = Bytes::from_static(&[2]);
    check(client, flag, "`inputs.moisture_detected[0]` is the byte 2, expected 0 or 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_supported_says_so() {
    let server = TestServer::start().await;
    let client = &mut server.client();
    let parameter =
        |name: &str, choice| HashMap::from([(name.to_owned(), InferParameter { parameter_choice: Some(choice) })]);
    let region = || parameter("shared_memory_region", ParameterChoice::StringParam("r".into()));
    let shared = raw_changed(|request| request.inputs[0].parameters = region());
    check(client, shared, "`inputs.make.parameters` asks for shared memory, which is not supported; send the values in raw_input_contents").await;
    let mut output = wanting(good(), &["raw"]);
    output.outputs[0].parameters = region();
    check(
        client,
        output.clone(),
        "`outputs.raw` has the parameter shared_memory_region, which is not supported; values come in the answer",
    )
    .await;
    output.outputs[0].parameters = parameter("classification", ParameterChoice::Int64Param(3));
    check(client, output, "`outputs.raw` has the parameter classification, which is not supported; ask for the probabilities, one for each class in the model's order").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_models_versions_and_aliases_are_not_found() {
    let server = TestServer::start().await;
    let mut client = server.client();
    for (model, version, code, expected) in [
        (
            "",
            "",
            Code::InvalidArgument,
            "`model_name` is empty, expected the name of a model, such as battery-cycle-life",
        ),
        ("ev-rnage", "", Code::NotFound, "no model `ev-rnage` is registered; registered: battery-cycle-life"),
        ("ev-range", "7", Code::NotFound, "model `ev-range` has no version 7; it has: 1"),
        ("ev-range", "99999999999", Code::NotFound, "model `ev-range` has no version 99999999999; it has: 1"),
        ("ev-range", "canary", Code::NotFound, "model `ev-range` has no alias `canary`; it has: production"),
        ("ev-range", "-1", Code::NotFound, "model `ev-range` has no alias `-1`; it has: production"),
    ] {
        let request = changed(|request| (request.model_name, request.model_version) = (model.into(), version.into()));
        let status = client.model_infer(request).await.expect_err(expected);
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().starts_with(expected), "{status}");
    }
}
