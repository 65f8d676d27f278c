//! What the integration tests share: real servers, real requests, and a close look at refusals.

pub(crate) mod booster;
pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod fleet;
pub(crate) mod golden;
pub(crate) mod http;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
#[allow(dead_code, reason = "the suites of the feature store ask for more")]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#[path = "../../features/tests/store/server.rs"]
pub(crate) mod redis;
pub(crate) mod refusal;
pub(crate) mod server;
pub(crate) mod services;
pub(crate) mod web;
pub(crate) mod zoo;

/// Waits until a condition holds, looking again and again: a test that waits a fixed time is either slow or flaky.
macro_rules! assert_eventually {
    ($condition:expr, $($message:tt)+) => {{
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let holds: bool = $condition;
            if holds {
                break;
            }
            assert!(tokio::time::Instant::now() < end, $($message)+);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }};
}

pub(crate) use assert_eventually;
