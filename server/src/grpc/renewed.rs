//! Predictions that are kept current: made for [`crate::renewal`], and told to whoever watches.

use std::{collections::HashSet, pin::Pin, sync::Arc};

use ev_domain::VehicleId;
use ev_proto::ev::{
    battery::v1::{PredictRequest, PredictResponse},
    thermal::v1::{AssessRequest, AssessResponse},
};
use futures_core::Stream;
use tokio::{
    runtime::Handle,
    sync::{broadcast, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{battery, predictor::Predictor, status, telemetry::vehicle, thermal};
use crate::renewal::{Renewal, Renewed, WATCHED_MAX};

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

/// Begins to renew predictions, on telemetry's threads, until the server drains.
pub(crate) fn start(renewal: &Renewal, predictor: &Arc<Predictor>) {
    let renewals = &predictor.renewals;
    let asked = Arc::clone(predictor);
    let assess = move |vehicle: VehicleId| {
        let request = AssessRequest { vehicle_id: vehicle.as_str().to_owned(), ..AssessRequest::default() };
        let reply = thermal::one(&asked, &request, None);
        async move { (vehicle, reply.done().await.ok()) }
    };
    let asked = Arc::clone(predictor);
    let predict = move |vehicle: VehicleId| {
        let request = PredictRequest { vehicle_id: vehicle.as_str().to_owned(), ..PredictRequest::default() };
        let reply = battery::one(&asked, &request, None);
        async move { (vehicle, reply.done().await.ok()) }
    };
    let draining = || predictor.draining.clone();
    let (told, track) = (renewals.assessments.clone(), Arc::clone(&renewal.assessments));
    renewals.runtime.spawn(track.run(told, draining(), assess));
    let (told, track) = (renewals.batteries.clone(), Arc::clone(&renewal.batteries));
    renewals.runtime.spawn(track.run(told, draining(), predict));
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
