//! When a call is repeated, and after how long.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tonic::Code;

use crate::Error;

/// When a call that can be repeated without harm is repeated. All attempts share the call's deadline.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Attempts at most, the first included; 1 for no retries. 3.
    pub attempts_max: u32,
    /// Delay before the second attempt; doubles with each further one. 50 ms.
    pub delay_min: Duration,
    /// Longest delay. A server that asks for more gets no further attempt: its answer goes to the caller. 2 s.
    pub delay_max: Duration,
}

// === impl RetryPolicy ===

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy { attempts_max: 3, delay_min: Duration::from_millis(50), delay_max: Duration::from_secs(2) }
    }
}

impl RetryPolicy {
    /// Never repeats a call.
    #[must_use]
    pub fn never() -> RetryPolicy {
        RetryPolicy { attempts_max: 1, ..RetryPolicy::default() }
    }

    /// How long to wait after attempt number `attempt` (from 1) failed with `error`; `None` when it is final.
    pub(crate) fn delay(&self, attempt: u32, error: &Error) -> Option<Duration> {
        let asked = match error {
            Error::Unreachable { .. } => None,
            Error::Call(call) if matches!(call.code, Code::Unavailable | Code::ResourceExhausted) => call.retry_delay,
            _ => return None,
        };
        self.jittered_delay(attempt, asked, random())
    }

    /// How long to wait after attempt number `attempt` (from 1) failed, where attempts never end.
    pub(crate) fn endless_delay(&self, attempt: u32, error: &Error) -> Duration {
        let asked = error.retry_delay().map(|asked| asked.min(self.delay_max));
        let endless = RetryPolicy { attempts_max: u32::MAX, ..self.clone() };
        endless.jittered_delay(attempt.clamp(1, 32), asked, random()).unwrap_or(self.delay_max)
    }

    /// `random` is 0 to 1. Backoff is spread over its upper half; a delay the server asked for is never shortened.
    fn jittered_delay(&self, attempt: u32, asked: Option<Duration>, random: f64) -> Option<Duration> {
        if attempt >= self.attempts_max || asked.is_some_and(|asked| asked > self.delay_max) {
            return None;
        }
        let doubled = self.delay_min.saturating_mul(1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let backoff = doubled.min(self.delay_max);
        let spread = backoff.mul_f64(0.5 + 0.5 * random);
        Some(asked.map_or(spread, |asked| asked + backoff.mul_f64(0.25 * random)).min(self.delay_max.max(backoff)))
    }
}

/// 0 to 1, from the random keys every hash map gets.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0u8) >> 40;
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
    let value = bits as f64 / f64::from(1u32 << 24);
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::CallError;

    fn policy() -> RetryPolicy {
        RetryPolicy { attempts_max: 4, delay_min: Duration::from_millis(100), delay_max: Duration::from_secs(1) }
    }

    fn call(code: Code) -> Error {
        Error::Call(Box::new(CallError::new(code, "")))
    }

    #[test]
    fn only_overload_and_absence_are_retried() {
        for (code, retried) in [
            (Code::Unavailable, true),
            (Code::ResourceExhausted, true),
            (Code::InvalidArgument, false),
            (Code::DeadlineExceeded, false),
            (Code::Aborted, false),
            (Code::Internal, false),
        ] {
            assert_eq!(policy().delay(1, &call(code)).is_some(), retried, "{code:?}");
        }
    }

    #[test]
    fn the_last_attempt_is_final() {
        assert!(policy().delay(3, &call(Code::Unavailable)).is_some());
        assert!(policy().delay(4, &call(Code::Unavailable)).is_none());
        assert!(RetryPolicy::never().delay(1, &call(Code::Unavailable)).is_none());
    }

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        let at = |attempt| policy().jittered_delay(attempt, None, 1.0);
        assert_eq!(at(1), Some(Duration::from_millis(100)));
        assert_eq!(at(2), Some(Duration::from_millis(200)));
        assert_eq!(at(3), Some(Duration::from_millis(400)));
        let many = RetryPolicy { attempts_max: 100, ..policy() };
        assert_eq!(many.jittered_delay(60, None, 1.0), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_server_that_asks_for_too_long_ends_the_retries() {
        assert!(policy().jittered_delay(1, Some(Duration::from_secs(2)), 0.5).is_none());
    }

    proptest! {
        #[test]
        fn delays_keep_their_bounds(attempt in 1u32..4, asked in prop::option::of(0u64..1000), random in 0.0f64..=1.0) {
            let asked = asked.map(Duration::from_millis);
            let delay = policy().jittered_delay(attempt, asked, random).expect("attempts are left");
            prop_assert!(delay <= policy().delay_max);
            prop_assert!(delay >= asked.unwrap_or(Duration::from_millis(50)));
        }
    }

    #[test]
    fn endless_attempts_keep_the_bound() {
        let mut asked = CallError::new(Code::Unavailable, "");
        asked.retry_delay = Some(Duration::from_secs(60));
        for attempt in [0, 1, 5, u32::MAX] {
            let delay = policy().endless_delay(attempt, &call(Code::Unavailable));
            assert!(delay >= Duration::from_millis(50) && delay <= Duration::from_secs(1), "{attempt}: {delay:?}");
            let error = Error::Call(Box::new(asked.clone()));
            assert_eq!(policy().endless_delay(attempt, &error), Duration::from_secs(1));
        }
    }

    #[test]
    fn random_is_a_fraction() {
        assert!((0..100).map(|_| random()).all(|value| (0.0..1.0).contains(&value)));
    }
}
