//! Predictions by vehicle id: what a request does not give is read from the feature store.
//!
//! What this process has in memory is read on the spot. What it must ask for is read by a task of its own, so that a
//! caller who stops reading its stream holds up nobody who asks for the same vehicle.

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use ev_domain::VehicleId;
use ev_features::{FeatureRead, FeatureRow, Fetched, StoreError};
use ev_models_core::manifest::Task;
use ev_proto::ev::common::v1::{ModelSelector, PredictionInfo};

use super::{
    call::Call,
    features::feature,
    predictor::{Grouped, Predictor, Reply, Results, in_order, selected},
};
use crate::{
    deploy::Deployment,
    features::VehicleFeatures,
    pipeline::{
        BadRow, Batch, Features, Given, Inputs, Outcome, PredictError, RowBuilder, StoredFeature, StoredInputs,
        StoredRow, Violation, Want, predict_batch, predict_row, submit_row,
    },
    telemetry::now_us,
};

/// Vehicles of a batch that are read at one time, and between two pauses: about 0.1 ms of what memory has.
const READS_AT_ONCE: usize = 64;

/// What the store has of a vehicle.
pub(super) struct Known {
    vehicle: Arc<VehicleId>,
    /// By the places of the views.
    rows: Vec<Option<FeatureRow>>,
    degraded: bool,
    /// When it was asked.
    now_us: i64,
    /// How long that took.
    took: Duration,
}

/// What an answer tells of where its inputs came from.
pub(super) struct Told {
    vehicle: Arc<VehicleId>,
    row: StoredRow,
    degraded: bool,
    took: Duration,
}

/// Reads the vehicle of a request and predicts with what is known of it.
#[cold]
pub(super) fn predict<Q, A>(
    predictor: &Arc<Predictor>,
    vehicle_id: &str,
    request: &Q,
    call: Call,
    predict: impl FnOnce(&Arc<Predictor>, &Q, &Known) -> Reply<A> + Send + 'static,
) -> Reply<A>
where
    Q: Clone + Send + Sync + 'static,
    A: Send + 'static,
{
    let vehicle = match vehicle(vehicle_id) {
        Ok(vehicle) => vehicle,
        Err(error) => return Reply::Refused(error),
    };
    let mut reading = Box::pin(read(Arc::clone(&predictor.features), vehicle));
    // It is polled again below, by somebody who can be woken.
    match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(known)) => predict(predictor, request, &known),
        Poll::Ready(Err(error)) => Reply::Refused(error),
        Poll::Pending => {
            let (predictor, request) = (Arc::clone(predictor), request.clone());
            let reading = tokio::spawn(reading);
            Reply::Queued(Box::pin(async move {
                // A task that panicked, or a runtime that ends.
                let known = reading.await.map_err(|_| PredictError::ShuttingDown)??;
                if call.has_passed() {
                    return Err(PredictError::DeadlineExceeded);
                }
                let reply = predict(&predictor, &request, &known);
                drop(request);
                reply.done().await
            }))
        }
    }
}

/// Reads all that is known of a vehicle.
async fn read(features: Arc<VehicleFeatures>, vehicle: VehicleId) -> Result<Known, PredictError> {
    let started = Instant::now();
    let unavailable = |problem: String| {
        let vehicle = vehicle.as_str().to_owned();
        PredictError::FeaturesUnavailable { vehicle, problem }
    };
    let Fetched { rows, degraded, damaged: _ } = match features.known(&vehicle).await {
        Ok(fetched) => fetched,
        Err(StoreError::ShuttingDown) => return Err(PredictError::ShuttingDown),
        Err(error) => return Err(unavailable(error.to_string())),
    };
    if rows.iter().all(Option::is_none) {
        return Err(if degraded {
            unavailable(
                "the shared feature store cannot be reached, and this server remembers nothing of it".to_owned(),
            )
        } else {
            PredictError::UnknownVehicle { vehicle: vehicle.as_str().to_owned() }
        });
    }
    Ok(Known { vehicle: Arc::new(vehicle), rows, degraded, now_us: now_us(), took: started.elapsed() })
}

