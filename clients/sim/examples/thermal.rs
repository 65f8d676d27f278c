//! How early the thermal rule tells internal shorts, and what it says of normal days.
//!
//! `cargo run --release -p evsim --example thermal -- [SHORTS] [VEHICLE_DAYS] [SEED]`: prints the tables of `docs/thermal.md`.

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Days, Sensors, Shorts};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let mut next = |default: u64| arguments.next().and_then(Result::ok).unwrap_or(default);
    let (shorts, days, seed) = (next(300), next(1000), next(1));
    for sensors in [Sensors::All, Sensors::HottestStuck, Sensors::NoCellVoltages] {
        println!("{}", Shorts::run(shorts, seed, sensors));
    }
    println!("{}", Days::run(days, seed));
}
