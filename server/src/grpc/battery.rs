//! `ev.battery.v1.BatteryHealth`: up to five models answer one request.

use std::sync::Arc;

use ev_domain::{Feature, Value};
use ev_models_core::manifest::Task;
use ev_proto::ev::{
    battery::v1::{
        CycleLife, Failure, PredictBatchRequest, PredictBatchResponse, PredictBatchResult, PredictRequest,
        PredictResponse, PredictStreamRequest, PredictStreamResponse, RemainingUsefulLife, RemainingUsefulLifeEstimate,
        StateOfHealth, Target, Temperature, Unanswered, WatchRequest, WatchResponse,
        battery_health_server::BatteryHealth, predict_batch_result, predict_stream_response,
    },
    common::v1::{FieldViolation, ModelSelector, PredictionInfo},
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    by_vehicle::{self, Known},
    call::Call,
    predictor::{Predictor, QueuedReply, Reply},
    renewed::Watching,
    status, stream,
    telemetry::timestamp,
};
use crate::pipeline::{Estimate, Features, PredictError, Violation};
use crate::renewal::Renewed;

/// Battery predictions.
pub(super) struct BatteryService(pub(super) Arc<Predictor>);

/// Rows answered between two pauses: five models of a few microseconds each stay within a slice of 0.2 ms.
const ROWS_PER_SLICE: usize = 8;

const TARGETS: [Target; 5] =
    [Target::StateOfHealth, Target::RemainingUsefulLife, Target::Temperature, Target::Failure, Target::CycleLife];

#[tonic::async_trait]
impl BatteryHealth for BatteryService {
    type PredictStreamStream = stream::Answers<PredictStreamResponse>;

    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        let call = self.0.call(&request)?;
        let reply = one(&self.0, request.get_ref(), call);
        reply.done().await.map(Response::new).map_err(status::of_predict)
    }

    async fn predict_batch(
        &self,
        request: Request<PredictBatchRequest>,
    ) -> Result<Response<PredictBatchResponse>, Status> {
        let call = self.0.call(&request)?;
        let rows = &request.get_ref().rows;
        let results = answer_many(&self.0, rows, call).await.map_err(status::of_predict)?;
        Ok(Response::new(PredictBatchResponse { results }))
    }

    async fn predict_stream(
        &self,
        request: Request<Streaming<PredictStreamRequest>>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        let call = self.0.call_of_stream(&request)?;
        let predictor = Arc::clone(&self.0);
        let draining = predictor.draining.clone();
        let answers = stream::answers(request.into_inner(), &draining, call.deadline, move |message| {
            let reply = one(&predictor, &message.request.unwrap_or_default(), call);
            reply.in_stream(move |answered| {
                let result = match answered {
                    Ok(response) => predict_stream_response::Result::Response(response),
                    Err(error) => predict_stream_response::Result::Error(status::of_row(error)),
                };
                PredictStreamResponse { id: message.id, result: Some(result) }
            })
        });
        Ok(Response::new(answers))
    }

    type WatchStream = Watching<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let batteries = self.0.renewals.batteries.subscribe();
        let watching = self.0.watch(batteries, &request.get_ref().vehicle_ids, |renewed, missed_predictions| {
            let Renewed { vehicle, time_us, answer } = renewed;
            WatchResponse {
                vehicle_id: vehicle.as_str().to_owned(),
                prediction: Some(answer.clone()),
                predicted_time: Some(timestamp(*time_us)),
                missed_predictions,
            }
        });
        watching.map(Response::new)
    }
}

