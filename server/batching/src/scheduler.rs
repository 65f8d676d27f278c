//! The scheduler of one deployment: admits rows, has workers run them, and ends in good order.

use std::{
    future::Future,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::Duration,
};

use ev_models_core::Model;

use crate::{
    Budget, Row, RowResult, Settings, StartError, Stats, SubmitError, Urgency,
    answer::{Gather, Slot, lock, wait},
    former::{Former, Pending, RowId},
    place::Post,
    seat::Seat,
    shared::{Job, Shared},
    worker::Worker,
};

/// Dropping a scheduler waits this long for runs to end; what hangs for longer is left behind.
const DROP_WAIT_MAX: Duration = Duration::from_secs(1);
/// Linux cuts the names of threads to this many bytes.
const THREAD_NAME_MAX: usize = 15;

/// Forms batches of the rows of one deployment and runs them on worker threads of its own.
///
/// Dropping it fails what is queued with [`crate::RowError::ShuttingDown`] and joins its threads; it waits for at most
/// a second for what they run. [`Scheduler::drain`] before, and dropping does not wait.
pub struct Scheduler {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Answers to come: one for each row of a submission, in the rows' order.
///
/// # Cancel safety
///
/// Dropping it gives up the rows: the places of those that wait are free at once, those in a batch that is still being
/// prepared are left out of it, and the others are run for nobody.
#[must_use = "dropping the answers gives up the rows"]
pub struct Answers {
    gather: Arc<Gather<RowResult>>,
    shared: Arc<Shared>,
    ids: Range<RowId>,
    taken: bool,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Rows that were not answered within the grace: failed with [`crate::RowError::ShuttingDown`].
    pub unfinished_rows: usize,
}

// === impl Scheduler ===

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Makes `instance_count` instances and starts a worker thread for each, with a budget of its own.
    /// Slow and blocking.
    ///
    /// `name` is what the threads are called by.
    ///
    /// # Errors
    ///
    /// [`StartError`] when a setting is out of its range, or an instance or a thread cannot be made.
    pub fn start(name: &str, model: &Arc<dyn Model>, settings: Settings) -> Result<Scheduler, StartError> {
        let budget = Budget::new(settings.instance_count);
        Scheduler::start_within(budget, name, model, settings)
    }

