//! Whether a shared store is asked at all.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A failure may be an accident; so many in a row are none.
const FAILURES_MAX: u32 = 3;
/// Nor are failures for so long, without a success in between.
const FAILING_MAX: Duration = Duration::from_millis(500);
/// How long it stays open until one question is let through.
const OPEN_FOR: Duration = Duration::from_millis(500);

/// Opens after failures, and closes after a success.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    failing_since: Option<Instant>,
    /// When the next probe may go.
    open_until: Option<Instant>,
}

// === impl Breaker ===

impl Breaker {
    /// Whether it is open: nothing but a probe goes through.
    pub(super) fn is_open(&self) -> bool {
        self.state().open_until.is_some()
    }

    /// Whether a probe may go now. The next one may only after this one has failed, or is overdue.
    pub(super) fn may_probe(&self, now: Instant) -> bool {
        let mut state = self.state();
        let due = state.open_until.is_some_and(|until| until <= now);
        if due {
            state.open_until = Some(now + OPEN_FOR);
        }
        due
    }

    /// Something went through. Says whether the breaker was open.
    pub(super) fn succeeded(&self) -> bool {
        let mut state = self.state();
        std::mem::take(&mut *state).open_until.is_some()
    }

    /// Something failed. Says whether this opened the breaker.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        let since = *state.failing_since.get_or_insert(now);
        let opens = state.failures >= FAILURES_MAX || now.saturating_duration_since(since) >= FAILING_MAX;
        let was_open = state.open_until.is_some();
        if opens || was_open {
            state.open_until = Some(now + OPEN_FOR);
        }
        opens && !was_open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_three_failures_or_half_a_second_and_lets_one_probe_through() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let breaker = Breaker::default();
        assert!(!breaker.failed(at(0)) && !breaker.failed(at(1)) && !breaker.is_open());
        assert!(!breaker.succeeded());
        assert!(!breaker.failed(at(10)) && !breaker.failed(at(11)) && breaker.failed(at(12)));
        assert!(breaker.is_open() && !breaker.may_probe(at(500)));
        assert!(breaker.may_probe(at(512)) && !breaker.may_probe(at(513)));
        assert!(!breaker.failed(at(600)), "it is open already");
        assert!(!breaker.may_probe(at(1099)) && breaker.may_probe(at(1100)));
        assert!(breaker.succeeded() && !breaker.is_open() && !breaker.may_probe(at(9999)));

        assert!(!breaker.failed(at(0)) && !breaker.failed(at(499)));
        breaker.succeeded();
        assert!(!breaker.failed(at(1000)) && breaker.failed(at(1500)));
    }
}