impl Features for PredictRequest {
    #[inline]
    fn visit<'a>(&'a self, mut visit: impl FnMut(Feature, Value<'a>)) {
        let PredictRequest {
            targets: _,
            cell_family,
            rated_capacity_ah,
            cycle_count,
            ambient_temperature_celsius,
            discharge_c_rate,
            discharge_voltage_min_v,
            discharge_voltage_max_v,
            discharge_voltage_mean_v,
            discharge_voltage_end_v,
            discharge_temperature_max_celsius,
            discharge_temperature_mean_celsius,
            discharge_duration_s,
            discharge_duration_3v6_to_3v4_s,
            charge_voltage_min_v,
            charge_duration_s,
            charge_duration_constant_current_s,
            charge_duration_above_4v15_s,
            cycle_duration_s,
            cell_voltage_v,
            c_rate,
            discharge_elapsed_s,
            discharge_temperature_start_celsius,
            capacity_difference_log10_variance,
            capacity_difference_mean_ah,
            capacity_difference_min_ah,
            capacity_difference_skewness,
            capacity_difference_kurtosis,
            capacity_cycle_2_ah,
            capacity_cycle_10_ah,
            capacity_cycle_50_ah,
            capacity_cycle_100_ah,
            capacity_max_minus_cycle_2_ah,
            capacity_slope_2_100_ah_per_cycle,
            capacity_slope_91_100_ah_per_cycle,
            state_of_health_percent,
            charge_duration_constant_current_ratio,
            target_models: _,
            vehicle_id: _,
        } = self;
        if let Some(text) = cell_family {
            visit(Feature::CellFamily, Value::Text(text));
        }
        for (feature, number) in [
            (Feature::RatedCapacityAh, *rated_capacity_ah),
            (Feature::CycleCount, *cycle_count),
            (Feature::AmbientTemperatureCelsius, *ambient_temperature_celsius),
            (Feature::DischargeCRate, *discharge_c_rate),
            (Feature::DischargeVoltageMinV, *discharge_voltage_min_v),
            (Feature::DischargeVoltageMaxV, *discharge_voltage_max_v),
            (Feature::DischargeVoltageMeanV, *discharge_voltage_mean_v),
            (Feature::DischargeVoltageEndV, *discharge_voltage_end_v),
            (Feature::DischargeTemperatureMaxCelsius, *discharge_temperature_max_celsius),
            (Feature::DischargeTemperatureMeanCelsius, *discharge_temperature_mean_celsius),
            (Feature::DischargeDurationS, *discharge_duration_s),
            (Feature::DischargeDuration3v6To3v4S, *discharge_duration_3v6_to_3v4_s),
            (Feature::ChargeVoltageMinV, *charge_voltage_min_v),
            (Feature::ChargeDurationS, *charge_duration_s),
            (Feature::ChargeDurationConstantCurrentS, *charge_duration_constant_current_s),
            (Feature::ChargeDurationAbove4v15S, *charge_duration_above_4v15_s),
            (Feature::CycleDurationS, *cycle_duration_s),
            (Feature::CellVoltageV, *cell_voltage_v),
            (Feature::CRate, *c_rate),
            (Feature::DischargeElapsedS, *discharge_elapsed_s),
            (Feature::DischargeTemperatureStartCelsius, *discharge_temperature_start_celsius),
            (Feature::CapacityDifferenceLog10Variance, *capacity_difference_log10_variance),
            (Feature::CapacityDifferenceMeanAh, *capacity_difference_mean_ah),
            (Feature::CapacityDifferenceMinAh, *capacity_difference_min_ah),
            (Feature::CapacityDifferenceSkewness, *capacity_difference_skewness),
            (Feature::CapacityDifferenceKurtosis, *capacity_difference_kurtosis),
            (Feature::CapacityCycle2Ah, *capacity_cycle_2_ah),
            (Feature::CapacityCycle10Ah, *capacity_cycle_10_ah),
            (Feature::CapacityCycle50Ah, *capacity_cycle_50_ah),
            (Feature::CapacityCycle100Ah, *capacity_cycle_100_ah),
            (Feature::CapacityMaxMinusCycle2Ah, *capacity_max_minus_cycle_2_ah),
            (Feature::CapacitySlope2To100AhPerCycle, *capacity_slope_2_100_ah_per_cycle),
            (Feature::CapacitySlope91To100AhPerCycle, *capacity_slope_91_100_ah_per_cycle),
            (Feature::StateOfHealthPercent, *state_of_health_percent),
            (Feature::ChargeDurationConstantCurrentRatio, *charge_duration_constant_current_ratio),
        ] {
            if let Some(number) = number {
                visit(feature, Value::Number(number));
            }
        }
    }
}

