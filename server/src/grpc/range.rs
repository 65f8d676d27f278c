//! `ev.range.v1.RangePrediction`.

use ev_domain::{Feature, Value};
use ev_models_core::manifest::Task;
use ev_proto::ev::range::v1::{
    PredictBatchRequest, PredictBatchResponse, PredictBatchResult, PredictRequest, PredictResponse,
    PredictStreamRequest, PredictStreamResponse, predict_batch_result, predict_stream_response,
    range_prediction_server::RangePrediction,
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
    /// Range predictions.
    RangeService: RangePrediction,
    task: Task::Range,
    unary: predict(PredictRequest) -> PredictResponse,
    batch: predict_batch(PredictBatchRequest) -> PredictBatchResponse of PredictBatchResult / predict_batch_result::Result,
    stream: predict_stream(PredictStreamRequest) -> PredictStreamResponse / predict_stream_response::Result as PredictStreamStream,
}

impl Features for PredictRequest {
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "plausible years and seats are far below 2^24; others are refused")]
    fn visit<'a>(&'a self, mut visit: impl FnMut(Feature, Value<'a>)) {
        let PredictRequest {
            make,
            model,
            model_year,
            battery_capacity_kwh,
            motor_power_kw,
            torque_nm,
            drivetrain,
            segment,
            body_type,
            seats,
            length_mm,
            width_mm,
            height_mm,
            top_speed_kmh,
            acceleration_0_100_kmh_s,
            fast_charging_power_kw,
            towing_capacity_kg,
            cargo_volume_l,
            range_cycle,
            model_selector: _,
        } = self;
        text(&mut visit, Feature::Make, Some(make).filter(|make| !make.is_empty()));
        text(&mut visit, Feature::Model, Some(model).filter(|model| !model.is_empty()));
        text(&mut visit, Feature::Drivetrain, drivetrain.as_ref());
        text(&mut visit, Feature::Segment, segment.as_ref());
        text(&mut visit, Feature::BodyType, body_type.as_ref());
        text(&mut visit, Feature::RangeCycle, range_cycle.as_ref());
        number(&mut visit, Feature::ModelYear, model_year.map(|year| year as f32));
        number(&mut visit, Feature::BatteryCapacityKwh, *battery_capacity_kwh);
        number(&mut visit, Feature::MotorPowerKw, *motor_power_kw);
        number(&mut visit, Feature::TorqueNm, *torque_nm);
        number(&mut visit, Feature::Seats, seats.map(|seats| seats as f32));
        number(&mut visit, Feature::LengthMm, *length_mm);
        number(&mut visit, Feature::WidthMm, *width_mm);
        number(&mut visit, Feature::HeightMm, *height_mm);
        number(&mut visit, Feature::TopSpeedKmh, *top_speed_kmh);
        number(&mut visit, Feature::Acceleration0To100KmhS, *acceleration_0_100_kmh_s);
        number(&mut visit, Feature::FastChargingPowerKw, *fast_charging_power_kw);
        number(&mut visit, Feature::TowingCapacityKg, *towing_capacity_kg);
        number(&mut visit, Feature::CargoVolumeL, *cargo_volume_l);
    }
}

#[inline]
fn text<'a>(visit: &mut impl FnMut(Feature, Value<'a>), feature: Feature, text: Option<&'a String>) {
    if let Some(text) = text {
        visit(feature, Value::Text(text));
    }
}

#[inline]
fn number<'a>(visit: &mut impl FnMut(Feature, Value<'a>), feature: Feature, number: Option<f32>) {
    if let Some(number) = number {
        visit(feature, Value::Number(number));
    }
}

#[inline]
fn answer(predictor: &Predictor, deployment: &Deployment, outcome: Outcome) -> PredictResponse {
    let info = predictor.info(deployment, &outcome);
    let [q10, q50, q90] = outcome.estimate.quantiles();
    PredictResponse { range_q10_km: q10, range_q50_km: q50, range_q90_km: q90, info: Some(info) }
}
