//! Features that follow from others, computed when they are read.
//!
//! A rule stands in where a feature has no value of its own, so that a cell's voltage is the one that was measured
//! where it was, and the pack's over the cells in series elsewhere. What a rule needs is looked for in the feature's own
//! view first, then in the others in the order they are declared in.

use Term::{Minus, Plus, Quotient};

/// How a feature follows from others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// What it makes.
    pub(crate) feature: &'static str,
    /// What it needs, all of it.
    pub(crate) of: &'static [Term],
    /// What the result is multiplied with.
    factor: f32,
}

/// What is done with one of a rule's features, from left to right; the first is what the others are applied to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Term {
    Plus(&'static str),
    Minus(&'static str),
    Quotient(&'static str),
}

/// All rules. Of several for one feature, the first of which everything is known is used.
pub(crate) const RULES: &[Rule] = &[
    rule("cell_voltage_v", &[Plus("pack_voltage_v"), Quotient("cells_in_series")]),
    Rule { feature: "cell_voltage_v", of: &[Plus("cell_voltage_min_v"), Plus("cell_voltage_max_v")], factor: 0.5 },
    rule("discharge_voltage_min_v", &[Plus("discharge_pack_voltage_min_v"), Quotient("cells_in_series")]),
    rule("discharge_voltage_max_v", &[Plus("discharge_pack_voltage_max_v"), Quotient("cells_in_series")]),
    rule("discharge_voltage_mean_v", &[Plus("discharge_pack_voltage_mean_v"), Quotient("cells_in_series")]),
    rule("discharge_voltage_end_v", &[Plus("discharge_pack_voltage_end_v"), Quotient("cells_in_series")]),
    rule("charge_voltage_min_v", &[Plus("charge_pack_voltage_min_v"), Quotient("cells_in_series")]),
    // Current is positive into the battery, rates are positive out of it.
    rule("c_rate", &[Minus("pack_current_a"), RATED, PARALLEL]),
    rule("discharge_c_rate", &[Minus("discharge_current_mean_a"), RATED, PARALLEL]),
    rule("cycle_count", &[Plus("accumulated_charged_throughput_ah"), RATED, PARALLEL]),
];

const RATED: Term = Quotient("rated_capacity_ah");
const PARALLEL: Term = Quotient("cells_in_parallel");

const fn rule(feature: &'static str, of: &'static [Term]) -> Rule {
    Rule { feature, of, factor: 1.0 }
}

// === impl Rule ===

impl Rule {
    /// The result; none where it is not finite.
    pub(crate) fn apply(&self, values: impl IntoIterator<Item = f32>) -> Option<f32> {
        let result = self.of.iter().zip(values).fold(0.0, |result, (term, value)| term.apply(result, value));
        let result = result * self.factor;
        result.is_finite().then_some(result)
    }
}

// === impl Term ===

impl Term {
    /// The feature it takes.
    pub(crate) fn feature(self) -> &'static str {
        match self {
            Plus(feature) | Minus(feature) | Quotient(feature) => feature,
        }
    }

    fn apply(self, result: f32, value: f32) -> f32 {
        match self {
            Plus(_) => result + value,
            Minus(_) => result - value,
            Quotient(_) => result / value,
        }
    }
}

/// Whether any rule makes this feature.
pub(crate) fn has_rule(feature: &str) -> bool {
    RULES.iter().any(|rule| rule.feature == feature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_compute_what_they_say() {
        let check = |feature: &str, nth: usize, values: &[f32], expected: Option<f32>| {
            let rule = RULES.iter().filter(|rule| rule.feature == feature).nth(nth).expect("a rule");
            assert_eq!(rule.apply(values.iter().copied()), expected, "{feature}");
        };
        check("cell_voltage_v", 0, &[360.0, 96.0], Some(3.75));
        check("cell_voltage_v", 1, &[3.5, 3.75], Some(3.625));
        check("c_rate", 0, &[-100.0, 50.0, 2.0], Some(1.0));
        check("c_rate", 0, &[50.0, 50.0, 2.0], Some(-0.5));
        check("c_rate", 0, &[50.0, 0.0, 1.0], None);
        check("cycle_count", 0, &[1200.0, 2.0, 6.0], Some(100.0));
        check("discharge_voltage_end_v", 0, &[288.0, 96.0], Some(3.0));
    }
}
