//! The tasks behind the sessions.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{AppliedBatch, Apply, Event, Quarantined, Reject, RejectReason, Shared, stats::Counters};
use crate::{Admission, Append, Appended, RefusedBatch, TelemetryError};

/// Groups that are stored and not applied yet; then commits wait.
pub(super) const GROUPS_AHEAD: usize = 16;
/// How long the store is left alone after it failed in the background.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// What the writer takes from the queue.
pub(super) enum Job {
    Store(Work),
    End,
}

/// A batch on its way.
pub(super) struct Work {
    pub(super) append: Append,
    /// Has room for all events of all batches that a session may have on their way.
    pub(super) events: mpsc::Sender<Event>,
    /// Its place in the queue.
    pub(super) room: OwnedSemaphorePermit,
}

/// A stored batch, and whom to tell when it is applied.
pub(super) struct Stored {
    batch: Arc<AppliedBatch>,
    is_new: bool,
    events: mpsc::Sender<Event>,
    _room: OwnedSemaphorePermit,
}

/// Stores what waits, in groups: what comes while a group is stored is the next one.
pub(super) async fn write(
    shared: Arc<Shared>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    stored: mpsc::Sender<Vec<Stored>>,
) {
    while let Some(Job::Store(first)) = jobs.recv().await {
        let (group, ends) = gather(&shared, first, &mut jobs);
        if !store(&shared, group, &stored).await || ends {
            break;
        }
    }
    // Nothing more comes in; what did at the last moment is told.
    jobs.close();
    while let Ok(job) = jobs.try_recv() {
        if let Job::Store(work) = job {
            fail(&work.append, &work.events, &TelemetryError::ShuttingDown);
        }
    }
}

fn gather(shared: &Shared, first: Work, jobs: &mut mpsc::UnboundedReceiver<Job>) -> (Vec<Work>, bool) {
    let mut readings = first.append.batch.readings.len();
    let mut group = vec![first];
    while group.len() < shared.config.group_batches_max && readings < shared.config.group_readings_max {
        match jobs.try_recv() {
            Ok(Job::Store(work)) => {
                readings += work.append.batch.readings.len();
                group.push(work);
            }
            Ok(Job::End) => return (group, true),
            Err(_) => break,
        }
    }
    (group, false)
}

/// Whether there is still somebody to apply it.
async fn store(shared: &Shared, group: Vec<Work>, stored: &mpsc::Sender<Vec<Stored>>) -> bool {
    let mut appends = Vec::with_capacity(group.len());
    let mut others = Vec::with_capacity(group.len());
    for Work { append, events, room } in group {
        appends.push(append);
        others.push((events, room));
    }
    let outcomes = shared.store.append(&appends).await;
    Counters::add(&shared.counters.commits, 1);
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(error) => {
            Counters::add(&shared.counters.commits_failed, 1);
            tracing::error!(error = &error as &dyn std::error::Error, "readings could not be stored");
            for (append, (events, _)) in appends.iter().zip(&others) {
                fail(append, events, &error);
            }
            return true;
        }
    };
    let mut next = Vec::with_capacity(appends.len());
    for ((append, (events, room)), outcome) in appends.into_iter().zip(others).zip(outcomes) {
        if let Some((append, is_new)) = durable(shared, append, &events, outcome) {
            let Append { source, batch, received_us } = append;
            let batch = Arc::new(AppliedBatch { source, batch, received_us });
            next.push(Stored { batch, is_new, events, _room: room });
        }
    }
    stored.send(next).await.is_ok()
}

/// Tells what became of a batch; it, and whether it is new, when it is to be applied.
fn durable(shared: &Shared, append: Append, events: &mpsc::Sender<Event>, outcome: Appended) -> Option<(Append, bool)> {
    let (vehicle, sequence) = (append.batch.vehicle.clone(), append.batch.sequence);
    match outcome {
        Ok(admission) => {
            let is_duplicate = admission == Admission::Duplicate;
            let counters = &shared.counters;
            if is_duplicate {
                Counters::add(&counters.batches_duplicate, 1);
            } else {
                Counters::add(&counters.batches_stored, 1);
                Counters::add(&counters.readings_stored, append.batch.readings.len() as u64);
            }
            tell(events, Event::Durable { vehicle, sequence, is_duplicate });
            Some((append, !is_duplicate))
        }
        Err(refused) => {
            let reason = match &refused {
                RefusedBatch::Sequence(_) => RejectReason::ImplausibleSequence,
                RefusedBatch::TooManyVehicles { .. } => RejectReason::VehicleNotAllowed,
            };
            let reject = Reject::new(reason, append.batch.readings.len(), refused.to_string());
            let Append { source, received_us, .. } = append;
            let vehicle_id = Some(vehicle.clone());
            let quarantined =
                Quarantined { source, vehicle: vehicle_id, sequence, received_us, reject: reject.clone() };
            shared.counters.reject(quarantined);
            tell(events, Event::Refused { vehicle, sequence, reject });
            None
        }
    }
}

fn fail(append: &Append, events: &mpsc::Sender<Event>, error: &TelemetryError) {
    let (vehicle, sequence) = (append.batch.vehicle.clone(), append.batch.sequence);
    tell(events, Event::Failed { vehicle, sequence, error: error.clone() });
}

/// Tells a session something; it is gone, or it has room.
fn tell(events: &mpsc::Sender<Event>, event: Event) {
    if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event) {
        tracing::error!(?event, "a session has no room for an event; its credit is counted wrongly");
    }
}

/// Shows groups to what must see them, in order, and then to whoever watches.
pub(super) async fn apply(shared: Arc<Shared>, mut stored: mpsc::Receiver<Vec<Stored>>, apply: Vec<Arc<dyn Apply>>) {
    while let Some(group) = stored.recv().await {
        let new: Vec<_> = group.iter().filter(|stored| stored.is_new).map(|stored| Arc::clone(&stored.batch)).collect();
        if !new.is_empty() {
            for apply in &apply {
                apply.apply(&new).await;
            }
        }
        for batch in new {
            // An error means that nobody watches.
            let _ = shared.applied.send(batch);
        }
        for Stored { batch, events, .. } in &group {
            tell(events, Event::Applied { vehicle: batch.batch.vehicle.clone(), sequence: batch.batch.sequence });
        }
    }
}

/// Lets the store do what is due in the background.
pub(super) async fn maintain(shared: Arc<Shared>) {
    let mut closing = shared.closing.subscribe();
    let mut pause = shared.config.maintain_every;
    loop {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = match shared.store.maintain().await {
            Ok(true) => Duration::ZERO,
            Ok(false) => shared.config.maintain_every,
            Err(TelemetryError::ShuttingDown) => return,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the telemetry store failed in the background"
                );
                PAUSE_AFTER_FAILURE
            }
        };
    }
}
