//! What this thread has used of a processor: its own work, and not the time in which others had the processor.

use std::time::Duration;

/// CPU time of this thread.
#[cfg(target_os = "linux")]
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Elsewhere the time that passes.
#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu_time() -> Duration {
    static BEGUN: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    BEGUN.elapsed()
}
