//! Predictions of vehicles that send: kept current in the background, on telemetry's threads.
//!
//! What is stored marks its vehicle; a marked vehicle is predicted anew, at most once in an interval. How, the gRPC edge
//! says, which knows the answers; who wants them subscribes. No serving thread takes part.

mod schedule;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ev_domain::VehicleId;
use ev_telemetry::{AppliedBatch, Apply};
use futures_util::StreamExt as _;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use self::schedule::Schedule;
use crate::telemetry::now_us;

/// Vehicles that wait for their turn or rest after it; of more nothing is renewed until there is room.
const VEHICLES_MAX: usize = 200_000;
/// Vehicles renewed in one go, and of those at one time, where the feature store has to be asked.
const SLICE: usize = 64;
const AT_ONCE: usize = 16;
/// How often it is looked whether anything is due where nothing is.
const IDLE: Duration = Duration::from_secs(60);
/// Renewed predictions that a watcher may be behind.
pub(crate) const WATCHED_MAX: usize = 1_024;

/// Marks the vehicles of what is stored.
pub(crate) struct Renewal {
    pub(crate) assessments: Arc<Track>,
    pub(crate) batteries: Arc<Track>,
}

/// One kind of prediction.
pub(crate) struct Track {
    schedule: Mutex<Schedule>,
    marked: Notify,
    renewed: AtomicU64,
    /// Time is counted from here.
    started: Instant,
}

/// What is known of a vehicle now, told to whoever watches.
#[derive(Debug)]
pub(crate) struct Renewed<A> {
    pub(crate) vehicle: VehicleId,
    /// When, in microseconds since 1970-01-01 UTC.
    pub(crate) time_us: i64,
    pub(crate) answer: A,
}

/// What a track has done and what it is like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrackStats {
    /// Predictions made.
    pub(crate) renewed: u64,
    /// Times that a vehicle found no room.
    pub(crate) refused: u64,
    /// Vehicles that wait.
    pub(crate) waiting: usize,
}

// === impl Renewal ===

impl Renewal {
    /// Thermal risk at most every `assessments`, batteries at most every `batteries`.
    pub(crate) fn new(assessments: Duration, batteries: Duration) -> Renewal {
        Renewal { assessments: Track::new(assessments), batteries: Track::new(batteries) }
    }
}

#[async_trait]
impl Apply for Renewal {
    async fn apply(&self, batches: &[Arc<AppliedBatch>]) {
        let vehicles: HashSet<&VehicleId> = batches.iter().map(|applied| &applied.batch.vehicle).collect();
        for track in [&self.assessments, &self.batteries] {
            let now_us = track.now_us();
            let mut schedule = track.schedule();
            vehicles.iter().for_each(|vehicle| schedule.mark(vehicle, now_us));
            drop(schedule);
            track.marked.notify_one();
        }
    }
}

// === impl Track ===

impl Track {
    fn new(interval: Duration) -> Arc<Track> {
        let interval_us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        Arc::new(Track {
            schedule: Mutex::new(Schedule::new(interval_us, VEHICLES_MAX)),
            marked: Notify::new(),
            renewed: AtomicU64::new(0),
            started: Instant::now(),
        })
    }

    pub(crate) fn stats(&self) -> TrackStats {
        let schedule = self.schedule();
        let renewed = self.renewed.load(Ordering::Relaxed);
        TrackStats { renewed, refused: schedule.refused(), waiting: schedule.waiting() }
    }

    /// Renews what is due until the server drains. `renew` says nothing of vehicles of which too little is known.
    pub(crate) async fn run<A, F>(
        self: Arc<Self>,
        renewed: broadcast::Sender<Arc<Renewed<A>>>,
        draining: CancellationToken,
        renew: impl Fn(VehicleId) -> F,
    ) where
        F: Future<Output = (VehicleId, Option<A>)>,
    {
        while !draining.is_cancelled() {
            let (due, next) = self.due();
            if due.is_empty() {
                tokio::select! {
                    () = self.marked.notified() => {}
                    () = tokio::time::sleep(next.unwrap_or(IDLE)) => {}
                    () = draining.cancelled() => return,
                }
                continue;
            }
            let started = Instant::now();
            let is_behind = due.len() == SLICE;
            let mut answers = futures_util::stream::iter(due.into_iter().map(&renew)).buffer_unordered(AT_ONCE);
            while let Some((vehicle, answer)) = answers.next().await {
                let Some(answer) = answer else { continue };
                self.renewed.fetch_add(1, Ordering::Relaxed);
                // Nobody may be watching.
                let _ = renewed.send(Arc::new(Renewed { vehicle, time_us: now_us(), answer }));
            }
            if is_behind {
                // Half of a thread at most: those that store and judge readings go first.
                tokio::time::sleep(started.elapsed()).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    /// The vehicles that are due, as many as are renewed in one go, or how long to wait for the next.
    fn due(&self) -> (Vec<VehicleId>, Option<Duration>) {
        let now_us = self.now_us();
        let mut schedule = self.schedule();
        let due = std::iter::from_fn(|| schedule.pop(now_us)).take(SLICE).collect();
        (due, schedule.next_us().map(|next_us| Duration::from_micros(next_us.saturating_sub(now_us))))
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a clock that nobody sets.
    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