async fn answer_many(
    predictor: &Arc<Predictor>,
    rows: &[PredictRequest],
    call: Call,
) -> Result<Vec<PredictBatchResult>, PredictError> {
    if rows.is_empty() {
        return Err(PredictError::EmptyBatch);
    }
    if rows.len() > predictor.batch_rows_max {
        return Err(PredictError::TooManyRows { rows: rows.len(), max: predictor.batch_rows_max });
    }
    let mut results = Vec::with_capacity(rows.len());
    for slice in rows.chunks(ROWS_PER_SLICE) {
        if !results.is_empty() {
            tokio::task::yield_now().await;
        }
        if call.has_passed() {
            return Err(PredictError::DeadlineExceeded);
        }
        // All of a slice are asked before the first is waited for, so that those of queued models run together.
        let replies: Vec<Reply<PredictResponse>> = slice.iter().map(|row| one(predictor, row, call)).collect();
        for reply in replies {
            let result = match reply.done().await {
                Ok(response) => predict_batch_result::Result::Response(response),
                Err(error) => predict_batch_result::Result::Error(status::of_row(error)),
            };
            results.push(PredictBatchResult { result: Some(result) });
        }
    }
    Ok(results)
}

/// An answer while its targets come in.
#[derive(Default)]
struct Partial {
    response: PredictResponse,
    /// Why a model could not be asked.
    unavailable: Option<PredictError>,
    /// What the store lacks of the vehicle for targets that were not asked for by name.
    of_store: Vec<Violation>,
    /// Targets whose models are queued: asked, and not yet answered.
    queued: Vec<(Target, QueuedReply<Answered>)>,
}

/// What a model says about a target.
type Answered = (PredictionInfo, Estimate);

/// Answers a request, after reading its vehicle where it names one.
#[inline]
pub(super) fn one(predictor: &Arc<Predictor>, request: &PredictRequest, call: Call) -> Reply<PredictResponse> {
    if request.vehicle_id.is_empty() {
        return answer(Asked { predictor, request, known: None, call });
    }
    by_vehicle::predict(predictor, &request.vehicle_id, request, call, move |predictor, request, known| {
        answer(Asked { predictor, request, known: Some(known), call })
    })
}

/// What every target of a request is answered with.
#[derive(Clone, Copy)]
struct Asked<'a> {
    predictor: &'a Arc<Predictor>,
    request: &'a PredictRequest,
    /// Of the request's vehicle, read once for all targets.
    known: Option<&'a Known>,
    call: Call,
}

/// Answers the targets asked for; without any, those that what is given and known suffices for.
fn answer(asked: Asked<'_>) -> Reply<PredictResponse> {
    let request = asked.request;
    let mut partial = Partial::default();
    let asked = if request.targets.is_empty() { partial.ask_all(asked) } else { partial.ask(asked) };
    let every = request.targets.is_empty();
    let Partial { mut response, unavailable, of_store, queued } = partial;
    if let Err(error) = asked {
        return Reply::Refused(error);
    }
    let finish = move |response| if every { enough(response, unavailable, &of_store) } else { Ok(response) };
    if queued.is_empty() {
        return match finish(response) {
            Ok(response) => Reply::Answered(response),
            Err(error) => Reply::Refused(error),
        };
    }
    Reply::Queued(Box::pin(async move {
        for (target, reply) in queued {
            take(target, reply.await?, &mut response);
        }
        finish(response)
    }))
}

