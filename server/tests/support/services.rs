//! The four prediction services seen alike: rows in, values and envelopes out.

use ev_client::{Client, Code};
use ev_proto::ev::{
    battery, charging,
    common::v1::{PredictionInfo, PredictionStatus, RowError},
    range, thermal,
};

use super::refusal::Refusal;

/// An answer's numbers and envelopes.
pub(crate) trait Answer {
    /// Every value, in bits: answers are compared bit for bit.
    fn bits(&self) -> Vec<u32>;
    /// The envelope of every model that answered.
    fn infos(&self) -> Vec<&PredictionInfo>;
    /// Quantiles that belong together.
    fn quantiles(&self) -> Vec<[f32; 3]>;
}

/// A row's answer or its refusal.
pub(crate) type Row<A> = Result<A, Refusal>;

impl Answer for range::v1::PredictResponse {
    fn bits(&self) -> Vec<u32> {
        bits(&self.quantiles())
    }

    fn infos(&self) -> Vec<&PredictionInfo> {
        self.info.iter().collect()
    }

    fn quantiles(&self) -> Vec<[f32; 3]> {
        vec![[self.range_q10_km, self.range_q50_km, self.range_q90_km]]
    }
}

impl Answer for charging::v1::PredictResponse {
    fn bits(&self) -> Vec<u32> {
        bits(&self.quantiles())
    }

    fn infos(&self) -> Vec<&PredictionInfo> {
        self.info.iter().collect()
    }

    fn quantiles(&self) -> Vec<[f32; 3]> {
        vec![[
            self.utilization_q10_sessions_per_day,
            self.utilization_q50_sessions_per_day,
            self.utilization_q90_sessions_per_day,
        ]]
    }
}

impl Answer for battery::v1::PredictResponse {
    fn bits(&self) -> Vec<u32> {
        let mut all = bits(&self.quantiles());
        all.extend(self.failure.iter().map(|failure| failure.failure_probability.to_bits()));
        all.extend(self.unanswered.iter().map(|unanswered| u32::try_from(unanswered.target).expect("small")));
        all
    }

    fn infos(&self) -> Vec<&PredictionInfo> {
        let infos = [
            self.state_of_health.as_ref().and_then(|answer| answer.info.as_ref()),
            self.remaining_useful_life.as_ref().and_then(|answer| answer.info.as_ref()),
            self.temperature.as_ref().and_then(|answer| answer.info.as_ref()),
            self.failure.as_ref().and_then(|answer| answer.info.as_ref()),
            self.cycle_life.as_ref().and_then(|answer| answer.info.as_ref()),
        ];
        infos.into_iter().flatten().collect()
    }

    fn quantiles(&self) -> Vec<[f32; 3]> {
        let life = self.remaining_useful_life.as_ref().and_then(|answer| answer.estimate.as_ref());
        let all = [
            self.state_of_health.as_ref().map(|a| [a.soh_q10_percent, a.soh_q50_percent, a.soh_q90_percent]),
            life.map(|a| [a.rul_q10_cycles, a.rul_q50_cycles, a.rul_q90_cycles]),
            self.temperature
                .as_ref()
                .map(|a| [a.temperature_q10_celsius, a.temperature_q50_celsius, a.temperature_q90_celsius]),
            self.cycle_life
                .as_ref()
                .map(|a| [a.cycle_life_q10_cycles, a.cycle_life_q50_cycles, a.cycle_life_q90_cycles]),
        ];
        all.into_iter().flatten().collect()
    }
}

impl Answer for thermal::v1::AssessResponse {
    fn bits(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.probabilities.iter().map(|class| class.probability.to_bits()).collect();
        all.push(u32::try_from(self.risk_class).expect("small"));
        all
    }

    fn infos(&self) -> Vec<&PredictionInfo> {
        self.info.iter().collect()
    }

    fn quantiles(&self) -> Vec<[f32; 3]> {
        Vec::new()
    }
}

