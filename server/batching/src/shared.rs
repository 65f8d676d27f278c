//! What callers and workers share: the former behind a lock, and who waits for it.
//!
//! The lock is held for a push or for cutting a batch, never while a row is prepared, run, answered or dropped:
//! a worker has a lower scheduling priority than the serving threads that wait for it.

use std::{
    ops::Range,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Prepare, RowError, SubmitError, Urgency,
    answer::{Slot, lock},
    former::{Batch, DropReason, Dropped, Former, Pending, Poll, RowId},
    stats::{Busy, Drops, Failures, Stats},
};

/// A worker that pauses looks this often for rows whose deadline has passed.
const EXPIRE_EVERY: Duration = Duration::from_millis(50);

/// Shared by a scheduler, its workers and its callers.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Of each worker: there may be a batch for it, or the phase changed.
    work: Vec<Condvar>,
    /// The phase changed: for workers that pause, so that they do not take a wake-up that another could use.
    paused: Condvar,
    /// A worker ended.
    ended: Condvar,
}

/// A row in the queue.
pub(crate) struct Job {
    pub(crate) slot: Slot,
    pub(crate) prepare: Box<dyn Prepare>,
}

/// What a worker does next.
pub(crate) enum Next {
    /// Runs a batch, which was cut at this time.
    Batch(Batch<Job>, Instant),
    /// Goes to its other thread, which looks for a batch at once: nobody else is woken for it.
    Relieved,
    /// Ends.
    End,
}

/// What came of a batch.
#[derive(Default)]
pub(crate) struct BatchCounts {
    pub(crate) answered: u64,
    pub(crate) failed: Failures,
    pub(crate) dropped: Drops,
    pub(crate) ran: usize,
    /// Waiting for the process's turn after the batch was cut, in sum over rows.
    pub(crate) turn: Duration,
    pub(crate) prepare: Duration,
    pub(crate) inference: Duration,
    pub(crate) instance_replaced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Finishes what is queued.
    Draining,
    /// Takes no more batches.
    Stopped,
}

struct State {
    former: Former<Job>,
    phase: Phase,
    /// Workers that wait for work; the last one is woken first. What it ran last is still in its processor's cache,
    /// where one that has waited longest would find its instance's memory cold.
    idle: Vec<usize>,
    /// Of each worker, the places of the answers it owes.
    running: Vec<Option<Vec<Slot>>>,
    alive: usize,
    /// Workers that are still alive are not waited for any more.
    given_up: bool,
    busy: Busy,
    stats: Stats,
    queue_max: usize,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(former: Former<Job>, workers: usize, queue_max: usize) -> Shared {
        let state = State {
            former,
            phase: Phase::Running,
            idle: Vec::with_capacity(workers),
            running: (0..workers).map(|_| None).collect(),
            alive: 0,
            given_up: false,
            busy: Busy::new(workers, Instant::now()),
            stats: Stats::default(),
            queue_max,
        };
        let work = (0..workers).map(|_| Condvar::new()).collect();
        Shared { state: Mutex::new(state), work, paused: Condvar::new(), ended: Condvar::new() }
    }

    // --- callers

    pub(crate) fn submit(&self, rows: Vec<Pending<Job>>, urgency: Urgency) -> Result<Range<RowId>, SubmitError> {
        let count = rows.len();
        let mut state = lock(&self.state);
        let pushed = if state.phase == Phase::Running {
            // The time is read under the lock, so that it never goes back between two calls of the former.
            state.former.push(rows, urgency, Instant::now()).map_err(|refused| (refused.rows, refused.error))
        } else {
            Err((rows, SubmitError::ShuttingDown))
        };
        match &pushed {
            Ok(_) => state.stats.rows_entered += count as u64,
            Err((_, error)) => state.stats.refuse(error, count),
        }
        let dropped = state.take_dropped();
        let next = if pushed.is_ok() { state.idle.pop() } else { None };
        drop(state);
        self.wake(next);
        dropped.answer();
        pushed.map_err(|(_, error)| error)
    }

