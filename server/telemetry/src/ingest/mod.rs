//! From a gateway's batch to its acknowledgements.
//!
//! A session admits batches while they have credit and the queue has room; one writer stores what waits in groups, in
//! which gateways take turns; each group is shown to what must see it, one after the other, and then to whoever watches.
//! Everything in between is bounded, and a gateway that does not take its acknowledgements stops getting credit.

mod limits;
mod queue;
mod session;
mod stats;
mod vehicles;
mod writer;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use ev_domain::{ReadingBatch, Source, VehicleId};
use tokio::{
    runtime::Handle,
    sync::{Mutex, Notify, broadcast},
    task::JoinHandle,
};

pub use limits::IngestLimits;
pub use session::{Event, Received, Session, SubmitError};
pub use stats::IngestStats;

use crate::{QuarantinePage, QuarantineQuery, Quarantined, TelemetryError, TelemetryStore, quarantine::Quarantine};
use queue::Queue;
use stats::Counters;
use writer::{Appliers, Work};

/// How much may be on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestConfig {
    /// What a gateway may send.
    pub limits: IngestLimits,
    /// Batches that a gateway may have on their way: until it has taken their last acknowledgement.
    pub credit: NonZeroU32,
    /// Vehicles of a gateway.
    pub vehicles_per_gateway_max: usize,
    /// Readings of all gateways that wait to be stored, at least as many as a batch may have.
    pub queue_readings_max: u32,
    /// Most batches and readings of a commit.
    pub group_batches_max: usize,
    /// Most readings of a commit; one batch may have more.
    pub group_readings_max: usize,
    /// Batches that a subscriber may be behind before it misses some.
    pub subscriber_batches_max: usize,
    /// How often the store does what is due in the background. While nothing comes, it is asked a tenth as often.
    pub maintain_every: Duration,
}

/// A batch that is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct AppliedBatch {
    /// Who sent it.
    pub source: Source,
    /// The batch, without what was rejected.
    pub batch: ReadingBatch,
    /// When it came, in microseconds since 1970-01-01 UTC by the server's clock.
    pub received_us: i64,
}

/// What must see every batch: features, alerts. Each batch is shown once while the process lives, in the order of
/// commits, before it is acknowledged as applied. While this takes its time, commits go on for a while and then wait.
/// Of several, each sees a batch after those before it, and waits for none of those behind it.
#[async_trait]
pub trait Apply: Send + Sync {
    /// Sees a group of batches.
    async fn apply(&self, batches: &[Arc<AppliedBatch>]);
}

/// Batches as they are stored.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Arc<AppliedBatch>>);

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// A batch.
    Batch(Arc<AppliedBatch>),
    /// The subscriber was slow, and this many batches are gone.
    Missed(u64),
}

/// Takes batches in and stores them.
pub struct Ingestor {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What sessions and tasks share.
struct Shared {
    store: Arc<dyn TelemetryStore>,
    config: IngestConfig,
    counters: Counters,
    quarantine: Quarantine,
    queue: Arc<Queue<Work>>,
    applied: broadcast::Sender<Arc<AppliedBatch>>,
    /// Told when something was stored, of which something may be due soon.
    stored: Notify,
    closing: tokio::sync::watch::Sender<bool>,
}

// === impl IngestConfig ===

impl Default for IngestConfig {
    fn default() -> IngestConfig {
        IngestConfig {
            limits: IngestLimits::default(),
            credit: NonZeroU32::new(256).unwrap_or(NonZeroU32::MIN),
            vehicles_per_gateway_max: 100_000,
            queue_readings_max: 1 << 20,
            group_batches_max: 512,
            group_readings_max: 1 << 14,
            subscriber_batches_max: 1_024,
            maintain_every: Duration::from_millis(100),
        }
    }
}

// === impl Ingestor ===

impl Ingestor {
    /// Starts writing on this runtime. `apply` is shown every batch, in this order.
    #[must_use]
    pub fn start(
        store: Arc<dyn TelemetryStore>,
        config: IngestConfig,
        apply: Vec<Arc<dyn Apply>>,
        runtime: &Handle,
    ) -> Ingestor {
        let (applied, _) = broadcast::channel(config.subscriber_batches_max.max(1));
        let shared = Arc::new(Shared {
            store,
            config,
            counters: Counters::default(),
            quarantine: Quarantine::default(),
            queue: Arc::new(Queue::new(config.queue_readings_max)),
            applied,
            stored: Notify::new(),
            closing: tokio::sync::watch::Sender::new(false),
        });
        let Appliers { first, mut tasks } = Appliers::start(&shared, apply, runtime);
        tasks.push(runtime.spawn(writer::write(Arc::clone(&shared), first)));
        tasks.push(runtime.spawn(writer::maintain(Arc::clone(&shared))));
        Ingestor { shared, tasks: Mutex::new(tasks) }
    }