fn vehicle(id: &str) -> Result<VehicleId, PredictError> {
    VehicleId::new(id).map_err(|error| {
        let description = error.problem().to_owned();
        PredictError::Invalid(vec![Violation { field: "vehicle_id".to_owned(), reason: "INVALID_ID", description }])
    })
}

// === impl Known ===

impl Known {
    fn tell(&self, deployment: &Deployment, request: &impl Features) -> Told {
        let read = |stored: &StoredInputs| stored.read(&self.rows, Given::of(request), self.now_us);
        let row = deployment.stored().map(read).unwrap_or_default();
        Told { vehicle: Arc::clone(&self.vehicle), row, degraded: self.degraded, took: self.took }
    }
}

// === impl Told ===

impl Told {
    fn fill(&self, deployment: &Deployment, builder: &mut RowBuilder<'_>) {
        if let Some(inputs) = deployment.stored() {
            self.row.fill(inputs, builder);
        }
    }

    /// Reading is part of making the row.
    fn count(&self, mut outcome: Outcome) -> Outcome {
        outcome.timings.features += self.took;
        outcome.timings.total += self.took;
        if let Some(inputs) = &mut outcome.inputs {
            Inputs::set_vehicle(inputs, &self.vehicle);
        }
        outcome
    }

    /// Adds to an envelope where the inputs came from.
    fn add_to(self, deployment: &Deployment, info: &mut PredictionInfo) {
        let Told { vehicle: _, row, degraded, took: _ } = self;
        let inputs = deployment.stored().map_or(&[][..], StoredInputs::inputs);
        let feature = |stored: StoredFeature| {
            let input = inputs.get(stored.input)?;
            let StoredFeature { value, age, status, .. } = stored;
            Some(feature(&input.name, &input.view, FeatureRead { value, age, status }))
        };
        info.features = row.features.into_iter().filter_map(feature).collect();
        info.degraded = degraded;
    }
}

// === impl Predictor ===

