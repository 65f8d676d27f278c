//! Inline or queued, by measured cost.

use std::time::Duration;

/// Work up to this long runs inline unless set otherwise: a hop to a worker and back took 13 to 16 us on two busy
/// cores (`examples/hop.rs`), and longer work would keep the other requests of its serving thread waiting.
pub const INLINE_MAX: Duration = Duration::from_micros(200);

/// Where a request runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// On the serving thread, with no queue and no hop.
    Inline,
    /// In the scheduler's queue and on its workers.
    Queued,
}

/// How that is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionPolicy {
    /// By what the rows of a request are measured to cost.
    ByCost {
        /// Longest work that runs inline.
        inline_max: Duration,
    },
    /// Always inline.
    Inline,
    /// Always queued, as whatever decodes images is.
    Queued,
}

/// Measured cost of a run: a part that is the same for every batch, and a part for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Of a run, however small.
    pub fixed: Duration,
    /// Of each row.
    pub row: Duration,
}

// === impl ExecutionPolicy ===

impl Default for ExecutionPolicy {
    fn default() -> ExecutionPolicy {
        ExecutionPolicy::ByCost { inline_max: INLINE_MAX }
    }
}

impl ExecutionPolicy {
    /// Where a request of so many rows runs.
    #[must_use]
    pub fn choose(self, cost: Cost, rows: usize) -> Execution {
        match self {
            ExecutionPolicy::Inline => Execution::Inline,
            ExecutionPolicy::Queued => Execution::Queued,
            ExecutionPolicy::ByCost { inline_max } if cost.of(rows) <= inline_max => Execution::Inline,
            ExecutionPolicy::ByCost { .. } => Execution::Queued,
        }
    }
}

// === impl Cost ===

impl Cost {
    /// The line through two measurements: a run of one row, and a run of `rows`.
    ///
    /// Noise may have made the larger run the cheaper one; no part is ever less than zero.
    #[must_use]
    pub fn measured(one: Duration, rows: usize, many: Duration) -> Cost {
        let further = u32::try_from(rows.saturating_sub(1)).unwrap_or(u32::MAX);
        let row = if further == 0 { one } else { (many.saturating_sub(one) / further).min(one) };
        Cost { fixed: one.saturating_sub(row), row }
    }

    /// Cost of a run of so many rows.
    #[must_use]
    pub fn of(self, rows: usize) -> Duration {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.row.checked_mul(rows).and_then(|rows| rows.checked_add(self.fixed)).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn cheap_work_runs_inline() {
        let check = |policy: ExecutionPolicy, one: u64, many: (usize, u64), rows: usize, expected: Execution| {
            let cost = Cost::measured(us(one), many.0, us(many.1));
            assert_eq!(policy.choose(cost, rows), expected, "{policy:?} {cost:?} {rows}");
        };
        let by_cost = ExecutionPolicy::default();
        check(by_cost, 3, (1, 3), 1, Execution::Inline);
        check(by_cost, 3, (64, 66), 64, Execution::Inline);
        check(by_cost, 3, (64, 192), 66, Execution::Inline);
        check(by_cost, 3, (64, 192), 67, Execution::Queued);
        check(by_cost, 200, (1, 200), 1, Execution::Inline);
        check(by_cost, 201, (1, 201), 1, Execution::Queued);
        check(by_cost, 3, (1, 3), usize::MAX, Execution::Queued);
        check(by_cost, 10, (8, 5), 1_000, Execution::Inline);
        check(ExecutionPolicy::ByCost { inline_max: us(1_000) }, 900, (1, 900), 1, Execution::Inline);
        check(ExecutionPolicy::Inline, 9_000, (1, 9_000), 64, Execution::Inline);
        check(ExecutionPolicy::Queued, 1, (1, 1), 1, Execution::Queued);
    }
}
