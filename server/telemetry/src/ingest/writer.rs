//! The tasks behind the sessions.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

use super::{AppliedBatch, Apply, Event, IngestConfig, Shared, queue::Room, stats::Counters};
use crate::{Admission, Append, Appended, Quarantined, RefusedBatch, Reject, RejectReason, TelemetryError};

/// Full groups that are being stored, or stored and not applied: then the next is not put together yet. Few, because what
/// is in a group has had its turn: whoever comes waits until it is through.
const GROUPS_AHEAD: u32 = 3;
/// Small groups count as this part of a full one, so that what applies them may pause for a moment, as for a database.
const GROUP_PART_MIN: u32 = 8;
/// Most readings that a group is taken for, whatever is configured.
const GROUP_READINGS_MAX: u32 = 1 << 24;
/// While nothing comes, the store is asked so many times less often whether something is due.
const IDLE_TIMES: u32 = 9;
/// How long the store is left alone after it failed in the background.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// A batch on its way.
pub(super) struct Work {
    pub(super) append: Append,
    /// Has room for all events of all batches that a session may have on their way.
    pub(super) events: EventSender,
    /// Its place in the queue.
    pub(super) room: Room,
}

/// Where a session is told what became of its batches, many at once: to wake it for each would cost more than to take it in.
pub(super) type EventSender = mpsc::Sender<Vec<Event>>;

/// Events of a session, gathered while those of no other come.
#[derive(Default)]
struct Letter(Option<(EventSender, Vec<Event>)>);

/// A stored batch, and whom to tell when it is applied.
struct Stored {
    batch: Arc<AppliedBatch>,
    events: EventSender,
    _room: Room,
}

/// What was stored together.
pub(super) struct Group {
    batches: Vec<Stored>,
    /// Those that are no duplicates: what is to be applied.
    new: Vec<Arc<AppliedBatch>>,
    _ahead: OwnedSemaphorePermit,
}

/// The tasks that apply groups, one behind the other.
pub(super) struct Appliers {
    /// Where groups go in.
    pub(super) first: mpsc::Sender<Group>,
    pub(super) tasks: Vec<JoinHandle<()>>,
}

/// Stores what waits, in groups: what comes while a group is stored is in the next one.
pub(super) async fn write(shared: Arc<Shared>, applying: mpsc::Sender<Group>) {
    let IngestConfig { group_batches_max, group_readings_max, .. } = shared.config;
    let full = u32::try_from(group_readings_max).unwrap_or(u32::MAX).clamp(GROUP_PART_MIN, GROUP_READINGS_MAX);
    let ahead = Arc::new(Semaphore::new((GROUPS_AHEAD * full) as usize));
    // First a place, then the group: it has what came last.
    while let Ok(mut place) = Arc::clone(&ahead).acquire_many_owned(full).await {
        let (mut batches, mut readings) = (0, 0);
        let goes_on = |work: &Work| {
            (batches, readings) = (batches + 1, readings + work.append.batch.readings.len());
            batches < group_batches_max && readings < group_readings_max
        };
        let Some(group) = shared.queue.take(goes_on).await else { return };
        let size = u32::try_from(readings).unwrap_or(u32::MAX).clamp(full / GROUP_PART_MIN, full);
        drop(place.split((full - size) as usize));
        let Some(stored) = store(&shared, group, place).await else { continue };
        if applying.send(stored).await.is_err() {
            break;
        }
    }
    // What applies has failed, which is a bug: nothing may be told to be stored that is not.
    shared.queue.close();
    while let Some(group) = shared.queue.take(|_| true).await {
        let mut letter = Letter::default();
        group.iter().for_each(|work| letter.fail(&work.append, &work.events, &TelemetryError::ShuttingDown));
    }
}

/// Stores a group; what is to be applied of it, or none where nothing was stored.
async fn store(shared: &Shared, group: Vec<Work>, place: OwnedSemaphorePermit) -> Option<Group> {
    let mut appends = Vec::with_capacity(group.len());
    let mut others = Vec::with_capacity(group.len());
    for Work { append, events, room } in group {
        appends.push(append);
        others.push((events, room));
    }
    // Taken after the batches they were left out of.
    let rejects = shared.quarantine.take();
    let outcomes = shared.store.commit(&appends, &rejects).await;
    shared.stored.notify_one();
    Counters::add(&shared.counters.commits, 1);
    let mut letter = Letter::default();
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(error) => {
            Counters::add(&shared.counters.commits_failed, 1);
            tracing::error!(error = &error as &dyn std::error::Error, "readings could not be stored");
            shared.put_back(rejects);
            for (append, (events, _)) in appends.iter().zip(&others) {
                letter.fail(append, events, &error);
            }
            return None;
        }
    };
    let (mut batches, mut new) = (Vec::with_capacity(appends.len()), Vec::with_capacity(appends.len()));
    for ((append, (events, room)), outcome) in appends.into_iter().zip(others).zip(outcomes) {
        if let Some((append, is_new)) = durable(shared, append, &events, outcome, &mut letter) {
            let Append { source, batch, received_us } = append;
            let batch = Arc::new(AppliedBatch { source, batch, received_us });
            new.extend(is_new.then(|| Arc::clone(&batch)));
            batches.push(Stored { batch, events, _room: room });
        }
    }
    Some(Group { batches, new, _ahead: place })
}