impl Partial {
    fn ask_all(&mut self, asked: Asked<'_>) -> Result<(), PredictError> {
        for target in TARGETS {
            match self.ask_target(asked, target) {
                Ok(()) => {}
                // A model that is not there, does not serve, or is not given enough, leaves the others alone.
                Err(PredictError::Invalid(violations)) => {
                    let (missing_fields, of_store) = missing_fields(violations)?;
                    let field_violations = of_store.iter().map(told).collect();
                    self.of_store.extend(of_store);
                    let target = target.into();
                    self.response.unanswered.push(Unanswered { target, missing_fields, field_violations });
                }
                Err(
                    error @ (PredictError::UnknownModel { .. }
                    | PredictError::UnknownAlias { .. }
                    | PredictError::NotServed { .. }
                    | PredictError::NotServable { .. }
                    | PredictError::Loading { .. }),
                ) => {
                    self.response.unanswered.push(Unanswered { target: target.into(), ..Unanswered::default() });
                    self.unavailable.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn ask(&mut self, asked: Asked<'_>) -> Result<(), PredictError> {
        for target in &asked.request.targets {
            match Target::try_from(*target) {
                Ok(
                    target @ (Target::StateOfHealth
                    | Target::RemainingUsefulLife
                    | Target::Temperature
                    | Target::Failure
                    | Target::CycleLife),
                ) => self.ask_target(asked, target)?,
                Ok(Target::Unspecified) | Err(_) => {
                    return Err(PredictError::Invalid(vec![Violation {
                        field: "targets".to_owned(),
                        reason: "UNKNOWN_TARGET",
                        description: format!("holds {target}, expected one of the targets 1 to 5"),
                    }]));
                }
            }
        }
        Ok(())
    }

    fn ask_target(&mut self, asked: Asked<'_>, target: Target) -> Result<(), PredictError> {
        let Asked { predictor, request, known, call } = asked;
        let task = match target {
            Target::StateOfHealth => Task::BatterySoh,
            Target::RemainingUsefulLife => Task::BatteryRul,
            Target::Temperature => Task::BatteryTemperature,
            Target::Failure => Task::BatteryFailure,
            Target::CycleLife => Task::BatteryCycleLife,
            Target::Unspecified => return Ok(()),
        };
        let selector = selector(request, target);
        let reply = match known {
            None => predictor.row(task, selector, request, call, |predictor, deployment, outcome| {
                (predictor.info(deployment, &outcome), outcome.estimate)
            }),
            Some(known) => predictor
                .row_of_vehicle(task, selector, request, known, call, |_, outcome, info| (info, outcome.estimate)),
        };
        match reply {
            Reply::Answered(answered) => take(target, answered, &mut self.response),
            Reply::Refused(error) => return Err(error),
            Reply::Queued(reply) => self.queued.push((target, reply)),
        }
        Ok(())
    }
}

/// The names of fields that are merely missing, and what the store lacks of a vehicle.
///
/// # Errors
///
/// [`PredictError::Invalid`] when a field that was given is wrong.
fn missing_fields(violations: Vec<Violation>) -> Result<(Vec<String>, Vec<Violation>), PredictError> {
    let is_missing = |violation: &Violation| violation.reason == "MISSING_FIELD" || violation.is_of_store();
    if !violations.iter().all(is_missing) {
        let wrong = violations.into_iter().filter(|violation| !is_missing(violation));
        return Err(PredictError::Invalid(wrong.collect()));
    }
    let fields = violations.iter().map(|violation| violation.field.clone()).collect();
    Ok((fields, violations.into_iter().filter(Violation::is_of_store).collect()))
}

fn told(Violation { field, reason: _, description }: &Violation) -> FieldViolation {
    FieldViolation { field: field.clone(), description: description.clone() }
}

/// Refuses a request that sufficed for nothing, naming what each target would take, or why no model could be asked.
fn enough(
    response: PredictResponse,
    unavailable: Option<PredictError>,
    of_store: &[Violation],
) -> Result<PredictResponse, PredictError> {
    if response.unanswered.len() < TARGETS.len() {
        return Ok(response);
    }
    let asked = |unanswered: &Unanswered| !unanswered.missing_fields.is_empty();
    if let Some(error) = unavailable.filter(|_| !response.unanswered.iter().any(asked)) {
        return Err(error);
    }
    let mut wanted: Vec<(String, Vec<&str>)> = Vec::new();
    for Unanswered { target, missing_fields, field_violations: _ } in response.unanswered {
        let target = Target::try_from(target).map_or("", |target| target.as_str_name());
        for field in missing_fields {
            match wanted.iter_mut().find(|(known, _)| *known == field) {
                Some((_, targets)) => targets.push(target),
                None => wanted.push((field, vec![target])),
            }
        }
    }
    let violation = |(field, targets): (String, Vec<&str>)| {
        let of_store = of_store.iter().find(|violation| violation.field == field);
        let (reason, problem) = of_store.map_or(("MISSING_FIELD", "is missing, expected a value: "), |violation| {
            (violation.reason, violation.description.as_str())
        });
        let joint = if of_store.is_some() { "; " } else { "" };
        Violation { field, reason, description: format!("{problem}{joint}required for {}", targets.join(", ")) }
    };
    Err(PredictError::Invalid(wanted.into_iter().map(violation).collect()))
}

/// Puts a target's answer in its place.
fn take(target: Target, answered: Answered, response: &mut PredictResponse) {
    match target {
        Target::StateOfHealth => response.state_of_health = Some(state_of_health(answered)),
        Target::RemainingUsefulLife => response.remaining_useful_life = Some(remaining_useful_life(answered)),
        Target::Temperature => response.temperature = Some(temperature(answered)),
        Target::Failure => response.failure = Some(failure(answered)),
        Target::CycleLife => response.cycle_life = Some(cycle_life(answered)),
        Target::Unspecified => {}
    }
}

fn selector(request: &PredictRequest, target: Target) -> Option<&ModelSelector> {
    let chosen = request.target_models.iter().find(|chosen| chosen.target == i32::from(target))?;
    chosen.model_selector.as_ref()
}

fn state_of_health((info, estimate): Answered) -> StateOfHealth {
    let [q10, q50, q90] = estimate.quantiles();
    StateOfHealth { soh_q10_percent: q10, soh_q50_percent: q50, soh_q90_percent: q90, info: Some(info) }
}

fn remaining_useful_life((info, estimate): Answered) -> RemainingUsefulLife {
    let known = !matches!(estimate, Estimate::Unknown);
    let [q10, q50, q90] = estimate.quantiles();
    let estimate = RemainingUsefulLifeEstimate { rul_q10_cycles: q10, rul_q50_cycles: q50, rul_q90_cycles: q90 };
    RemainingUsefulLife { estimate: known.then_some(estimate), info: Some(info) }
}

fn temperature((info, estimate): Answered) -> Temperature {
    let [q10, q50, q90] = estimate.quantiles();
    Temperature {
        temperature_q10_celsius: q10,
        temperature_q50_celsius: q50,
        temperature_q90_celsius: q90,
        info: Some(info),
    }
}

fn failure((info, estimate): Answered) -> Failure {
    let failure_probability = match estimate {
        Estimate::Probability(probability) => probability,
        _ => f32::NAN,
    };
    Failure { failure_probability, info: Some(info) }
}

fn cycle_life((info, estimate): Answered) -> CycleLife {
    let [q10, q50, q90] = estimate.quantiles();
    CycleLife { cycle_life_q10_cycles: q10, cycle_life_q50_cycles: q50, cycle_life_q90_cycles: q90, info: Some(info) }
}