macro_rules! three_ways {
    ($name:ident, $package:ident, $service:ident, $request:ident -> $response:ident, $unary:ident, $batch:ident,
     $batch_result:ident, $stream:ident, $stream_request:ident, $stream_result:ident) => {
        /// Answers rows one by one, as a batch, and over a stream.
        pub(crate) async fn $name(
            client: &Client,
            rows: &[$package::v1::$request],
        ) -> [Vec<Row<$package::v1::$response>>; 3] {
            let mut single = Vec::new();
            for row in rows {
                single.push(client.$service().$unary(row.clone()).await.map_err(Refusal::from));
            }
            let batch = client.$service().$batch(rows.to_vec()).await.expect("answered").results.into_iter();
            let batch = batch.map(|result| match result.result.expect("an answer or an error") {
                $package::v1::$batch_result::Result::Response(answer) => Ok(answer),
                $package::v1::$batch_result::Result::Error(error) => Err(row_error(error)),
            });
            let requests: Vec<_> = rows
                .iter()
                .zip(100u64..)
                .map(|(row, id)| $package::v1::$stream_request { id, request: Some(row.clone()) })
                .collect();
            let mut replies = client.$service().$stream(tokio_stream::iter(requests)).await.expect("answered");
            let mut streamed = Vec::new();
            while let Some(reply) = replies.next().await.expect("the stream goes on") {
                assert_eq!(reply.id, 100 + streamed.len() as u64, "answers come in order, with the request's id");
                streamed.push(match reply.result.expect("an answer or an error") {
                    $package::v1::$stream_result::Result::Response(answer) => Ok(answer),
                    $package::v1::$stream_result::Result::Error(error) => Err(row_error(error)),
                });
            }
            [single, batch.collect(), streamed]
        }
    };
}

three_ways!(
    range_three_ways, range, range, PredictRequest -> PredictResponse, predict, predict_batch,
    predict_batch_result, predict_stream, PredictStreamRequest, predict_stream_response
);
three_ways!(
    charging_three_ways, charging, utilization, PredictRequest -> PredictResponse, predict, predict_batch,
    predict_batch_result, predict_stream, PredictStreamRequest, predict_stream_response
);
three_ways!(
    battery_three_ways, battery, battery, PredictRequest -> PredictResponse, predict, predict_batch,
    predict_batch_result, predict_stream, PredictStreamRequest, predict_stream_response
);
three_ways!(
    thermal_three_ways, thermal, thermal, AssessRequest -> AssessResponse, assess, assess_batch,
    assess_batch_result, assess_stream, AssessStreamRequest, assess_stream_response
);

/// Asserts that the three ways gave the same answers, each of them keeping the contract.
#[track_caller]
pub(crate) fn assert_alike<A: Answer>(ways: &[Vec<Row<A>>; 3]) {
    let [single, batch, streamed] = ways;
    assert_eq!((single.len(), single.len()), (batch.len(), streamed.len()));
    let mut ids = std::collections::BTreeSet::new();
    for (row, ((single, batch), streamed)) in single.iter().zip(batch).zip(streamed).enumerate() {
        match (single, batch, streamed) {
            (Ok(single), Ok(batch), Ok(streamed)) => {
                assert_eq!(single.bits(), batch.bits(), "row {row}: unary and batch");
                assert_eq!(single.bits(), streamed.bits(), "row {row}: unary and stream");
                for answer in [single, batch, streamed] {
                    for info in answer.infos() {
                        assert_contract(info);
                        assert!(ids.insert(info.prediction_id.clone()), "row {row}: a prediction id came twice");
                    }
                    for [q10, q50, q90] in answer.quantiles() {
                        assert!(q10 <= q50 && q50 <= q90, "row {row}: {q10} {q50} {q90}");
                    }
                }
            }
            (Err(single), Err(batch), Err(streamed)) => {
                assert_eq!(single, batch, "row {row}: unary and batch");
                assert_eq!(single, streamed, "row {row}: unary and stream");
            }
            _ => panic!("row {row}: some ways answered it and some refused it"),
        }
    }
}

/// Asserts what every answer carries.
#[track_caller]
pub(crate) fn assert_contract(info: &PredictionInfo) {
    let model = info.model.as_ref().expect("a model version");
    assert!(!model.name.is_empty() && model.version >= 1, "{model:?}");
    let hex = model.digest.strip_prefix("sha256:").expect("a SHA-256");
    assert!(hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()), "{}", model.digest);
    assert_eq!(info.prediction_id.len(), 36, "a UUID: {}", info.prediction_id);
    let outside = !info.out_of_distribution.is_empty();
    let expected = if outside { PredictionStatus::OutOfDistribution } else { PredictionStatus::Ok };
    assert_eq!(info.status(), expected, "{info:?}");
    for field in &info.out_of_distribution {
        assert!(!field.field.is_empty() && !field.value.is_empty() && !field.trained_on.is_empty(), "{field:?}");
        assert_ne!(field.reason, 0, "{field:?}");
    }
    assert!((0.0..=1.0).contains(&info.feature_coverage), "{}", info.feature_coverage);
    let timings = info.timings.expect("timings");
    let parts = timings.queue_ns + timings.features_ns + timings.inference_ns;
    assert!(parts <= timings.total_ns, "{timings:?}");
}

fn row_error(error: RowError) -> Refusal {
    assert_ne!(Code::from(error.code), Code::Ok);
    Refusal::from(error)
}

fn bits(quantiles: &[[f32; 3]]) -> Vec<u32> {
    quantiles.as_flattened().iter().map(|value| value.to_bits()).collect()
}
