//! How many batches run at one time, over all schedulers of a process, and what goes on beside them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{answer::lock, place::Shift, shared::Shared};

/// Who has waited this long for a place runs all the same: an engine that hangs must not hold up the other models.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Longest wait of background work for batches that were begun at its own priority.
const IDLE_WAIT_MAX: Duration = Duration::from_millis(100);

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
    /// Schedulers with workers of idle priority.
    watching: Mutex<Vec<Weak<Shared>>>,
}

#[derive(Debug)]
struct State {
    /// Whether somebody has it, of each place.
    taken: Box<[bool]>,
    /// Batches that threads of idle priority run.
    idle_runs: usize,
    /// Who waits, in the order they came.
    waiting: VecDeque<u64>,
    next: u64,
}

/// A place, until it is dropped.
#[must_use = "dropping it gives the place back"]
pub(crate) struct Turn<'a> {
    places: &'a Places,
    /// Which of those that there are; none of one that goes on without.
    place: Option<usize>,
    is_idle: bool,
}

/// Work of the lowest priority that goes on beside batches, such as loading a model, until it is dropped.
#[must_use = "dropping it says that the work is done"]
#[derive(Debug)]
pub struct Background(Arc<Places>);

// === impl Budget ===

impl Budget {
    /// So many places, at least one.
    #[must_use]
    pub fn new(places: usize) -> Budget {
        let taken = vec![false; places.max(1)].into();
        let state = State { taken, idle_runs: 0, waiting: VecDeque::new(), next: 0 };
        Budget(Arc::new(Places {
            state: Mutex::new(state),
            freed: Condvar::new(),
            background: AtomicUsize::new(0),
            watching: Mutex::default(),
        }))
    }

    /// Tells workers of idle priority that other work of that priority goes on until this is dropped. Blocks until they have
    /// ended what they run, for a tenth of a second at most.
    ///
    /// The system shares a processor equally between them, and half of one is too little for a model that is busy for more
    /// than half of its time. So batches that are cut meanwhile are run at a priority above it, if not by much.
    pub fn background(&self) -> Background {
        let places = &*self.0;
        if places.background.fetch_add(1, Ordering::Relaxed) == 0 {
            places.tell_workers();
        }
        let waiting = places.freed.wait_timeout_while(lock(&places.state), IDLE_WAIT_MAX, |state| state.idle_runs > 0);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
        Background(Arc::clone(&self.0))
    }

    /// Tells a scheduler's workers when background work begins, and when it ends.
    pub(crate) fn tell(&self, workers: &Arc<Shared>) {
        let mut watching = lock(&self.0.watching);
        watching.retain(|shared| shared.strong_count() > 0);
        watching.push(Arc::downgrade(workers));
    }

    pub(crate) fn has_background(&self) -> bool {
        self.0.background.load(Ordering::Relaxed) > 0
    }

    /// Waits for a place: `usual`, counted from the first again after the last, where that is free.
    pub(crate) fn take(&self, shift: Shift, usual: usize) -> Turn<'_> {
        self.take_within(WAIT_MAX, shift == Shift::Idle, usual)
    }

    fn take_within(&self, most: Duration, is_idle: bool, usual: usize) -> Turn<'_> {
        let places = &*self.0;
        let mut state = lock(&places.state);
        let ticket = state.next;
        state.next += 1;
        state.waiting.push_back(ticket);
        let is_not_next = |state: &mut State| !state.has_free() || state.waiting.front() != Some(&ticket);
        let waited = places.freed.wait_timeout_while(state, most, is_not_next);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting.retain(|waiting| *waiting != ticket);
        let place = if waited.timed_out() { None } else { state.take(usual) };
        let more = state.has_free() && !state.waiting.is_empty();
        state.idle_runs += usize::from(is_idle);
        let turn = Turn { places, place, is_idle };
        drop(state);
        // Whoever came after may be next now.
        if more {
            places.freed.notify_all();
        }
        turn
    }
}

// === impl Places ===

impl Places {
    fn tell_workers(&self) {
        let watching: Vec<Arc<Shared>> = lock(&self.watching).iter().filter_map(Weak::upgrade).collect();
        watching.iter().for_each(|shared| shared.relieve());
    }
}

// === impl State ===

impl State {
    fn has_free(&self) -> bool {
        self.taken.contains(&false)
    }

    /// Takes a free place, the usual one if it can be.
    fn take(&mut self, usual: usize) -> Option<usize> {
        let usual = usual % self.taken.len();
        let place = if self.taken[usual] { self.taken.iter().position(|taken| !taken)? } else { usual };
        self.taken[place] = true;
        Some(place)
    }
}

// === impl Turn ===

impl Turn<'_> {
    /// Which place it is, of how many; none of one that goes on without.
    pub(crate) fn place(&self) -> Option<(usize, usize)> {
        self.place.map(|place| (place, lock(&self.places.state).taken.len()))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.places.state);
        if let Some(place) = self.place {
            state.taken[place] = false;
        }
        state.idle_runs -= usize::from(self.is_idle);
        drop(state);
        self.places.freed.notify_all();
    }
}

// === impl Background ===

impl Drop for Background {
    fn drop(&mut self) {
        if self.0.background.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.tell_workers();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkerPriority;

    const USUAL: Shift = Shift::Only(WorkerPriority::Normal);

    #[test]
    fn background_work_waits_for_batches_of_its_priority() {
        let budget = Budget::new(2);
        let (usual, idle) = (budget.take(USUAL, 0), budget.take(Shift::Idle, 0));
        assert_eq!((usual.place(), idle.place()), (Some((0, 2)), Some((1, 2))));
        let begun = std::thread::scope(|scope| {
            let background = scope.spawn(|| (budget.background(), std::time::Instant::now()));
            while !budget.has_background() {
                std::thread::yield_now();
            }
            let ended = std::time::Instant::now();
            drop(idle);
            let (background, begun) = background.join().expect("no panic");
            assert!(Shift::Idle.is_over(&budget) && !Shift::StandIn.is_over(&budget));
            drop(background);
            begun >= ended
        });
        assert!(begun && Shift::StandIn.is_over(&budget) && !Shift::Idle.is_over(&budget));
        drop(usual);
        // One that hangs does not keep it for ever.
        let hangs = budget.take(Shift::Idle, 3);
        assert_eq!(hangs.place(), Some((1, 2)));
        drop(budget.background());
    }

    #[test]
    fn places_are_given_back_and_nobody_waits_for_ever() {
        let budget = Budget::new(0);
        let first = budget.take(USUAL, 0);
        assert!(first.place.is_some());
        let second = budget.take_within(Duration::ZERO, false, 0);
        assert!(second.place().is_none(), "it goes on without a place");
        drop(second);
        assert!(!lock(&budget.0.state).has_free());
        drop(first);
        assert!(budget.take_within(Duration::ZERO, false, 0).place.is_some());
        assert!(lock(&budget.0.state).waiting.is_empty());
    }

    #[test]
    fn who_waits_longest_is_next() {
        let budget = Budget::new(1);
        let first = budget.take(USUAL, 0);
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for index in 0..4 {
                let (budget, order) = (&budget, &order);
                scope.spawn(move || {
                    let _turn = budget.take_within(Duration::from_secs(60), false, 0);
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
