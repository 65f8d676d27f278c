//! Predictions that are kept current: made for [`crate::renewal`], and told to whoever watches.

use std::{collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use ev_domain::{Feature, RiskClass, VehicleId};
use ev_proto::ev::{
    battery::v1::{PredictRequest, PredictResponse},
    common::v1::{PredictionInfo, PredictionStatus},
    features::v1::feature,
    thermal::v1::{AssessRequest, AssessResponse},
};
use futures_core::Stream;
use tokio::{
    runtime::Handle,
    sync::{broadcast, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{battery, call::Call, predictor::Predictor, status, telemetry::vehicle, thermal};
use crate::{
    lane::{Condition, Lane, Opinion, Predicted},
    renewal::{Renewal, Renewed, WATCHED_MAX},
    telemetry::now_us,
};

/// Messages that wait for a watcher to read them, beyond those in the queue of all.
const WAITING_MAX: usize = 64;
/// Most vehicles that may be named.
const VEHICLES_MAX: usize = 10_000;

/// Answers of a watch.
pub(super) type Watching<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Where renewed predictions are told.
pub(crate) struct Renewals {
    pub(super) assessments: broadcast::Sender<Arc<Renewed<AssessResponse>>>,
    pub(super) batteries: broadcast::Sender<Arc<Renewed<PredictResponse>>>,
    /// Telemetry's, where watchers are served from.
    runtime: Handle,
}

/// Begins to renew predictions, on telemetry's threads, until the server drains. The lane is told of them.
pub(crate) fn start(renewal: &Renewal, predictor: &Arc<Predictor>, lane: &Arc<Lane>, predicted: &Arc<Predicted>) {
    let renewals = &predictor.renewals;
    let (asked, lane, told) = (Arc::clone(predictor), Arc::clone(lane), Arc::clone(predicted));
    let assess = move |vehicle: VehicleId| {
        let (asked, lane, told) = (Arc::clone(&asked), Arc::clone(&lane), Arc::clone(&told));
        async move {
            if let Ok(chemistry) = asked.features.chemistry(&vehicle).await {
                lane.learn(&vehicle, chemistry.as_deref());
            }
            let request = AssessRequest { vehicle_id: vehicle.as_str().to_owned(), ..AssessRequest::default() };
            let answer = thermal::one(&asked, &request, Call::own()).done().await.ok();
            let now_us = now_us();
            if let Some(opinion) = answer.as_ref().and_then(|answer| opinion(answer, now_us)) {
                told.assessed(&vehicle, &opinion, now_us);
            }
            (vehicle, answer)
        }
    };
    let (asked, told) = (Arc::clone(predictor), Arc::clone(predicted));
    let predict = move |vehicle: VehicleId| {
        let (asked, told) = (Arc::clone(&asked), Arc::clone(&told));
        async move {
            let request = PredictRequest { vehicle_id: vehicle.as_str().to_owned(), ..PredictRequest::default() };
            let answer = battery::one(&asked, &request, Call::own()).done().await.ok();
            if let Some(answer) = &answer {
                told.predicted(&vehicle, &condition(answer), now_us());
            }
            (vehicle, answer)
        }
    };
    let draining = || predictor.draining.clone();
    let (told, track) = (renewals.assessments.clone(), Arc::clone(&renewal.assessments));
    renewals.runtime.spawn(track.run(told, draining(), assess));
    let (told, track) = (renewals.batteries.clone(), Arc::clone(&renewal.batteries));
    renewals.runtime.spawn(track.run(told, draining(), predict));
}

/// What the model thinks of a pack.
fn opinion(answer: &AssessResponse, now_us: i64) -> Option<Opinion> {
    let info = answer.info.as_ref()?;
    let mut probabilities = [0.0; RiskClass::ALL.len()];
    for (place, found) in probabilities.iter_mut().zip(&answer.probabilities) {
        *place = found.probability;
    }
    let ages = info.features.iter().filter(|feature| feature.value.is_some()).filter_map(|feature| feature.age);
    let youngest = ages.filter_map(|age| Duration::try_from(age).ok()).min().unwrap_or_default();
    Some(Opinion {
        probabilities,
        coverage: info.feature_coverage,
        is_inside: info.status() == PredictionStatus::Ok,
        event_time_us: now_us.saturating_sub(i64::try_from(youngest.as_micros()).unwrap_or(i64::MAX)),
    })
}

/// What the models think of a battery, as far as they were trained on such.
fn condition(answer: &PredictResponse) -> Condition {
    fn trusted<'a, T>(answer: Option<&'a T>, info: impl Fn(&'a T) -> Option<&'a PredictionInfo>) -> Option<&'a T> {
        answer.filter(|answer| info(answer).is_some_and(|info| info.status() == PredictionStatus::Ok))
    }
    let health = trusted(answer.state_of_health.as_ref(), |health| health.info.as_ref());
    let failure = trusted(answer.failure.as_ref(), |failure| failure.info.as_ref());
    let remaining = trusted(answer.remaining_useful_life.as_ref(), |life| life.info.as_ref());
    let remaining = remaining.and_then(|life| life.estimate.as_ref()).map(|life| life.rul_q50_cycles);
    let whole = trusted(answer.cycle_life.as_ref(), |life| life.info.as_ref()).map(|life| life.cycle_life_q50_cycles);
    // Where no model states a life, what has passed and what remains are one.
    let passed = health.and_then(|health| cycles(health.info.as_ref()?));
    let life = whole.or_else(|| Some(passed? + remaining?)).filter(|life| *life > 0.0);
    Condition {
        failure_probability: failure.map(|failure| failure.failure_probability),
        remaining_life_percent: remaining.zip(life).map(|(remaining, life)| 100.0 * remaining / life),
        state_of_health_percent: health.map(|health| health.soh_q50_percent),
    }
}

/// The cycles so far that a prediction was made from.
fn cycles(info: &PredictionInfo) -> Option<f32> {
    let found = info.features.iter().find(|feature| feature.name == Feature::CycleCount.name())?;
    match found.value {
        Some(feature::Value::Number(cycles)) => Some(cycles),
        _ => None,
    }
}

// === impl Renewals ===

impl Renewals {
    pub(crate) fn new(runtime: Handle) -> Renewals {
        let (assessments, batteries) = (broadcast::Sender::new(WATCHED_MAX), broadcast::Sender::new(WATCHED_MAX));
        Renewals { assessments, batteries, runtime }
    }
}

// === impl Predictor ===

impl Predictor {
    /// Tells a watcher what is renewed of some vehicles, or of all, until it goes away or the server drains. `message`
    /// is told how many predictions the watcher missed before, of whichever vehicles, because it was slow.
    pub(super) fn watch<A, M>(
        &self,
        mut renewed: broadcast::Receiver<Arc<Renewed<A>>>,
        vehicle_ids: &[String],
        message: impl Fn(&Renewed<A>, u64) -> M + Send + 'static,
    ) -> Result<Watching<M>, Status>
    where
        A: Send + Sync + 'static,
        M: Send + 'static,
    {
        if vehicle_ids.len() > VEHICLES_MAX {
            let description = format!("has {} vehicles, expected at most {VEHICLES_MAX}", vehicle_ids.len());
            return Err(status::invalid("vehicle_ids", "TOO_MANY_VEHICLES", description));
        }
        let id = |(index, id): (usize, &String)| vehicle(&format!("vehicle_ids[{index}]"), id);
        let wanted: HashSet<VehicleId> = vehicle_ids.iter().enumerate().map(id).collect::<Result<_, _>>()?;
        let (sender, messages) = mpsc::channel(WAITING_MAX);
        let draining = self.draining.clone();
        self.renewals.runtime.spawn(async move {
            let mut missed = 0;
            loop {
                let received = tokio::select! {
                    received = renewed.recv() => received,
                    () = draining.cancelled() => Err(broadcast::error::RecvError::Closed),
                    () = sender.closed() => return,
                };
                match received {
                    Err(broadcast::error::RecvError::Lagged(count)) => missed += count,
                    Ok(renewed) if wanted.is_empty() || wanted.contains(&renewed.vehicle) => {
                        let message = message(&renewed, std::mem::take(&mut missed));
                        if sender.send(Ok(message)).await.is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Closed) => {
                        let _ = sender.send(Err(status::draining())).await;
                        return;
                    }
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(messages)))
    }
}

#[cfg(test)]
mod tests {
    use ev_proto::ev::{
        battery::v1::{CycleLife, Failure, RemainingUsefulLife, RemainingUsefulLifeEstimate, StateOfHealth},
        features::v1::Feature as ProtoFeature,
    };

    use super::*;

    fn info(status: PredictionStatus) -> Option<PredictionInfo> {
        let cycles = ProtoFeature {
            name: "cycle_count".to_owned(),
            value: Some(feature::Value::Number(300.0)),
            ..ProtoFeature::default()
        };
        Some(PredictionInfo { status: status.into(), features: vec![cycles], ..PredictionInfo::default() })
    }

    #[test]
    fn only_what_a_model_was_trained_on_is_held_against_limits() {
        let check = |health: PredictionStatus, life: PredictionStatus, whole: Option<f32>, expected: Condition| {
            let estimate = RemainingUsefulLifeEstimate { rul_q50_cycles: 100.0, ..Default::default() };
            let answer = PredictResponse {
                state_of_health: Some(StateOfHealth {
                    soh_q50_percent: 80.0,
                    info: info(health),
                    ..Default::default()
                }),
                failure: Some(Failure { failure_probability: 0.25, info: info(health) }),
                remaining_useful_life: Some(RemainingUsefulLife { estimate: Some(estimate), info: info(life) }),
                cycle_life: whole.map(|whole| CycleLife {
                    cycle_life_q50_cycles: whole,
                    info: info(PredictionStatus::Ok),
                    ..Default::default()
                }),
                ..PredictResponse::default()
            };
            assert_eq!(condition(&answer), expected);
        };
        let (inside, outside) = (PredictionStatus::Ok, PredictionStatus::OutOfDistribution);
        let all = Condition {
            failure_probability: Some(0.25),
            remaining_life_percent: Some(25.0),
            state_of_health_percent: Some(80.0),
        };
        check(inside, inside, None, all);
        check(inside, inside, Some(1_000.0), Condition { remaining_life_percent: Some(10.0), ..all });
        check(inside, outside, None, Condition { remaining_life_percent: None, ..all });
        // The cycles so far are no longer those that a model knows.
        check(outside, inside, None, Condition::default());
        assert_eq!(condition(&PredictResponse::default()), Condition::default());
    }
}