impl Predictor {
    /// Predicts one row of what the request gives and of what is known of its vehicle. The answer is made with the
    /// envelope.
    pub(super) fn row_of_vehicle<Q: Features, A>(
        self: &Arc<Self>,
        task: Task,
        selector: Option<&ModelSelector>,
        request: &Q,
        known: &Known,
        call: Call,
        answer: impl FnOnce(&Deployment, Outcome, PredictionInfo) -> A + Send + 'static,
    ) -> Reply<A> {
        let snapshot = self.routes.load();
        let (name, choice) = selected(selector);
        let deployment = match snapshot.route(task, name, choice, call.asker(known.vehicle.as_str())) {
            Ok(deployment) => deployment,
            Err(error) => return Reply::Refused(error),
        };
        let mut told = known.tell(deployment, request);
        if let Some(refused) = told.row.take_refusal() {
            // The model is not asked, and does not count it.
            return Reply::Refused(PredictError::Invalid(refused));
        }
        if let Some(queue) = deployment.queue() {
            let row = {
                let fill = |row: &mut RowBuilder<'_>| {
                    request.visit(|feature, value| row.feature(feature, value));
                    told.fill(deployment, row);
                };
                submit_row(deployment, queue, Want::Estimate, call.deadline, fill)
            };
            return self.submitted(deployment, row, |predictor, deployment, outcome| {
                outcome.map(|outcome| predictor.answer_of_vehicle(deployment, outcome, told, answer))
            });
        }
        let fill = |row: &mut RowBuilder<'_>| {
            request.visit(|feature, value| row.feature(feature, value));
            told.fill(deployment, row);
        };
        match predict_row(deployment, Want::Estimate, fill) {
            Ok(outcome) => Reply::Answered(self.answer_of_vehicle(deployment, outcome, told, answer)),
            Err(error) => Reply::Refused(error),
        }
    }

    fn answer_of_vehicle<A>(
        &self,
        deployment: &Deployment,
        outcome: Outcome,
        told: Told,
        answer: impl FnOnce(&Deployment, Outcome, PredictionInfo) -> A,
    ) -> A {
        let outcome = told.count(outcome);
        let mut info = self.info(deployment, &outcome);
        told.add_to(deployment, &mut info);
        answer(deployment, outcome, info)
    }

    /// Predicts many rows, of which some name their vehicle; each has its own result in order.
    pub(super) async fn rows_of_vehicles<'a, Q: Features, A>(
        &self,
        task: Task,
        requests: &[Q],
        selector: impl Fn(&Q) -> Option<&ModelSelector>,
        vehicle_id: impl Fn(usize) -> &'a str,
        call: Call,
        answer: impl Fn(&Deployment, Outcome, PredictionInfo) -> A,
    ) -> Results<A> {
        let Grouped { mut results, groups } =
            self.group(task, requests, selector, |index| call.asker(vehicle_id(index)))?;
        let mut known = self.known((0..requests.len()).map(vehicle_id), call).await?;
        for (deployment, members) in groups {
            let mut rows: Vec<(usize, Option<Told>)> = Vec::with_capacity(members.len());
            for index in members {
                match known.get_mut(index).and_then(Option::take) {
                    None => rows.push((index, None)),
                    Some(Ok(known)) => rows.push((index, Some(known.tell(&deployment, &requests[index])))),
                    Some(Err(error)) => results[index] = Some(Err(error)),
                }
                if rows.len() % READS_AT_ONCE == READS_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
            }
            if rows.is_empty() {
                continue;
            }
            let batch = Batch {
                rows: rows.len(),
                deadline: call.deadline,
                want: Want::Estimate,
                bad_row: BadRow::FailsAlone,
                draw: None,
            };
            let outcomes = predict_batch(&deployment, batch, |row, builder| {
                let (index, told) = &rows[row];
                requests[*index].visit(|feature, value| builder.feature(feature, value));
                if let Some(told) = told {
                    told.fill(&deployment, builder);
                }
            })
            .await?;
            for ((index, told), outcome) in rows.into_iter().zip(outcomes) {
                let answered = outcome.map(|outcome| match told {
                    Some(told) => self.answer_of_vehicle(&deployment, outcome, told, &answer),
                    None => {
                        let info = self.info(&deployment, &outcome);
                        answer(&deployment, outcome, info)
                    }
                });
                results[index] = Some(answered);
            }
        }
        Ok(in_order(results))
    }

    /// What is known of the vehicles of a batch's rows; none of a row that names none.
    async fn known(
        &self,
        vehicle_ids: impl Iterator<Item = &str>,
        call: Call,
    ) -> Result<Vec<Option<Result<Known, PredictError>>>, PredictError> {
        let mut known: Vec<Option<Result<Known, PredictError>>> = Vec::new();
        let mut asked = Vec::new();
        for (index, id) in vehicle_ids.enumerate() {
            known.push(None);
            match (id.is_empty(), vehicle(id)) {
                (true, _) => {}
                (false, Ok(vehicle)) => asked.push((index, vehicle)),
                (false, Err(error)) => known[index] = Some(Err(error)),
            }
        }
        let mut asked = asked.into_iter();
        loop {
            let reading: Vec<_> = asked
                .by_ref()
                .take(READS_AT_ONCE)
                .map(|(index, vehicle)| {
                    let read = read(Arc::clone(&self.features), vehicle);
                    async move { (index, read.await) }
                })
                .collect();
            if reading.is_empty() {
                return Ok(known);
            }
            if call.has_passed() {
                return Err(PredictError::DeadlineExceeded);
            }
            for (index, read) in futures_util::future::join_all(reading).await {
                known[index] = Some(read);
            }
            tokio::task::yield_now().await;
        }
    }
}
