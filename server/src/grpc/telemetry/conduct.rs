//! How a connection behaves: once a stream was ended for what it sent, the next one has to wait.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long after the first offence; twice as long after each further one.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Longest wait: a minute.
const WAIT_MAX: Duration = Duration::from_secs(64);
/// Offences that are further apart are each a first one.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// What the streams of a connection have done. Ending one for sending without credit, or too much, costs more than it
/// costs to open the next: without a wait, who keeps to nothing has more of the server than who keeps to its credit.
#[derive(Debug, Default)]
pub(super) struct Conduct(Mutex<Offences>);

#[derive(Debug, Default)]
struct Offences {
    count: u32,
    last: Option<Instant>,
}

// === impl Conduct ===

impl Conduct {
    /// How long the next stream has to wait.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let Offences { count, last } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = last? + wait_after(count);
        until.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }

    /// Notes an offence; how long to wait now.
    pub(super) fn offend(&self, now: Instant) -> Duration {
        let mut offences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = offences.last.is_none_or(|last| now.saturating_duration_since(last) > FORGIVEN_AFTER);
        offences.count = if is_first { 1 } else { offences.count.saturating_add(1) };
        offences.last = Some(now);
        wait_after(offences.count)
    }
}

fn wait_after(count: u32) -> Duration {
    let doubled = count.saturating_sub(1).min(16);
    WAIT_MIN.saturating_mul(1 << doubled).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_and_is_forgiven() {
        let conduct = Conduct::default();
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        assert_eq!(conduct.wait(begin), None);
        let check = |second: u64, expected: u64| {
            assert_eq!(conduct.offend(at(second)), Duration::from_secs(expected), "at {second}");
            assert_eq!(conduct.wait(at(second)), Some(Duration::from_secs(expected)), "at {second}");
            assert_eq!(conduct.wait(at(second + expected)), None, "after {second}");
        };
        check(0, 1);
        check(1, 2);
        check(3, 4);
        for second in 10..20 {
            conduct.offend(at(second));
        }
        check(20, 64);
        check(620, 64);
        check(1_300, 1);
    }
}
