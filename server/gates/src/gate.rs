//! The gates by name, and what one of them says.

use std::{fmt, str::FromStr};

/// A promotion gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gate {
    /// Every number has a unit and a plausible range, every text a vocabulary, every output a unit.
    Signature,
    /// The golden requests are reproduced.
    Golden,
    /// Every declared class is the answer to some row.
    Classes,
    /// The target is not among the inputs, by name.
    TargetLeak,
    /// No single input explains the answers.
    SingleInput,
    /// No metric is impossibly good, as it is where the label is a formula of the inputs.
    TooGood,
    /// The labels were measured, not made.
    Synthetic,
    /// What was measured was measured on groups that training has not seen.
    GroupSplit,
    /// Better than answering without looking.
    Baseline,
    /// A row costs no more than the manifest says.
    Latency,
    /// An instance takes no more memory than the manifest says.
    Memory,
    /// The licence is a known SPDX expression.
    License,
}

/// How a version stands with a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It passed.
    Passed,
    /// It failed: `production` stays where it is.
    Failed,
    /// It failed, and somebody has said why that is accepted.
    Waived,
    /// There is nothing to judge.
    NotApplicable,
}

/// What one gate says of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateResult {
    /// The gate.
    pub gate: Gate,
    /// How the version stands with it.
    pub state: State,
    /// What was found.
    pub measured: String,
    /// What is required.
    pub required: String,
    /// What to do; empty of what passed.
    pub remedy: String,
    /// Why it was waived; empty of what was not.
    pub waiver: String,
}

/// A text that names no gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownGate(String);

/// A result without its gate.
pub(crate) struct Verdict {
    state: State,
    measured: String,
    required: String,
    remedy: String,
}

// === impl Gate ===

impl Gate {
    /// Every gate, in the order of reports.
    pub const ALL: [Gate; 12] = [
        Gate::Signature,
        Gate::Golden,
        Gate::Classes,
        Gate::TargetLeak,
        Gate::SingleInput,
        Gate::TooGood,
        Gate::Synthetic,
        Gate::GroupSplit,
        Gate::Baseline,
        Gate::Latency,
        Gate::Memory,
        Gate::License,
    ];

    /// Its name in reports, waivers and the audit log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Gate::Signature => "signature",
            Gate::Golden => "golden",
            Gate::Classes => "classes",
            Gate::TargetLeak => "target_leak",
            Gate::SingleInput => "single_input",
            Gate::TooGood => "too_good",
            Gate::Synthetic => "synthetic",
            Gate::GroupSplit => "group_split",
            Gate::Baseline => "baseline",
            Gate::Latency => "latency",
            Gate::Memory => "memory",
            Gate::License => "license",
        }
    }

    /// Whether somebody may take the failure upon themselves. A version that does not reproduce its golden requests does
    /// not serve whatever anybody says.
    #[must_use]
    pub fn can_be_waived(self) -> bool {
        self != Gate::Golden
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Gate {
    type Err = UnknownGate;

    fn from_str(name: &str) -> Result<Gate, UnknownGate> {
        let known = Gate::ALL.into_iter().find(|gate| gate.name() == name);
        known.ok_or_else(|| UnknownGate(name.chars().take(100).collect()))
    }
}

// === impl State ===

impl State {
    /// Its name in the registry.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Passed => "passed",
            State::Failed => "failed",
            State::Waived => "waived",
            State::NotApplicable => "not_applicable",
        }
    }
}

// === impl GateResult ===

impl GateResult {
    /// A failure that somebody has taken upon themselves, with the reason; anything else stays what it is.
    #[must_use]
    pub fn waived(mut self, reason: &str) -> GateResult {
        if self.state == State::Failed && self.gate.can_be_waived() {
            self.state = State::Waived;
            reason.clone_into(&mut self.waiver);
        }
        self
    }
}

// === impl UnknownGate ===

impl fmt::Display for UnknownGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Gate::ALL.map(Gate::name).join(", ");
        write!(f, "`{}` is no gate, expected one of: {names}", self.0)
    }
}

impl std::error::Error for UnknownGate {}

// === impl Verdict ===

impl Verdict {
    pub(crate) fn passed(measured: impl Into<String>, required: impl Into<String>) -> Verdict {
        let (measured, required) = (measured.into(), required.into());
        Verdict { state: State::Passed, measured, required, remedy: String::new() }
    }

    pub(crate) fn failed(
        measured: impl Into<String>,
        required: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Verdict {
        let (measured, required, remedy) = (measured.into(), required.into(), remedy.into());
        Verdict { state: State::Failed, measured, required, remedy }
    }

    pub(crate) fn not_applicable(measured: impl Into<String>, required: impl Into<String>) -> Verdict {
        let (measured, required) = (measured.into(), required.into());
        Verdict { state: State::NotApplicable, measured, required, remedy: String::new() }
    }

    pub(crate) fn of(self, gate: Gate) -> GateResult {
        let Verdict { state, measured, required, remedy } = self;
        GateResult { gate, state, measured, required, remedy, waiver: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for gate in Gate::ALL {
            assert_eq!(gate.name().parse(), Ok(gate));
        }
        let error = "golf".parse::<Gate>().expect_err("no gate");
        assert!(error.to_string().starts_with("`golf` is no gate, expected one of: signature, golden"), "{error}");
    }

    #[test]
    fn only_failures_are_waived_and_golden_requests_never() {
        let check = |verdict: Verdict, gate, expected| {
            assert_eq!(verdict.of(gate).waived("because").state, expected, "{gate}");
        };
        check(Verdict::failed("a", "b", "c"), Gate::Synthetic, State::Waived);
        check(Verdict::failed("a", "b", "c"), Gate::Golden, State::Failed);
        check(Verdict::passed("a", "b"), Gate::Synthetic, State::Passed);
        check(Verdict::not_applicable("a", "b"), Gate::Synthetic, State::NotApplicable);
    }
}
