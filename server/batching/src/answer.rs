//! The way back: every row's answer, gathered for the caller of its submission.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use ev_models_core::Tensors;

use crate::{RowError, former::Cut};

/// What became of a row.
pub type RowResult = Result<Answer, RowError>;

/// A row's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What the model gave, in signature order; the first dimension of each tensor is 1.
    pub outputs: Tensors,
    /// Where the time went.
    pub timings: Timings,
    /// Rows that were run together with this one, itself included.
    pub batch_rows: usize,
    /// Why the batch was cut when it was.
    pub cut: Cut,
}

/// Where a row's time went: the three follow each other without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// From admission until its batch was cut.
    pub queue: Duration,
    /// Until all rows of the batch were prepared.
    pub prepare: Duration,
    /// Until the model had run.
    pub inference: Duration,
}

/// Values that are set one by one, by anybody, and taken together, by one.
pub(crate) struct Gather<T> {
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    values: Vec<Option<T>>,
    missing: usize,
    abandoned: bool,
    waker: Option<Waker>,
}

/// The place of one row's answer. Dropped without one, it says so.
pub(crate) struct Slot {
    gather: Arc<Gather<RowResult>>,
    index: usize,
    answered: bool,
}

/// Wakes a thread that waits in [`Gather::wait`].
#[derive(Default)]
struct Parked {
    woken: Mutex<bool>,
    changed: Condvar,
}

/// Locks a mutex whose holder cannot leave it half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Gather ===

impl<T> Gather<T> {
    pub(crate) fn new(values: usize) -> Arc<Gather<T>> {
        let values: Vec<Option<T>> = (0..values).map(|_| None).collect();
        let missing = values.len();
        Arc::new(Gather { inner: Mutex::new(Inner { values, missing, abandoned: false, waker: None }) })
    }

    /// Sets a value, unless it was set before.
    pub(crate) fn set(&self, index: usize, value: T) {
        let waker = {
            let mut inner = lock(&self.inner);
            let Some(place @ None) = inner.values.get_mut(index) else { return };
            *place = Some(value);
            inner.missing -= 1;
            if inner.missing == 0 { inner.waker.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes all values when the last one is there; nobody polls again after that.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Vec<T>> {
        let waker = cx.waker().clone();
        let mut inner = lock(&self.inner);
        if inner.missing == 0 {
            return Poll::Ready(std::mem::take(&mut inner.values).into_iter().flatten().collect());
        }
        let former = inner.waker.replace(waker);
        // A waker may own a task: it is dropped where that task may drop anything.
        drop(inner);
        drop(former);
        Poll::Pending
    }

    /// Nobody will ask; true when something was still missing.
    pub(crate) fn abandon(&self) -> bool {
        let mut inner = lock(&self.inner);
        inner.abandoned = true;
        let (missing, waker) = (inner.missing, inner.waker.take());
        drop(inner);
        drop(waker);
        missing > 0
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        lock(&self.inner).abandoned
    }
}

// === impl Slot ===

impl Slot {
    pub(crate) fn new(gather: &Arc<Gather<RowResult>>, index: usize) -> Slot {
        Slot { gather: Arc::clone(gather), index, answered: false }
    }

    pub(crate) fn answer(mut self, result: RowResult) {
        self.answered = true;
        self.gather.set(self.index, result);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.gather.is_abandoned()
    }

    /// A second place for the same answer; the first answer counts.
    pub(crate) fn twin(&self) -> Slot {
        // Its loss is of no consequence while the original is there.
        Slot { gather: Arc::clone(&self.gather), index: self.index, answered: true }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.answered {
            self.gather.set(self.index, Err(RowError::Lost));
        }
    }
}

// === impl Parked ===

impl Wake for Parked {
    fn wake(self: Arc<Parked>) {
        *lock(&self.woken) = true;
        self.changed.notify_one();
    }
}

/// Waits for a future on a thread that may block.
pub(crate) fn wait<F: Future + Unpin>(mut future: F) -> F::Output {
    let parked = Arc::new(Parked::default());
    let waker = Waker::from(Arc::clone(&parked));
    loop {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut woken = lock(&parked.woken);
        while !*woken {
            woken = parked.changed.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
        *woken = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_counts_and_a_lost_one_is_told() {
        let gather = Gather::new(2);
        let slot = Slot::new(&gather, 0);
        slot.twin().answer(Err(RowError::ShuttingDown));
        slot.answer(Err(RowError::DeadlineExceeded));
        let mut context = Context::from_waker(Waker::noop());
        assert!(gather.poll(&mut context).is_pending());
        let lost = Slot::new(&gather, 1);
        drop(lost.twin());
        assert!(gather.poll(&mut context).is_pending());
        drop(lost);
        let Poll::Ready(results) = gather.poll(&mut context) else { panic!("both are there") };
        assert!(matches!(results[..], [Err(RowError::ShuttingDown), Err(RowError::Lost)]));
        assert!(!gather.abandon());
    }
}
