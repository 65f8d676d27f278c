//! What differs by chemistry.
//!
//! Open-circuit voltages are rounded from published curves of each family (for NMC, Chen et al., J. Electrochem. Soc. 167
//! (2020) 080534; for LFP, Safari and Delacourt, J. Electrochem. Soc. 158 (2011) A562). Resistances are of the order that
//! data sheets give for ten seconds at 25 degrees and half charge, times the capacity, so that they scale with the cell.

/// A cell's chemistry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chemistry {
    /// Nickel manganese cobalt oxide.
    Nmc,
    /// Nickel cobalt aluminium oxide.
    Nca,
    /// Iron phosphate.
    Lfp,
}

/// Constants of a chemistry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Constants {
    /// State of charge 0 to 1, and V.
    pub(crate) open_circuit: &'static [(f64, f64)],
    /// Ohmic resistance times capacity at 25 degrees, in ohm Ah.
    pub(crate) resistance_ohm_ah: f64,
    /// Wh in a litre of cell.
    pub(crate) energy_wh_l: f64,
    /// Nominal V.
    pub(crate) nominal_v: f64,
    /// Whether the cathode decomposes with heat worth counting.
    pub(crate) cathode_heats: bool,
}

const NMC: &[(f64, f64)] = &[
    (0.0, 2.80),
    (0.03, 3.15),
    (0.06, 3.32),
    (0.1, 3.43),
    (0.2, 3.55),
    (0.3, 3.61),
    (0.4, 3.65),
    (0.5, 3.72),
    (0.6, 3.82),
    (0.7, 3.91),
    (0.8, 4.00),
    (0.9, 4.08),
    (1.0, 4.18),
];

const NCA: &[(f64, f64)] = &[
    (0.0, 2.70),
    (0.03, 3.05),
    (0.06, 3.22),
    (0.1, 3.35),
    (0.2, 3.48),
    (0.3, 3.56),
    (0.4, 3.63),
    (0.5, 3.71),
    (0.6, 3.81),
    (0.7, 3.90),
    (0.8, 3.99),
    (0.9, 4.07),
    (1.0, 4.17),
];

const LFP: &[(f64, f64)] = &[
    (0.0, 2.50),
    (0.03, 2.95),
    (0.06, 3.12),
    (0.1, 3.20),
    (0.2, 3.25),
    (0.3, 3.285),
    (0.5, 3.30),
    (0.6, 3.31),
    (0.7, 3.33),
    (0.9, 3.335),
    (0.97, 3.37),
    (1.0, 3.50),
];

// === impl Chemistry ===

impl Chemistry {
    /// All of them.
    pub const ALL: [Chemistry; 3] = [Chemistry::Nmc, Chemistry::Nca, Chemistry::Lfp];

    /// Name as configuration of alerts has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Chemistry::Nmc => "nmc",
            Chemistry::Nca => "nca",
            Chemistry::Lfp => "lfp",
        }
    }

    /// Open-circuit voltage in V at a state of charge of 0 to 1.
    #[must_use]
    pub fn open_circuit_v(self, charge: f64) -> f64 {
        let curve = self.constants().open_circuit;
        let after = curve.partition_point(|(at, _)| *at <= charge).clamp(1, curve.len() - 1);
        let ((from, low), (to, high)) = (curve[after - 1], curve[after]);
        low + (high - low) * ((charge - from) / (to - from)).clamp(0.0, 1.0)
    }

    pub(crate) fn constants(self) -> Constants {
        match self {
            Chemistry::Nmc => Constants {
                open_circuit: NMC,
                resistance_ohm_ah: 0.06,
                energy_wh_l: 550.0,
                nominal_v: 3.7,
                cathode_heats: true,
            },
            Chemistry::Nca => Constants {
                open_circuit: NCA,
                resistance_ohm_ah: 0.09,
                energy_wh_l: 650.0,
                nominal_v: 3.65,
                cathode_heats: true,
            },
            Chemistry::Lfp => Constants {
                open_circuit: LFP,
                resistance_ohm_ah: 0.08,
                energy_wh_l: 350.0,
                nominal_v: 3.25,
                // Its cathode gives off little heat; the constants below are of a layered oxide.
                cathode_heats: false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voltage_rises_with_charge() {
        for chemistry in Chemistry::ALL {
            let curve: Vec<f64> =
                (0..=100).map(|percent| chemistry.open_circuit_v(f64::from(percent) / 100.0)).collect();
            assert!(curve.is_sorted(), "{chemistry:?}");
            assert_eq!(chemistry.open_circuit_v(-1.0), curve[0]);
            assert_eq!(chemistry.open_circuit_v(2.0), curve[100]);
        }
        assert!((Chemistry::Nmc.open_circuit_v(0.55) - 3.77).abs() < 1e-9);
    }
}
