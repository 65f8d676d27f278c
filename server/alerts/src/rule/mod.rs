//! The thermal rule: what a pack's readings alone say about its class.
//!
//! Its core is the confirmation of GB 38031-2025: a cell's voltage drops by more than 25 % of what it was, or a monitor
//! point reaches the maker's maximum temperature, and the temperature rises by 1 degree a second or more for 3 s.
//! Weaker evidence of the same kinds gives the classes below. `docs/thermal.md` lists them with what they cannot see.

mod baseline;
mod evidence;
mod pack;
mod ring;
mod sample;
mod thresholds;

pub use evidence::{Assessment, Cause};
pub use pack::Pack;
pub use sample::{Sample, Samples};
pub use thresholds::{ChemistryConfig, RuleConfig, Thresholds};
