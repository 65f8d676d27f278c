//! `ev.charging.v1.ChargingUtilization`.

use ev_domain::{Feature, Value};
use ev_models_core::manifest::Task;
use ev_proto::ev::charging::v1::{
    PredictBatchRequest, PredictBatchResponse, PredictBatchResult, PredictRequest, PredictResponse,
    PredictStreamRequest, PredictStreamResponse, charging_utilization_server::ChargingUtilization,
    predict_batch_result, predict_stream_response,
};

use super::{
    predictor::{self, Predictor},
    service::single_model_service,
    status, stream,
};
use crate::{
    deploy::Deployment,
    pipeline::{Features, Outcome},
};

single_model_service! {
    /// Utilization predictions.
    ChargingService: ChargingUtilization,
    task: Task::Utilization,
    unary: predict(PredictRequest) -> PredictResponse,
    batch: predict_batch(PredictBatchRequest) -> PredictBatchResponse of PredictBatchResult / predict_batch_result::Result,
    stream: predict_stream(PredictStreamRequest) -> PredictStreamResponse / predict_stream_response::Result as PredictStreamStream,
}

impl Features for PredictRequest {
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "plausible counts are far below 2^24; others are refused")]
    fn visit<'a>(&'a self, mut visit: impl FnMut(Feature, Value<'a>)) {
        let PredictRequest {
            region,
            city_type,
            charger_type,
            station_power_kw,
            connector_count,
            stations_at_site,
            recent_sessions_per_day,
            model_selector: _,
        } = self;
        for (feature, text) in
            [(Feature::Region, region), (Feature::CityType, city_type), (Feature::ChargerType, charger_type)]
        {
            if let Some(text) = text {
                visit(feature, Value::Text(text));
            }
        }
        for (feature, number) in [
            (Feature::StationPowerKw, *station_power_kw),
            (Feature::ConnectorCount, connector_count.map(|count| count as f32)),
            (Feature::StationsAtSite, stations_at_site.map(|count| count as f32)),
            (Feature::RecentSessionsPerDay, *recent_sessions_per_day),
        ] {
            if let Some(number) = number {
                visit(feature, Value::Number(number));
            }
        }
    }
}

#[inline]
fn answer(predictor: &Predictor, deployment: &Deployment, outcome: Outcome) -> PredictResponse {
    let info = predictor.info(deployment, &outcome);
    let [q10, q50, q90] = outcome.estimate.quantiles();
    PredictResponse {
        utilization_q10_sessions_per_day: q10,
        utilization_q50_sessions_per_day: q50,
        utilization_q90_sessions_per_day: q90,
        info: Some(info),
    }
}