    /// Begins a session of a gateway, with what has come of these vehicles.
    ///
    /// Of one source there should be one session at a time. If there are two, every batch is still stored once.
    ///
    /// # Errors
    ///
    /// When there are more vehicles than a gateway may have, or the store fails.
    pub async fn open(&self, source: Source, vehicles: &[VehicleId]) -> Result<Session, TelemetryError> {
        if *self.shared.closing.borrow() {
            return Err(TelemetryError::ShuttingDown);
        }
        Session::open(Arc::clone(&self.shared), source, vehicles).await
    }

    /// Batches from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.shared.applied.subscribe())
    }

    /// Counts and keeps a reject that the edge found: an unknown signal, an implausible value. The batch goes on to
    /// [`Session::submit`] without it, empty if need be, so that its number is counted. What is quarantined first is
    /// stored before the batch is called durable.
    pub fn quarantine(&self, quarantined: Quarantined) {
        self.shared.reject(quarantined);
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> IngestStats {
        self.shared.counters.snapshot()
    }

    /// What was rejected, the latest first: of this process all that was kept, and of those before it, or beside it on
    /// the same database.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn quarantined(&self, query: &QuarantineQuery) -> Result<QuarantinePage, TelemetryError> {
        // A store that cannot be written may still be read; it was told, and what waits goes on waiting.
        let _ = self.shared.keep_rejects().await;
        self.shared.store.quarantined(query).await
    }

    /// Share of the queue that is taken, 0 to 1.
    #[must_use]
    pub fn saturation(&self) -> f64 {
        self.shared.queue.saturation()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn TelemetryStore> {
        &self.shared.store
    }

    /// Takes nothing more in, stores and applies what was received, and ends. The store stays open.
    pub async fn drain(&self) {
        self.shared.closing.send_replace(true);
        self.shared.queue.close();
        for task in self.tasks.lock().await.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(error = &error as &dyn std::error::Error, "a task of telemetry failed");
            }
        }
        let _ = self.shared.keep_rejects().await;
    }
}

impl std::fmt::Debug for Ingestor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingestor").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// Counts a reject, and has it stored with the next commit, or soon where there is none.
    fn reject(&self, one: Quarantined) {
        self.counters.reject(&one.reject);
        if self.quarantine.add(one) {
            self.stored.notify_one();
        } else {
            Counters::add(&self.counters.rejects_not_kept, 1);
        }
    }

    /// Stores the rejects that wait, though no batch came with them.
    async fn keep_rejects(&self) -> Result<(), TelemetryError> {
        let rejects = self.quarantine.take();
        if rejects.is_empty() {
            return Ok(());
        }
        let kept = self.store.commit(&[], &rejects).await.map(drop);
        if let Err(error) = &kept {
            tracing::warn!(error = error as &dyn std::error::Error, "rejected readings could not be stored");
            self.put_back(rejects);
        }
        kept
    }

    /// After a commit that failed.
    fn put_back(&self, rejects: Vec<Quarantined>) {
        Counters::add(&self.counters.rejects_not_kept, self.quarantine.put_back(rejects) as u64);
    }
}

// === impl Subscription ===

impl Subscription {
    /// The next batch, or how many were missed; none when the ingestor has ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Observed> {
        match self.0.recv().await {
            Ok(batch) => Some(Observed::Batch(batch)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Observed::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
