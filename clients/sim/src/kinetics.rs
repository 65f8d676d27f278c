//! How a hot cell decomposes, and heats itself.
//!
//! Reactions and constants of Hatchard et al., J. Electrochem. Soc. 148 (2001) A755, as completed by Kim, Pesaran and
//! Spotnitz, J. Power Sources 170 (2007) 476, table 2. They are of a lithium cobalt oxide cell, the best documented.

/// J/(mol K).
const GAS: f64 = 8.314;

/// J/(m3 K): about 2,300 kg/m3 times 900 J/(kg K), as of lithium-ion cells of any format.
pub const HEAT_CAPACITY: f64 = 2.0e6;

/// Where a polyethylene separator has melted, in degrees Celsius, and the electrodes touch.
pub const SEPARATOR_CELSIUS: f64 = 135.0;

/// An exothermic decomposition.
struct Reaction {
    /// 1/s.
    frequency: f64,
    /// J/mol.
    activation: f64,
    /// J/g times g/m3.
    heat: f64,
}

const SEI: Reaction = Reaction { frequency: 1.667e15, activation: 1.3508e5, heat: 257.0 * 6.104e5 };
const ANODE: Reaction = Reaction { frequency: 2.5e13, activation: 1.3508e5, heat: 1714.0 * 6.104e5 };
const CATHODE: Reaction = Reaction { frequency: 6.667e13, activation: 1.396e5, heat: 314.0 * 1.221e6 };
const ELECTROLYTE: Reaction = Reaction { frequency: 5.14e25, activation: 2.74e5, heat: 155.0 * 4.069e5 };

/// Thickness of the layer that covers the anode, relative, before it grows.
const LAYER: f64 = 0.033;

/// What of a cell is left to decompose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reactants {
    sei: f64,
    anode: f64,
    layer: f64,
    cathode_converted: f64,
    electrolyte: f64,
}

// === impl Reactants ===

impl Default for Reactants {
    fn default() -> Reactants {
        Reactants { sei: 0.15, anode: 0.75, layer: LAYER, cathode_converted: 0.04, electrolyte: 1.0 }
    }
}

impl Reactants {
    /// Decomposes for `dt_s`; what comes back is the heat as a rise in degrees Celsius a second.
    pub fn step(&mut self, celsius: f64, dt_s: f64, cathode_heats: bool) -> f64 {
        // Below, nothing happens in the life of a car.
        if celsius < 50.0 {
            return 0.0;
        }
        let kelvin = celsius + 273.15;
        // No more than half of what is left in a step.
        let most = 0.5 / dt_s;
        let sei = SEI.rate(kelvin).min(most) * self.sei;
        let anode = (ANODE.rate(kelvin) * (-self.layer / LAYER).exp()).min(most) * self.anode;
        let cathode = (CATHODE.rate(kelvin) * self.cathode_converted).min(most) * (1.0 - self.cathode_converted);
        let electrolyte = ELECTROLYTE.rate(kelvin).min(most) * self.electrolyte;
        self.sei -= sei * dt_s;
        self.anode -= anode * dt_s;
        self.layer += anode * dt_s;
        self.electrolyte -= electrolyte * dt_s;
        let mut heat = SEI.heat * sei + ANODE.heat * anode + ELECTROLYTE.heat * electrolyte;
        if cathode_heats {
            self.cathode_converted += cathode * dt_s;
            heat += CATHODE.heat * cathode;
        }
        heat / HEAT_CAPACITY
    }
}

// === impl Reaction ===

impl Reaction {
    fn rate(&self, kelvin: f64) -> f64 {
        self.frequency * (-self.activation / (GAS * kelvin)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How hot a cell without any loss of heat is after so long.
    fn adiabatic(from_celsius: f64, seconds: u32) -> f64 {
        let (mut celsius, mut reactants) = (from_celsius, Reactants::default());
        for _ in 0..seconds * 4 {
            celsius += reactants.step(celsius, 0.25, true) * 0.25;
        }
        celsius
    }

    #[test]
    fn a_cell_runs_away_from_what_the_oven_tests_show() {
        // Hatchard's ovens: at 140 degrees cells live for an hour, at 155 and above they run away; without loss of heat
        // sooner.
        assert!(adiabatic(60.0, 3600) < 62.0);
        assert!(adiabatic(155.0, 3600) > 300.0);
    }
}
