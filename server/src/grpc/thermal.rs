//! `ev.thermal.v1.ThermalRisk`.

use std::sync::Arc;

use ev_domain::{Feature, RiskClass, Severity, Value};
use ev_models_core::manifest::Task;
use ev_proto::ev::common::v1::PredictionInfo;
use ev_proto::ev::thermal::v1::{
    AcknowledgeAlertRequest, AcknowledgeAlertResponse, AssessBatchRequest, AssessBatchResponse, AssessBatchResult,
    AssessRequest, AssessResponse, AssessStreamRequest, AssessStreamResponse, ClassProbability, ListAlertsRequest,
    ListAlertsResponse, RecommendedAction, RiskClass as ProtoClass, Severity as ProtoSeverity, WatchAlertsRequest,
    WatchAssessmentsRequest, WatchAssessmentsResponse, assess_batch_result, assess_stream_response,
    thermal_risk_server::ThermalRisk,
};

use super::{
    alerts, by_vehicle,
    call::Call,
    predictor::{Predictor, Reply, Results},
    renewed::Watching,
    service::single_model_service,
    status, stream,
    telemetry::timestamp,
};
use crate::{
    deploy::Deployment,
    pipeline::{Estimate, Features, Outcome, PredictError},
    renewal::Renewed,
};

single_model_service! {
    /// Thermal-risk assessments.
    ThermalService: ThermalRisk,
    unary: assess(AssessRequest) -> AssessResponse,
    batch: assess_batch(AssessBatchRequest) -> AssessBatchResponse of AssessBatchResult / assess_batch_result::Result,
    stream: assess_stream(AssessStreamRequest) -> AssessStreamResponse / assess_stream_response::Result as AssessStreamStream,
    more: {
        type WatchAlertsStream = alerts::Watching;

        async fn watch_alerts(
            &self,
            request: tonic::Request<WatchAlertsRequest>,
        ) -> Result<tonic::Response<Self::WatchAlertsStream>, tonic::Status> {
            let draining = self.0.draining.clone();
            alerts::watch(&self.0.alerts, request.into_inner(), draining).map(tonic::Response::new)
        }

        type WatchAssessmentsStream = Watching<WatchAssessmentsResponse>;

        async fn watch_assessments(
            &self,
            request: tonic::Request<WatchAssessmentsRequest>,
        ) -> Result<tonic::Response<Self::WatchAssessmentsStream>, tonic::Status> {
            let assessments = self.0.renewals.assessments.subscribe();
            let watching = self.0.watch(assessments, &request.get_ref().vehicle_ids, |renewed, missed_assessments| {
                let Renewed { vehicle, time_us, answer } = renewed;
                WatchAssessmentsResponse {
                    vehicle_id: vehicle.as_str().to_owned(),
                    assessment: Some(answer.clone()),
                    assessed_time: Some(timestamp(*time_us)),
                    missed_assessments,
                }
            });
            watching.map(tonic::Response::new)
        }

        async fn list_alerts(
            &self,
            request: tonic::Request<ListAlertsRequest>,
        ) -> Result<tonic::Response<ListAlertsResponse>, tonic::Status> {
            alerts::list(&self.0.alerts, request.into_inner()).map(tonic::Response::new)
        }

        async fn acknowledge_alert(
            &self,
            request: tonic::Request<AcknowledgeAlertRequest>,
        ) -> Result<tonic::Response<AcknowledgeAlertResponse>, tonic::Status> {
            alerts::acknowledge(&self.0.alerts, request.get_ref()).map(tonic::Response::new)
        }
    },
}

#[inline]
pub(super) fn one(predictor: &Arc<Predictor>, request: &AssessRequest, call: Call) -> Reply<AssessResponse> {
    let selector = request.model_selector.as_ref();
    if request.vehicle_id.is_empty() {
        return predictor.row(Task::ThermalRisk, selector, request, call, |predictor, deployment, outcome| {
            answer(deployment, &outcome, predictor.info(deployment, &outcome))
        });
    }
    by_vehicle::predict(predictor, &request.vehicle_id, request, call, move |predictor, request, known| {
        let (task, selector) = (Task::ThermalRisk, request.model_selector.as_ref());
        predictor.row_of_vehicle(task, selector, request, known, call, |deployment, outcome, info| {
            answer(deployment, &outcome, info)
        })
    })
}

const RUN_MAX: usize = stream::RUN_MAX;

#[inline]
fn together<'r>(
    predictor: &Predictor,
    rows: usize,
    row: impl Fn(usize) -> &'r AssessRequest,
    answered: impl FnMut(Result<AssessResponse, PredictError>),
) -> bool {
    // What is known of a vehicle may have to be waited for.
    if (0..rows).any(|index| !row(index).vehicle_id.is_empty()) {
        return false;
    }
    let answer =
        |deployment: &Deployment, outcome: Outcome| answer(deployment, &outcome, predictor.info(deployment, &outcome));
    predictor.together(Task::ThermalRisk, rows, row, |row| row.model_selector.as_ref(), answer, answered)
}