    pub(crate) fn cancel(&self, ids: Range<RowId>) {
        let cancelled = {
            let mut state = lock(&self.state);
            let cancelled = state.former.cancel(ids);
            state.stats.dropped.cancelled += cancelled.len() as u64;
            cancelled
        };
        drop(cancelled);
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = lock(&self.state);
        let queue_rows = state.former.rows();
        let queue_share = queue_rows as f64 / state.queue_max as f64;
        Stats {
            rows_left: state.stats.rows_entered - queue_rows as u64,
            queue_rows,
            queue_bytes: state.former.bytes(),
            running_rows: state.running.iter().flatten().map(Vec::len).sum(),
            saturation: state.busy.share(Instant::now()).max(queue_share).min(1.0),
            ..state.stats.clone()
        }
    }

    pub(crate) fn measure(&self, rows: usize, took: Duration) {
        lock(&self.state).former.measure(rows, took, Instant::now());
    }

    // --- workers

    pub(crate) fn started(&self) {
        lock(&self.state).alive += 1;
    }

    /// The next batch for a worker, unless another thread is to run it.
    pub(crate) fn next(&self, worker: usize, is_relieved: impl Fn() -> bool) -> Next {
        let mut state = lock(&self.state);
        loop {
            if state.phase == Phase::Stopped {
                return Next::End;
            }
            if is_relieved() {
                return Next::Relieved;
            }
            let now = Instant::now();
            let poll = state.former.poll(now);
            let dropped = state.take_dropped();
            let wait = match poll {
                Poll::Ready(batch) => {
                    state.begin(worker, &batch, now);
                    // Who pushed woke one worker; what is left is for another.
                    let next = if state.former.rows() > 0 { state.idle.pop() } else { None };
                    drop(state);
                    self.wake(next);
                    dropped.answer();
                    return Next::Batch(batch, now);
                }
                Poll::WaitUntil(instant) => Some(instant.saturating_duration_since(now)),
                Poll::Idle => None,
            };
            if !dropped.is_empty() {
                drop(state);
                dropped.answer();
                state = lock(&self.state);
                continue;
            }
            if wait.is_none() && state.phase == Phase::Draining {
                return Next::End;
            }
            state = self.wait(worker, state, wait);
        }
    }

    /// Waits before an instance is used again; false when the worker is to end.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            // Nobody else may be there to tell callers that their time is over.
            state.former.expire(now);
            let dropped = state.take_dropped();
            if !dropped.is_empty() {
                drop(state);
                dropped.answer();
                state = lock(&self.state);
                continue;
            }
            match state.phase {
                Phase::Stopped => return false,
                Phase::Draining if state.former.rows() == 0 => return false,
                Phase::Running | Phase::Draining => {}
            }
            let Some(left) = until.checked_duration_since(now).filter(|left| !left.is_zero()) else { return true };
            let waited = self.paused.wait_timeout(state, left.min(EXPIRE_EVERY));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A worker ran a batch; its answers are given after this. False: the scheduler gave up on it meanwhile.
    pub(crate) fn finish(&self, worker: usize, counts: &BatchCounts) -> bool {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let owed = state.running[worker].take();
        let busy = state.running.iter().flatten().count();
        state.busy.set(busy, now);
        let stats = &mut state.stats;
        let in_time = owed.is_some();
        // What was given up on is counted already.
        if in_time {
            stats.rows_answered += counts.answered;
            stats.failed.add(counts.failed);
            stats.dropped.add(counts.dropped);
        }
        stats.queue_total += counts.turn;
        stats.prepare_total += counts.prepare;
        stats.inference_total += counts.inference;
        stats.instances_replaced += u64::from(counts.instance_replaced);
        if counts.ran > 0 {
            stats.ran(counts.ran, counts.prepare, counts.inference);
            state.former.measure(counts.ran, counts.prepare + counts.inference, now);
        }
        drop(state);
        drop(owed);
        in_time
    }

    /// A worker ended, because it was to or because of a bug; the last one leaves no caller waiting.
    pub(crate) fn end(&self, worker: usize) {
        let mut state = lock(&self.state);
        let owed = state.running[worker].take();
        state.stats.failed.panicked += owed.as_ref().map_or(0, Vec::len) as u64;
        state.alive -= 1;
        let last = state.alive == 0;
        drop(state);
        drop(owed);
        self.ended.notify_all();
        if last {
            self.stop();
        }
    }

