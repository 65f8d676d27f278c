//! What an operator sets for one deployment, named as Triton names it.

use std::time::{Duration, Instant};

/// Most worker threads a deployment may have.
const INSTANCE_COUNT_MAX: usize = 256;
/// Most rows a batch or a queue may be set to.
const ROWS_MAX: usize = 65_536;

/// Longest delay that may be set: longer is an error of units.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// How a deployment forms and runs its batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Most rows of one run, 1..=65536.
    pub max_batch_size: usize,
    /// Sizes that run well: a batch is cut as soon as it reaches the largest of them that is possible.
    /// Each 1..=`max_batch_size`; none means that a batch waits for more rows until its delay is over.
    pub preferred_batch_sizes: Vec<usize>,
    /// Longest time a row waits for company while an instance is idle, up to 60 s; zero runs a lone row at once.
    pub max_queue_delay: Duration,
    /// Most rows waiting, `max_batch_size`..=65536. Rows being run do not count.
    pub max_queue_size: usize,
    /// Most bytes of rows waiting, as their callers state them; at least 1.
    pub max_queue_bytes: usize,
    /// Instances, each with a worker thread of its own, 1..=256.
    /// Set it from the CPUs the process may use: more instances than CPUs only take turns.
    pub instance_count: usize,
    /// When the worker threads get a processor that others want too.
    pub worker_priority: WorkerPriority,
}

/// When a worker thread gets a processor that other threads want too. Other systems than Linux know only
/// [`WorkerPriority::Normal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkerPriority {
    /// When no other thread in its control group wants one (`SCHED_IDLE`). A thread that wakes gets the processor at
    /// once, and one that only has such workers counts as free.
    #[default]
    Idle,
    /// A tenth of the share of a usual thread (nice 10). A thread that wakes may wait for some milliseconds.
    Low,
    /// As every other thread.
    Normal,
}

/// Who is served first when not all can be, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Safety: displaces every other row from a full queue.
    Critical,
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// A caller with many rows and time.
    Bulk,
    /// Nobody waits: compared and counted only.
    Shadow,
}

/// How soon an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Urgency {
    /// Who is served first.
    pub priority: Priority,
    /// When the answer is of no more use; none if it always is.
    pub deadline: Option<Instant>,
}

/// A setting is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{setting}` is {found}, expected {expected}")]
pub struct SettingsError {
    /// Name of the setting.
    pub setting: &'static str,
    /// What it is.
    pub found: String,
    /// What it may be.
    pub expected: String,
}

/// A duration in a message.
#[derive(PartialEq, PartialOrd)]
struct Printed(Duration);

// === impl Settings ===

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_batch_size: 8,
            preferred_batch_sizes: Vec::new(),
            max_queue_delay: Duration::ZERO,
            max_queue_size: 128,
            max_queue_bytes: 64 * 1024 * 1024,
            instance_count: 1,
            worker_priority: WorkerPriority::Idle,
        }
    }
}

impl Settings {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), SettingsError> {
        in_range("max_batch_size", self.max_batch_size, 1, ROWS_MAX)?;
        for size in &self.preferred_batch_sizes {
            in_range("preferred_batch_sizes", *size, 1, self.max_batch_size)?;
        }
        in_range("max_queue_delay", Printed(self.max_queue_delay), Printed(Duration::ZERO), Printed(DELAY_MAX))?;
        in_range("max_queue_size", self.max_queue_size, self.max_batch_size, ROWS_MAX)?;
        in_range("max_queue_bytes", self.max_queue_bytes, 1, usize::MAX)?;
        in_range("instance_count", self.instance_count, 1, INSTANCE_COUNT_MAX)
    }
}

fn in_range<N>(setting: &'static str, found: N, min: N, max: N) -> Result<(), SettingsError>
where
    N: PartialOrd + std::fmt::Display,
{
    if found >= min && found <= max {
        return Ok(());
    }
    Err(SettingsError { setting, found: found.to_string(), expected: format!("{min}..={max}") })
}

impl std::fmt::Display for Printed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

// === impl Priority ===

impl Priority {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All, most urgent first.
    pub const ALL: [Priority; Priority::COUNT] =
        [Priority::Critical, Priority::Interactive, Priority::Bulk, Priority::Shadow];

    /// Its place in [`Priority::ALL`].
    pub(crate) fn lane(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        fn check(change: impl FnOnce(&mut Settings), expected: Option<&str>) {
            let mut settings = Settings::default();
            change(&mut settings);
            assert_eq!(settings.check().err().map(|error| error.to_string()).as_deref(), expected);
        }
        check(|_| {}, None);
        check(|settings| settings.max_batch_size = 0, Some("`max_batch_size` is 0, expected 1..=65536"));
        check(|settings| settings.preferred_batch_sizes = vec![4, 8], None);
        check(
            |settings| settings.preferred_batch_sizes = vec![4, 9],
            Some("`preferred_batch_sizes` is 9, expected 1..=8"),
        );
        check(|settings| settings.max_queue_size = 7, Some("`max_queue_size` is 7, expected 8..=65536"));
        check(
            |settings| settings.max_queue_delay = Duration::from_secs(61),
            Some("`max_queue_delay` is 61s, expected 0ns..=60s"),
        );
        check(|settings| settings.instance_count = 257, Some("`instance_count` is 257, expected 1..=256"));
    }
}