async fn many(predictor: &Predictor, rows: &[AssessRequest], call: Call) -> Results<AssessResponse> {
    let task = Task::ThermalRisk;
    if rows.iter().all(|row| row.vehicle_id.is_empty()) {
        let answer = |deployment: &Deployment, outcome: Outcome| {
            answer(deployment, &outcome, predictor.info(deployment, &outcome))
        };
        return predictor.rows(task, rows, |row| row.model_selector.as_ref(), call, answer).await;
    }
    let answer = |deployment: &Deployment, outcome: Outcome, info| answer(deployment, &outcome, info);
    let vehicle_id = |index: usize| rows[index].vehicle_id.as_str();
    predictor.rows_of_vehicles(task, rows, |row| row.model_selector.as_ref(), vehicle_id, call, answer).await
}

impl Features for AssessRequest {
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "plausible counts are far below 2^24; others are refused")]
    fn visit<'a>(&'a self, mut visit: impl FnMut(Feature, Value<'a>)) {
        let AssessRequest {
            cell_temperature_max_celsius,
            cell_temperature_min_celsius,
            cell_temperature_mean_celsius,
            cell_temperature_rate_celsius_per_s,
            ambient_temperature_celsius,
            pack_voltage_v,
            pack_current_a,
            cell_voltage_min_v,
            cell_voltage_drop_percent,
            cells_in_series,
            state_of_charge_percent,
            state_of_health_percent,
            internal_resistance_mohm,
            humidity_percent,
            moisture_detected,
            vibration_mg,
            pressure_kpa,
            model_selector: _,
            vehicle_id: _,
        } = self;
        for (feature, number) in [
            (Feature::CellTemperatureMaxCelsius, *cell_temperature_max_celsius),
            (Feature::CellTemperatureMinCelsius, *cell_temperature_min_celsius),
            (Feature::CellTemperatureMeanCelsius, *cell_temperature_mean_celsius),
            (Feature::CellTemperatureRateCelsiusPerS, *cell_temperature_rate_celsius_per_s),
            (Feature::AmbientTemperatureCelsius, *ambient_temperature_celsius),
            (Feature::PackVoltageV, *pack_voltage_v),
            (Feature::PackCurrentA, *pack_current_a),
            (Feature::CellVoltageMinV, *cell_voltage_min_v),
            (Feature::CellVoltageDropPercent, *cell_voltage_drop_percent),
            (Feature::CellsInSeries, cells_in_series.map(|count| count as f32)),
            (Feature::StateOfChargePercent, *state_of_charge_percent),
            (Feature::StateOfHealthPercent, *state_of_health_percent),
            (Feature::InternalResistanceMohm, *internal_resistance_mohm),
            (Feature::HumidityPercent, *humidity_percent),
            (Feature::VibrationMg, *vibration_mg),
            (Feature::PressureKpa, *pressure_kpa),
        ] {
            if let Some(number) = number {
                visit(feature, Value::Number(number));
            }
        }
        if let Some(flag) = moisture_detected {
            visit(Feature::MoistureDetected, Value::Flag(*flag));
        }
    }
}

fn answer(deployment: &Deployment, outcome: &Outcome, info: PredictionInfo) -> AssessResponse {
    let names = &deployment.manifest.outputs[0].classes;
    let found = match &outcome.estimate {
        Estimate::Classes(probabilities) => probabilities.as_slice(),
        _ => &[],
    };
    let probability = |class: RiskClass| {
        let position = names.iter().position(|name| name == class.name());
        position.and_then(|position| found.get(position)).copied().unwrap_or(0.0)
    };
    let probabilities = RiskClass::ALL.map(|class| (class, probability(class)));
    // Of equal probabilities the higher class: an alarm too many is better than one too few.
    let (likeliest, _) = probabilities
        .iter()
        .copied()
        .fold((RiskClass::Normal, f32::NEG_INFINITY), |best, next| if next.1 >= best.1 { next } else { best });
    let action = likeliest.action();
    AssessResponse {
        risk_class: class(likeliest).into(),
        probabilities: probabilities
            .into_iter()
            .map(|(risk_class, probability)| ClassProbability { risk_class: class(risk_class).into(), probability })
            .collect(),
        severity: severity(action.severity).into(),
        action: Some(RecommendedAction {
            id: action.id.to_owned(),
            text: action.text.to_owned(),
            policy_version: RiskClass::POLICY_VERSION.to_owned(),
        }),
        info: Some(info),
    }
}

pub(super) fn class(class: RiskClass) -> ProtoClass {
    match class {
        RiskClass::Normal => ProtoClass::Normal,
        RiskClass::Watch => ProtoClass::Watch,
        RiskClass::Warning => ProtoClass::Warning,
        RiskClass::Alarm => ProtoClass::Alarm,
        RiskClass::Runaway => ProtoClass::Runaway,
    }
}

pub(super) fn severity(severity: Severity) -> ProtoSeverity {
    match severity {
        Severity::None => ProtoSeverity::None,
        Severity::Low => ProtoSeverity::Low,
        Severity::Medium => ProtoSeverity::Medium,
        Severity::High => ProtoSeverity::High,
        Severity::Critical => ProtoSeverity::Critical,
    }
}