    /// As [`Scheduler::start`], with a budget that is shared with other schedulers.
    ///
    /// # Errors
    ///
    /// As [`Scheduler::start`].
    pub fn start_within(
        budget: Budget,
        name: &str,
        model: &Arc<dyn Model>,
        settings: Settings,
    ) -> Result<Scheduler, StartError> {
        let Settings { instance_count, worker_priority, max_queue_size, .. } = settings;
        let former = Former::new(settings).map_err(StartError::Settings)?;
        let seat = |index| match model.instantiate() {
            Ok(instance) => Ok(Seat::new(Arc::clone(model), instance)),
            Err(source) => Err(StartError::Instance { index, source }),
        };
        let seats = (0..instance_count).map(seat).collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared::new(former, instance_count, max_queue_size));
        // From here on, an early return drops it and joins the threads that were started.
        let scheduler = Scheduler { shared, threads: Mutex::default() };
        budget.tell(&scheduler.shared);
        for (index, seat) in seats.into_iter().enumerate() {
            let worker = Worker::new(Arc::clone(&scheduler.shared), index, seat, budget.clone());
            let (post, stand_in) = Post::of(worker_priority);
            // First the one that only waits: without it the worker, which is dropped then, has not begun.
            if let Some(stand_in) = stand_in {
                scheduler.spawn(index, name, move || stand_in.keep(None))?;
            }
            scheduler.spawn(index, name, move || post.keep(Some(worker)))?;
        }
        Ok(scheduler)
    }

    fn spawn(&self, index: usize, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        let spawned = thread::Builder::new().name(thread_name(index, name)).spawn(work);
        lock(&self.threads).push(spawned.map_err(|source| StartError::Thread { index, source })?);
        Ok(())
    }

    /// Admits all rows of a submission, or none. Does not block; admission is decided when this returns.
    ///
    /// The rows may be split over batches. [`Answers`] is a future of all of them.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] says whether to come back, and when.
    pub fn submit(&self, rows: Vec<Row>, urgency: Urgency) -> Result<Answers, SubmitError> {
        let gather = Gather::new(rows.len());
        let pending = |(index, row): (usize, Row)| Pending {
            row: Job { slot: Slot::new(&gather, index), prepare: row.prepare },
            shape: row.shape,
            bytes: row.bytes,
        };
        let ids = self.shared.submit(rows.into_iter().enumerate().map(pending).collect(), urgency)?;
        Ok(Answers { gather, shared: Arc::clone(&self.shared), ids, taken: false })
    }

    /// Tells what a batch of so many rows took elsewhere, such as at warm-up: deadlines are judged by it until batches
    /// have been run here.
    pub fn measured(&self, rows: usize, took: Duration) {
        self.shared.measure(rows, took);
    }

    /// Counts so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Refuses new rows, finishes what is queued, and after `grace` fails whatever is left, also what an instance is
    /// still busy with.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the drain goes on to its end whether it is awaited or not.
    pub async fn drain(&self, grace: Duration) -> Drained {
        let gather = Gather::new(1);
        let (shared, result) = (Arc::clone(&self.shared), Arc::clone(&gather));
        // The grace needs somebody who waits, and there is no timer here.
        let waiter = thread::Builder::new().name("drain".to_owned());
        if waiter.spawn(move || result.set(0, drain(&shared, grace))).is_err() {
            return drain(&self.shared, Duration::ZERO);
        }
        let drained = std::future::poll_fn(|cx| gather.poll(cx)).await;
        drained.first().copied().unwrap_or(Drained { unfinished_rows: 0 })
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.stop();
        let threads = std::mem::take(&mut *lock(&self.threads));
        let here = thread::current().id();
        // Dropped by something a worker itself dropped: it cannot wait for itself.
        let on_worker = threads.iter().any(|thread| thread.thread().id() == here);
        let ended = !on_worker && self.shared.wait_for_end(DROP_WAIT_MAX);
        if !ended {
            self.shared.give_up();
        }
        for thread in threads {
            if ended || thread.is_finished() {
                // A worker that panicked has answered its rows while it unwound.
                let _ = thread.join();
            }
        }
    }
}

fn drain(shared: &Shared, grace: Duration) -> Drained {
    shared.drain();
    if shared.wait_for_end(grace) {
        return Drained { unfinished_rows: 0 };
    }
    let stopped = shared.stop();
    Drained { unfinished_rows: stopped + shared.give_up() }
}

/// The number first: it is what tells the threads of one deployment apart when the name is cut.
fn thread_name(index: usize, name: &str) -> String {
    let mut thread = format!("run{index}-{name}").replace('\0', "");
    let end = (0..=THREAD_NAME_MAX.min(thread.len())).rev().find(|end| thread.is_char_boundary(*end));
    thread.truncate(end.unwrap_or_default());
    thread
}

// === impl Answers ===

impl Answers {
    /// Waits on a thread that may block, which a serving thread may not.
    #[must_use]
    pub fn wait(self) -> Vec<RowResult> {
        wait(self)
    }
}

impl Future for Answers {
    type Output = Vec<RowResult>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<RowResult>> {
        let results = self.gather.poll(cx);
        self.taken |= results.is_ready();
        results
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if !self.taken && self.gather.abandon() {
            self.shared.cancel(self.ids.clone());
        }
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("rows", &self.ids).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_named_within_the_limit() {
        let check = |index: usize, name: &str, expected: &str| assert_eq!(thread_name(index, name), expected);
        check(0, "soh", "run0-soh");
        check(12, "vehicle-classifier", "run12-vehicle-c");
        check(0, "ééééééé", "run0-ééééé");
        check(0, "a\0b", "run0-ab");
    }
}