/// Tells what became of a batch; it, and whether it is new, when it is to be applied.
fn durable(
    shared: &Shared,
    append: Append,
    events: &EventSender,
    outcome: Appended,
    letter: &mut Letter,
) -> Option<(Append, bool)> {
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
            letter.add(events, Event::Durable { vehicle, sequence, is_duplicate });
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
            shared.reject(quarantined);
            letter.add(events, Event::Refused { vehicle, sequence, reject });
            None
        }
    }
}

// === impl Letter ===

impl Letter {
    /// Tells a session something, soon. In a group it is the turn of one gateway for many batches, so its events follow
    /// each other.
    fn add(&mut self, events: &EventSender, event: Event) {
        match &mut self.0 {
            Some((to, gathered)) if to.same_channel(events) => gathered.push(event),
            _ => {
                self.send();
                self.0 = Some((events.clone(), vec![event]));
            }
        }
    }

    fn fail(&mut self, append: &Append, events: &EventSender, error: &TelemetryError) {
        let (vehicle, sequence) = (append.batch.vehicle.clone(), append.batch.sequence);
        self.add(events, Event::Failed { vehicle, sequence, error: error.clone() });
    }

    /// The session is gone, or it has room.
    fn send(&mut self) {
        if let Some((to, gathered)) = self.0.take()
            && let Err(mpsc::error::TrySendError::Full(events)) = to.try_send(gathered)
        {
            tracing::error!(?events, "a session has no room for its events; its credit is counted wrongly");
        }
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        self.send();
    }
}

// === impl Appliers ===

impl Appliers {
    /// Starts a task for each: the first is never held up by those behind it, but by what is ahead of it.
    pub(super) fn start(shared: &Arc<Shared>, apply: Vec<Arc<dyn Apply>>, runtime: &Handle) -> Appliers {
        // No more groups exist than there are places for them.
        let channel = || mpsc::channel((GROUPS_AHEAD * GROUP_PART_MIN) as usize);
        let (first, mut before) = channel();
        let mut tasks = Vec::with_capacity(apply.len() + 1);
        for apply in apply {
            let (sender, next) = channel();
            tasks.push(runtime.spawn(show(apply, std::mem::replace(&mut before, next), sender)));
        }
        tasks.push(runtime.spawn(finish(Arc::clone(shared), before)));
        Appliers { first, tasks }
    }
}

/// Shows groups to what must see them, in order.
async fn show(apply: Arc<dyn Apply>, mut groups: mpsc::Receiver<Group>, next: mpsc::Sender<Group>) {
    while let Some(group) = groups.recv().await {
        if !group.new.is_empty() {
            apply.apply(&group.new).await;
        }
        if next.send(group).await.is_err() {
            return;
        }
    }
}

/// Tells whoever watches, and whoever sent.
async fn finish(shared: Arc<Shared>, mut groups: mpsc::Receiver<Group>) {
    while let Some(Group { batches, new, _ahead }) = groups.recv().await {
        for batch in new {
            // An error means that nobody watches.
            let _ = shared.applied.send(batch);
        }
        let mut letter = Letter::default();
        for Stored { batch, events, .. } in &batches {
            letter.add(events, Event::Applied { vehicle: batch.batch.vehicle.clone(), sequence: batch.batch.sequence });
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
        // That it failed was told.
        let _ = shared.keep_rejects().await;
        pause = match shared.store.maintain().await {
            Ok(true) => Duration::ZERO,
            Ok(false) => {
                // Old readings become due without new ones, but not in a hurry.
                tokio::select! {
                    _ = closing.wait_for(|closing| *closing) => return,
                    () = shared.stored.notified() => {}
                    () = tokio::time::sleep(shared.config.maintain_every * IDLE_TIMES) => {}
                }
                shared.config.maintain_every
            }
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