    // --- the end

    /// Refuses new work and finishes what is queued.
    pub(crate) fn drain(&self) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Running {
            state.phase = Phase::Draining;
        }
        state.former.flush();
        drop(state);
        self.wake_all();
    }

    /// Fails what is queued, and lets workers end after what they run.
    pub(crate) fn stop(&self) -> usize {
        let mut state = lock(&self.state);
        state.phase = Phase::Stopped;
        let jobs = state.former.clear();
        let dropped = state.take_dropped();
        state.stats.dropped.shutting_down += jobs.len() as u64;
        drop(state);
        self.wake_all();
        dropped.answer();
        let stopped = jobs.len();
        for job in jobs {
            job.slot.answer(Err(RowError::ShuttingDown));
        }
        stopped
    }

    /// Fails what workers still run. They may go on with it; what they answer comes too late.
    pub(crate) fn give_up(&self) -> usize {
        let mut state = lock(&self.state);
        let owed: Vec<Slot> = state.running.iter_mut().filter_map(Option::take).flatten().collect();
        state.stats.dropped.shutting_down += owed.len() as u64;
        state.given_up = true;
        drop(state);
        let given_up = owed.len();
        for slot in owed {
            slot.answer(Err(RowError::ShuttingDown));
        }
        given_up
    }

    /// Waits until all workers have ended; false when they have not in that time, or were given up before.
    pub(crate) fn wait_for_end(&self, most: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self.ended.wait_timeout_while(state, most, |state| state.alive > 0 && !state.given_up);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.alive == 0
    }

    /// Has workers that wait look whether another thread is to go on with them.
    pub(crate) fn relieve(&self) {
        // A worker that has looked, and does not wait yet, holds the lock.
        drop(lock(&self.state));
        self.wake_all();
    }

    fn wait<'a>(
        &'a self,
        worker: usize,
        mut state: MutexGuard<'a, State>,
        most: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        state.idle.push(worker);
        let work = &self.work[worker];
        let mut state = match most {
            None => work.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(most) => work.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0,
        };
        // Nobody may have woken it: its time was over.
        state.idle.retain(|idle| *idle != worker);
        state
    }

    fn wake(&self, worker: Option<usize>) {
        if let Some(worker) = worker {
            self.work[worker].notify_one();
        }
    }

    fn wake_all(&self) {
        self.work.iter().for_each(Condvar::notify_one);
        self.paused.notify_all();
    }
}

// === impl State ===

impl State {
    fn begin(&mut self, worker: usize, batch: &Batch<Job>, now: Instant) {
        self.running[worker] = Some(batch.rows.iter().map(|queued| queued.row.slot.twin()).collect());
        self.busy.set(self.running.iter().flatten().count(), now);
        self.stats.cut(batch.cut);
        let waited = batch.rows.iter().map(|queued| now.saturating_duration_since(queued.entered));
        self.stats.queue_total += waited.sum::<Duration>();
    }

    /// Rows the former dropped, counted, to be answered without the lock.
    fn take_dropped(&mut self) -> DroppedJobs {
        let rows = self.former.take_dropped();
        for dropped in &rows {
            self.stats.dropped.count(dropped.reason);
        }
        let retry_after = if rows.is_empty() { Duration::ZERO } else { self.former.retry_after() };
        DroppedJobs { rows, retry_after }
    }
}

/// Rows that the former dropped.
#[must_use]
struct DroppedJobs {
    rows: Vec<Dropped<Job>>,
    retry_after: Duration,
}

impl DroppedJobs {
    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn answer(self) {
        for Dropped { row, reason } in self.rows {
            row.slot.answer(Err(match reason {
                DropReason::Expired => RowError::DeadlineExceeded,
                DropReason::Late => RowError::WouldMissDeadline,
                DropReason::Displaced => RowError::Displaced { retry_after: self.retry_after },
            }));
        }
    }
}
