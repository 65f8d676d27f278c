//! How long an upload that is cut off tries to go on.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::{Error, RetryPolicy};

/// An upload's attempt that failed.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) error: Error,
    /// Whether the connection is at fault, not the upload.
    pub(crate) passing: bool,
}

/// Goes on as long as bytes get through, and for a while without.
#[derive(Debug)]
pub(crate) struct Patience {
    window: Duration,
    received_bytes: u64,
    since: Instant,
    attempt: u32,
    restarted: bool,
}

// === impl Patience ===

impl Patience {
    pub(crate) fn new(window: Duration) -> Patience {
        Patience { window, received_bytes: 0, since: Instant::now(), attempt: 0, restarted: false }
    }

    /// The server has so many bytes: if more than before, it goes on.
    pub(crate) fn saw(&mut self, received_bytes: u64) {
        if received_bytes > self.received_bytes {
            (self.received_bytes, self.since, self.attempt) = (received_bytes, Instant::now(), 0);
        }
    }

    /// How long to wait before the next attempt; `None` when the error is final. `received_bytes` are those that the
    /// attempt which failed did not send itself.
    pub(crate) fn delay(
        &mut self,
        error: &Error,
        passing: bool,
        received_bytes: u64,
        retry: &RetryPolicy,
    ) -> Option<Duration> {
        if retry.attempts_max <= 1 {
            return None;
        }
        if wants_restart(error) && received_bytes > 0 && !self.restarted {
            // What was there was another's mistake; the server has dropped it.
            self.restarted = true;
            self.received_bytes = 0;
            return Some(Duration::ZERO);
        }
        if !(passing || is_passing(error)) {
            return None;
        }
        self.attempt = self.attempt.saturating_add(1);
        let delay = retry.endless_delay(self.attempt, error);
        (self.since.elapsed() + delay <= self.window).then_some(delay)
    }
}

/// What an upload gets over by asking again what has come.
fn is_passing(error: &Error) -> bool {
    let has_other_bytes =
        matches!(error, Error::Call(call) if call.code == Code::Aborted && call.reason.starts_with("UPLOAD_"));
    has_other_bytes || error.is_passing()
}

/// Bytes that were there before were wrong, or went before they could be used.
fn wants_restart(error: &Error) -> bool {
    matches!(error, Error::Call(call) if matches!(&*call.reason, "DIGEST_MISMATCH" | "LOST" | "REFUSED_FILE"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CallError;

    fn call(code: Code, reason: &str) -> Error {
        let mut call = CallError::new(code, "");
        call.reason = reason.to_owned();
        Error::Call(Box::new(call))
    }

    fn policy() -> RetryPolicy {
        RetryPolicy { attempts_max: 3, delay_min: Duration::from_millis(100), delay_max: Duration::from_secs(1) }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nothing_gets_through_for_long() {
        let mut patience = Patience::new(Duration::from_secs(10));
        let cut = call(Code::Unknown, "");
        for round in 1..=3 {
            patience.saw(round);
            let begin = Instant::now();
            while let Some(delay) = patience.delay(&cut, true, 0, &policy()) {
                assert!(delay <= Duration::from_secs(1));
                tokio::time::sleep(delay).await;
            }
            assert!((8..=10).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_passes_is_tried_again() {
        let check = |error: Error, passing: bool, expected: bool| {
            let mut patience = Patience::new(Duration::from_secs(10));
            let found = patience.delay(&error, passing, 0, &policy()).is_some();
            assert_eq!(found, expected, "{error:?}");
            assert_eq!(patience.delay(&error, passing, 0, &RetryPolicy::never()), None);
        };
        check(call(Code::Unavailable, "SHUTTING_DOWN"), false, true);
        check(call(Code::Aborted, "UPLOAD_GAP"), false, true);
        check(call(Code::Aborted, "ALIAS_MOVED"), false, false);
        check(call(Code::Internal, ""), true, true);
        check(call(Code::Unknown, ""), false, true);
        check(call(Code::Internal, "INTERNAL"), false, false);
        check(call(Code::InvalidArgument, "INVALID_MANIFEST"), false, false);
        check(call(Code::ResourceExhausted, "TOO_LARGE"), false, false);
        check(call(Code::DataLoss, "DIGEST_MISMATCH"), false, false);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_bytes_of_another_are_sent_again_once() {
        let mut patience = Patience::new(Duration::from_secs(10));
        let wrong = call(Code::DataLoss, "DIGEST_MISMATCH");
        assert_eq!(patience.delay(&wrong, false, 7, &policy()), Some(Duration::ZERO));
        assert_eq!(patience.delay(&wrong, false, 7, &policy()), None);
    }
}
