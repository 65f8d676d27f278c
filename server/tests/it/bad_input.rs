//! Requests that say something wrong.

use ev_client::{Client, Code};
use ev_proto::ev::{
    charging,
    range::v1::{PredictRequest, predict_batch_result},
    thermal::v1::AssessRequest,
};

use crate::support::{
    refusal::Refusal,
    server::{TestServer, shared},
};

fn tesla() -> PredictRequest {
    PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() }
}

async fn refused(request: PredictRequest) -> Refusal {
    shared().client().await.range().predict(request).await.map_err(Refusal::from).expect_err("refused")
}

#[tokio::test]
async fn a_number_that_is_none_is_refused() {
    for (number, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let refused = refused(PredictRequest { battery_capacity_kwh: Some(number), ..tesla() }).await;
        refused.is_field("NOT_FINITE", "battery_capacity_kwh", &format!("is {text}, expected a finite number"));
    }
}

#[tokio::test]
async fn a_number_beyond_what_is_plausible_is_refused() {
    // Watt-hours for kilowatt-hours, the mistake this is for.
    let refused_capacity = refused(PredictRequest { battery_capacity_kwh: Some(60_000.0), ..tesla() }).await;
    refused_capacity.is_field("OUT_OF_RANGE", "battery_capacity_kwh", "is 60000, expected 1 to 1000 kWh");
    let refused_year = refused(PredictRequest { model_year: Some(u32::MAX), ..tesla() }).await;
    assert_eq!((refused_year.reason.as_str(), refused_year.fields[0].0.as_str()), ("OUT_OF_RANGE", "model_year"));
    // The ends themselves are plausible.
    let client = shared().client().await;
    for capacity in [1.0, 1000.0] {
        let request = PredictRequest { battery_capacity_kwh: Some(capacity), ..tesla() };
        client.range().predict(request).await.expect("answered");
    }
}

#[tokio::test]
async fn a_missing_field_is_named() {
    let description = "is missing, expected a value: the model requires it";
    refused(PredictRequest { model: String::new(), ..tesla() }).await.is_field("MISSING_FIELD", "model", description);
    // Blanks are no text.
    refused(PredictRequest { make: "  ".into(), ..tesla() }).await.is_field("MISSING_FIELD", "make", description);
    let client = shared().client().await;
    let nothing = client.thermal().assess(AssessRequest::default()).await.map_err(Refusal::from);
    nothing.expect_err("refused").is_field("MISSING_FIELD", "cell_temperature_max_celsius", description);
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let request = PredictRequest {
        make: "Tesla".into(),
        battery_capacity_kwh: Some(f32::NAN),
        seats: Some(0),
        ..Default::default()
    };
    let refused = refused(request).await;
    assert_eq!(refused.code, Code::InvalidArgument);
    let mut fields: Vec<&str> = refused.fields.iter().map(|(field, _)| field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["battery_capacity_kwh", "model", "seats"]);
    assert!(refused.message.ends_with("(and 2 more field violations)"), "{}", refused.message);
}

#[tokio::test]
async fn a_text_that_is_too_long_is_refused() {
    let refused_make = refused(PredictRequest { make: "x".repeat(65), ..tesla() }).await;
    assert_eq!((refused_make.code, refused_make.reason.as_str()), (Code::InvalidArgument, "TOO_LONG"));
    assert_eq!(refused_make.fields.len(), 1, "one mistake, one violation: {refused_make:?}");
    assert_eq!(refused_make.message, "`make` has 65 bytes, expected at most 64");
    // Neither does a text that fits, but is unknown, break anything, whatever it holds.
    let client = shared().client().await;
    let request = PredictRequest { make: "\u{0}\u{202e}🚗İ".into(), ..tesla() };
    client.range().predict(request).await.expect("answered");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let server = TestServer::start(&[("grpc.message_size_max", "4KiB")]).await;
    let client = server.client().await;
    let rows = vec![tesla(); 1000];
    let refused = client.range().predict_batch(rows).await.map_err(Refusal::from).expect_err("refused");
    refused.says(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", &["the limit is: 4096 bytes"]);
    client.range().predict(tesla()).await.expect("the connection goes on");
    server.stop().await;
}

#[tokio::test]
async fn a_batch_without_rows_is_refused() {
    let refused = shared().client().await.range().predict_batch(Vec::new()).await.map_err(Refusal::from);
    let message = "the batch has no rows, expected at least one";
    refused.expect_err("refused").is(Code::InvalidArgument, "EMPTY_BATCH", message);
    let refused = shared().client().await.battery().predict_batch(Vec::new()).await.map_err(Refusal::from);
    refused.expect_err("refused").is(Code::InvalidArgument, "EMPTY_BATCH", message);
}

#[tokio::test]
async fn a_hundred_thousand_rows_are_refused_before_any_is_run() {
    let rows = vec![tesla(); 100_000];
    let refused = shared().client().await.range().predict_batch(rows).await.map_err(Refusal::from);
    let message = "the batch has 100000 rows, expected at most 8192; split it, or use the stream";
    refused.expect_err("refused").is(Code::InvalidArgument, "TOO_MANY_ROWS", message);
    let rows = vec![Default::default(); 100_000];
    let refused = shared().client().await.battery().predict_batch(rows).await.map_err(Refusal::from);
    refused.expect_err("refused").is(Code::InvalidArgument, "TOO_MANY_ROWS", message);
}

#[tokio::test]
async fn one_bad_row_fails_alone() {
    let mut rows = vec![tesla(); 100];
    rows[3].battery_capacity_kwh = Some(f32::NAN);
    rows[64].make = "x".repeat(1000);
    rows[99].model = String::new();
    let answered = shared().client().await.range().predict_batch(rows).await.expect("answered");
    let mut reasons = Vec::new();
    for (row, result) in answered.results.into_iter().enumerate() {
        match result.result.expect("an answer or an error") {
            predict_batch_result::Result::Response(answer) => assert!(answer.range_q50_km > 0.0),
            predict_batch_result::Result::Error(error) => reasons.push((row, Refusal::from(error).reason)),
        }
    }
    let expected = [(3, "NOT_FINITE"), (64, "TOO_LONG"), (99, "MISSING_FIELD")];
    assert_eq!(reasons, expected.map(|(row, reason)| (row, reason.to_owned())));
}

#[tokio::test]
async fn a_stream_goes_on_after_a_bad_message() {
    let client: Client = shared().client().await;
    let station = charging::v1::PredictRequest {
        region: Some("Dundee".into()),
        city_type: Some("urban".into()),
        charger_type: Some("DC".into()),
        ..Default::default()
    };
    let requests = [None, Some(station)].into_iter().zip(0u64..);
    let requests: Vec<_> = requests.map(|(request, id)| charging::v1::PredictStreamRequest { id, request }).collect();
    let mut replies = client.utilization().predict_stream(tokio_stream::iter(requests)).await.expect("answered");
    use charging::v1::predict_stream_response::Result as Reply;
    let first = replies.next().await.expect("a reply").expect("a reply");
    let Some(Reply::Error(error)) = first.result else { panic!("expected an error, found {first:?}") };
    assert_eq!(error.reason, "MISSING_FIELD");
    let second = replies.next().await.expect("a reply").expect("a reply");
    assert!(matches!(second.result, Some(Reply::Response(_))), "{second:?}");
    assert_eq!(replies.next().await.expect("the end"), None);
}
