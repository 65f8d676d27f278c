//! The queue of one deployment: its scheduler, and an end that holds up nobody.

use std::{sync::Arc, time::Duration};

use ev_batching::{Answers, Budget, Row, Scheduler, Settings, StartError, SubmitError, Urgency};
use ev_models_core::Model;

/// What runs a queued deployment.
pub(crate) struct Queue {
    /// Taken when it is dropped.
    scheduler: Option<Scheduler>,
    settings: Settings,
    row_bytes: usize,
}

/// What queues are made with.
#[derive(Debug, Clone)]
pub(crate) struct QueueConfig {
    pub(crate) settings: Settings,
    /// Shared by all queues of the process.
    pub(crate) budget: Budget,
}

/// A queue could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum QueueError {
    /// It would refuse every row.
    #[error("a row has {bytes} bytes, but `batching.max_queue_bytes` is {max}")]
    RowTooLarge {
        /// Of one row.
        bytes: usize,
        /// What may wait.
        max: usize,
    },
    /// No scheduler.
    #[error("its worker threads cannot be started")]
    Start(#[source] StartError),
}

// === impl Queue ===

impl Queue {
    /// Makes instances and starts worker threads. Slow and blocking.
    ///
    /// # Errors
    ///
    /// [`QueueError`].
    pub(crate) fn start(
        name: &str,
        model: &Arc<dyn Model>,
        row_bytes: usize,
        config: &QueueConfig,
    ) -> Result<Queue, QueueError> {
        let settings = config.settings.clone();
        let max = settings.max_queue_bytes;
        if row_bytes > max {
            return Err(QueueError::RowTooLarge { bytes: row_bytes, max });
        }
        let scheduler = Scheduler::start_within(config.budget.clone(), name, model, settings.clone());
        Ok(Queue { scheduler: Some(scheduler.map_err(QueueError::Start)?), settings, row_bytes })
    }

    /// Admits all rows, or none.
    ///
    /// # Errors
    ///
    /// [`SubmitError`].
    pub(crate) fn submit(&self, rows: Vec<Row>, urgency: Urgency) -> Result<Answers, SubmitError> {
        match &self.scheduler {
            Some(scheduler) => scheduler.submit(rows, urgency),
            None => Err(SubmitError::ShuttingDown),
        }
    }

    /// What it was made with.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Counts so far.
    pub(crate) fn stats(&self) -> ev_batching::Stats {
        self.scheduler.as_ref().map(Scheduler::stats).unwrap_or_default()
    }

    /// A run was measured elsewhere.
    pub(super) fn measured(&self, rows: usize, took: Duration) {
        if let Some(scheduler) = &self.scheduler {
            scheduler.measured(rows, took);
        }
    }

    /// As [`Queue::rows_a_wave`], of rows with these sizes in bytes.
    pub(crate) fn wave(&self, runs: usize, sizes: impl Iterator<Item = usize>) -> usize {
        let Settings { max_batch_size, instance_count, max_queue_size, max_queue_bytes, .. } = self.settings;
        let rows = max_batch_size.saturating_mul(instance_count).saturating_mul(runs).min(max_queue_size);
        let mut bytes = 0usize;
        let fits = |size: &usize| {
            bytes = bytes.saturating_add(*size);
            bytes <= max_queue_bytes
        };
        sizes.take(rows).take_while(fits).count().max(1)
    }

    /// Rows of a submission that keeps every instance busy for `runs` runs, as far as the queue holds them.
    pub(crate) fn rows_a_wave(&self, runs: usize) -> usize {
        let Settings { max_batch_size, instance_count, max_queue_size, max_queue_bytes, .. } = self.settings;
        let rows = max_batch_size.saturating_mul(instance_count).saturating_mul(runs);
        rows.min(max_queue_size).min(max_queue_bytes / self.row_bytes.max(1)).max(1)
    }

    /// Finishes what is queued; after `grace` fails what is left, and says how many rows that were.
    pub(super) async fn drain(&self, grace: Duration) -> usize {
        match &self.scheduler {
            Some(scheduler) => scheduler.drain(grace).await.unfinished_rows,
            None => 0,
        }
    }
}

impl Drop for Queue {
    /// The last request of a replaced deployment ends on a serving thread, which must not wait for workers.
    fn drop(&mut self) {
        let scheduler = self.scheduler.take();
        // Without a thread for it, the closure and with it the scheduler is dropped here.
        let _ = std::thread::Builder::new().name("retire".to_owned()).spawn(move || drop(scheduler));
    }
}
