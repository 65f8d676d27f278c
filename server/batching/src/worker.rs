//! A worker: prepares and runs one batch after the other on the instance it owns.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use ev_models_core::Tensors;

use crate::{
    Answer, Budget, Job, RowError, RowShape, Timings,
    answer::Slot,
    former::Batch,
    inputs::RowInputs,
    place::{Shift, Spot},
    row::{Prepare, Scratch},
    seat::{self, Failure, Seat},
    shared::{BatchCounts, Next, Shared},
    tensors,
};

/// One worker: run by one thread at a time.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    seat: Seat,
    budget: Budget,
    scratch: Scratch,
    /// Memory of the last batch.
    batch: Tensors,
    /// Dropped last: who waits for the end finds the instance gone.
    _end: End,
}

/// A row whose answer is given when the batch has been counted.
type Outcome = (Slot, Result<Answer, RowError>);

/// A row that is in the batch.
struct Prepared {
    slot: Slot,
    entered: Instant,
}

/// Tells the others when the worker ends, however it ends.
struct End(Arc<Shared>, usize);

// === impl Worker ===

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, seat: Seat, budget: Budget) -> Worker {
        shared.started();
        let _end = End(Arc::clone(&shared), index);
        Worker { shared, index, seat, budget, scratch: Scratch::default(), batch: Tensors::default(), _end }
    }

    /// Works until the scheduler ends, or until the worker's other thread is to go on.
    pub(crate) fn work(mut self, shift: Shift) -> Option<Worker> {
        let (budget, mut spot) = (self.budget.clone(), Spot::default());
        while self.sit() {
            let (batch, cut) = match self.shared.next(self.index, || shift.is_over(&budget)) {
                Next::Batch(batch, cut) => (batch, cut),
                Next::Relieved => return Some(self),
                Next::End => break,
            };
            let turn = budget.take(shift, self.index);
            if shift == Shift::StandIn {
                spot.keep_to(turn.place());
            }
            // Waiting for a turn is waiting, and rows whose time it took are not run.
            let taken = Instant::now();
            let rows = u32::try_from(batch.rows.len()).unwrap_or(u32::MAX);
            let (mut counts, outcomes) = self.execute(batch, taken);
            drop(turn);
            counts.turn = (taken - cut) * rows;
            // Counted first: who has an answer finds it in the counts.
            let in_time = self.shared.finish(self.index, &counts);
            for (slot, outcome) in outcomes {
                slot.answer(if in_time { outcome } else { Err(RowError::ShuttingDown) });
            }
        }
        None
    }

    /// Sees to it that there is an instance to run; false when the worker is to end.
    fn sit(&mut self) -> bool {
        loop {
            if let Some(pause) = self.seat.pause()
                && !self.shared.pause(pause)
            {
                return false;
            }
            if !self.seat.is_vacant() || self.seat.fill() {
                return true;
            }
        }
    }

    fn execute(&mut self, batch: Batch<Job>, taken: Instant) -> (BatchCounts, Vec<Outcome>) {
        let Batch { rows, shape, cut } = batch;
        let mut counts = BatchCounts::default();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(rows.len());
        let mut prepared: Vec<Prepared> = Vec::with_capacity(rows.len());
        self.batch = tensors::allocate(&shape, rows.len(), std::mem::take(&mut self.batch));
        for queued in rows {
            let Job { slot, prepare } = queued.row;
            if slot.is_abandoned() {
                counts.dropped.cancelled += 1;
            } else if queued.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                counts.dropped.expired += 1;
                outcomes.push((slot, Err(RowError::DeadlineExceeded)));
            } else {
                match self.prepare(&shape, prepare, prepared.len()) {
                    Ok(()) => prepared.push(Prepared { slot, entered: queued.entered }),
                    Err(error) => {
                        counts.failed.prepare += 1;
                        outcomes.push((slot, Err(error)));
                    }
                }
            }
        }
        let ready = Instant::now();
        counts.prepare = ready - taken;
        if prepared.is_empty() {
            return (counts, outcomes);
        }
        tensors::truncate(&shape, &mut self.batch, prepared.len());
        let ran = self.seat.run(&self.batch, prepared.len());
        counts.ran = prepared.len();
        counts.inference = ready.elapsed();
        let batch_rows = prepared.len();
        match ran {
            Ok(outputs) => {
                counts.answered += batch_rows as u64;
                outcomes.extend(prepared.into_iter().zip(outputs).map(|(Prepared { slot, entered }, outputs)| {
                    let queue = taken.saturating_duration_since(entered);
                    let timings = Timings { queue, prepare: counts.prepare, inference: counts.inference };
                    (slot, Ok(Answer { outputs, timings, batch_rows, cut }))
                }));
            }
            Err(failure) => {
                let error = self.failed(failure, batch_rows, &mut counts);
                outcomes.extend(prepared.into_iter().map(|Prepared { slot, .. }| (slot, Err(error()))));
            }
        }
        (counts, outcomes)
    }

    /// Prepares a row in its place; a panic fails this row alone.
    fn prepare(&mut self, shape: &RowShape, prepare: Box<dyn Prepare>, row: usize) -> Result<(), RowError> {
        let Worker { batch, scratch, .. } = self;
        let prepared = catch_unwind(AssertUnwindSafe(|| {
            let mut inputs = RowInputs::new(shape, batch, row);
            prepare.prepare(&mut inputs, scratch)?;
            inputs.finish().map_err(Into::into)
        }));
        prepared.map_or_else(
            |panic| {
                scratch.clear();
                Err(RowError::PreparePanicked { message: seat::message(panic) })
            },
            |prepared| prepared.map_err(RowError::Prepare),
        )
    }

    /// Counts a batch that failed, and says how to make each of its rows' errors.
    fn failed(&mut self, failure: Failure, rows: usize, counts: &mut BatchCounts) -> impl Fn() -> RowError + use<> {
        match &failure {
            Failure::Run(_) | Failure::Output { .. } => counts.failed.run += rows as u64,
            Failure::Panicked(_) => {
                counts.failed.panicked += rows as u64;
                counts.instance_replaced = self.seat.fill();
            }
        }
        move || match &failure {
            Failure::Run(error) => RowError::Run(Arc::clone(error)),
            Failure::Output { output, found } => RowError::Output { output: *output, found: found.clone(), rows },
            Failure::Panicked(message) => RowError::Panicked { message: message.clone() },
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}
