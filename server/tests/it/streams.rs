//! Messages of a stream that come together are answered together, and that is not to be noticed.

use std::collections::HashSet;

use ev_client::proto::ev::{
    common::v1::{ModelSelector, PredictionInfo, model_selector::VersionChoice},
    range::v1::{PredictRequest, PredictResponse, PredictStreamRequest, predict_stream_response::Result as Reply},
};

use crate::support::{refusal::Refusal, server::shared};

/// Cars of all kinds: good ones, some for a version by its alias, some for none, some refused.
fn car(number: u64) -> Option<PredictRequest> {
    let choice = |alias: &str| {
        let version_choice = Some(VersionChoice::Alias(alias.to_owned()));
        Some(ModelSelector { name: String::new(), version_choice })
    };
    let battery = 30.0 + number as f32 % 70.0;
    let car = PredictRequest {
        make: ["Tesla", "Hyundai", "No such make"][usize::try_from(number % 3).expect("small")].into(),
        model: "Model 3".into(),
        battery_capacity_kwh: Some(if number % 13 == 5 { 99_999.0 } else { battery }),
        model_selector: match number {
            50..60 => choice("production"),
            90 => choice("no-such-alias"),
            _ => None,
        },
        ..Default::default()
    };
    (number % 29 != 7).then_some(car)
}

fn value(answer: &PredictResponse) -> [u32; 3] {
    [answer.range_q10_km, answer.range_q50_km, answer.range_q90_km].map(f32::to_bits)
}

#[tokio::test]
async fn a_burst_is_answered_as_its_messages_alone_would_be() {
    let client = shared().client().await;
    let cars: Vec<_> = (0..200).map(car).collect();
    let requests: Vec<_> =
        (1_000..).zip(cars.clone()).map(|(id, request)| PredictStreamRequest { id, request }).collect();
    let mut replies = client.range().predict_stream(tokio_stream::iter(requests)).await.expect("begun");
    let (mut ids, mut together) = (HashSet::new(), 0);
    for (id, car) in (1_000..).zip(cars) {
        let reply = replies.next().await.expect("answered").expect("no end");
        assert_eq!(reply.id, id);
        let alone = client.range().predict(car.unwrap_or_default()).await;
        match (reply.result.expect("a result"), alone) {
            (Reply::Response(found), Ok(alone)) => {
                assert_eq!(value(&found), value(&alone), "message {id}");
                let PredictionInfo { out_of_distribution, feature_coverage, prediction_id, batch, .. } =
                    found.info.expect("an envelope");
                let info = alone.info.expect("an envelope");
                assert_eq!((out_of_distribution, feature_coverage), (info.out_of_distribution, info.feature_coverage));
                assert!(ids.insert(prediction_id), "message {id}");
                together = together.max(batch.map_or(1, |batch| batch.rows));
            }
            (Reply::Error(found), Err(alone)) => {
                assert_eq!(Refusal::from(found).reason, Refusal::from(alone).reason, "message {id}");
            }
            (found, alone) => panic!("message {id}: {found:?} in the stream, {alone:?} alone"),
        }
    }
    assert_eq!(replies.next().await.expect("the end"), None);
    assert!((2..=16).contains(&together), "{together} rows ran together");
}
