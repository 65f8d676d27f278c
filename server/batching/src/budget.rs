//! How many batches run at one time, over all schedulers of a process, and what goes on beside them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::answer::lock;

/// Who has waited this long for a place runs all the same: an engine that hangs must not hold up the other models.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Places for batches that run at one time, shared by schedulers.
///
/// More runs than CPUs only take turns, and each of them takes longer. Who waits longest is next, so that a busy model
/// leaves room for one that is seldom asked.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Places>);

#[derive(Debug)]
struct Places {
    state: Mutex<State>,
    freed: Condvar,
    /// Pieces of background work under way.
    background: AtomicUsize,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Who waits, in the order they came.
    waiting: VecDeque<u64>,
    next: u64,
}

/// A place, until it is dropped.
#[must_use = "dropping it gives the place back"]
pub(crate) struct Turn<'a>(Option<&'a Places>);

/// Work of the lowest priority that goes on beside batches, such as loading a model, until it is dropped.
#[must_use = "dropping it says that the work is done"]
#[derive(Debug)]
pub struct Background(Arc<Places>);

// === impl Budget ===

impl Budget {
    /// So many places, at least one.
    #[must_use]
    pub fn new(places: usize) -> Budget {
        let state = State { free: places.max(1), waiting: VecDeque::new(), next: 0 };
        Budget(Arc::new(Places { state: Mutex::new(state), freed: Condvar::new(), background: AtomicUsize::new(0) }))
    }

    /// Tells workers of idle priority that other work of that priority goes on until this is dropped.
    ///
    /// The system shares a processor equally between them, and half of one is too little for a model that is busy for more
    /// than half of its time. So batches that are cut meanwhile are run at a priority above it, if not by much.
    pub fn background(&self) -> Background {
        self.0.background.fetch_add(1, Ordering::Relaxed);
        Background(Arc::clone(&self.0))
    }

    pub(crate) fn has_background(&self) -> bool {
        self.0.background.load(Ordering::Relaxed) > 0
    }

    /// Waits for a place.
    pub(crate) fn take(&self) -> Turn<'_> {
        self.take_within(WAIT_MAX)
    }

    fn take_within(&self, most: Duration) -> Turn<'_> {
        let places = &*self.0;
        let mut state = lock(&places.state);
        let ticket = state.next;
        state.next += 1;
        state.waiting.push_back(ticket);
        let is_not_next = |state: &mut State| state.free == 0 || state.waiting.front() != Some(&ticket);
        let waited = places.freed.wait_timeout_while(state, most, is_not_next);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting.retain(|waiting| *waiting != ticket);
        let more = state.free > usize::from(!waited.timed_out()) && !state.waiting.is_empty();
        let turn = if waited.timed_out() {
            Turn(None)
        } else {
            state.free -= 1;
            Turn(Some(places))
        };
        drop(state);
        // Whoever came after may be next now.
        if more {
            places.freed.notify_all();
        }
        turn
    }
}

// === impl Turn ===

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(places) = self.0 {
            lock(&places.state).free += 1;
            places.freed.notify_all();
        }
    }
}

// === impl Background ===

impl Drop for Background {
    fn drop(&mut self) {
        self.0.background.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_nobody_waits_for_ever() {
        let budget = Budget::new(0);
        let first = budget.take();
        assert!(first.0.is_some());
        let second = budget.take_within(Duration::ZERO);
        assert!(second.0.is_none(), "it goes on without a place");
        drop(second);
        assert_eq!(lock(&budget.0.state).free, 0);
        drop(first);
        assert!(budget.take_within(Duration::ZERO).0.is_some());
        assert!(lock(&budget.0.state).waiting.is_empty());
    }

    #[test]
    fn who_waits_longest_is_next() {
        let budget = Budget::new(1);
        let first = budget.take();
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for index in 0..4 {
                let (budget, order) = (&budget, &order);
                scope.spawn(move || {
                    let _turn = budget.take_within(Duration::from_secs(60));
                    lock(order).push(index);
                });
                while lock(&budget.0.state).waiting.len() <= index {
                    std::thread::yield_now();
                }
            }
            drop(first);
        });
        assert_eq!(*lock(&order), [0, 1, 2, 3]);
    }
}
