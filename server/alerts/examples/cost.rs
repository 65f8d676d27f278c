//! What a reading costs: `cargo run --release -p ev-alerts --example cost`.

use std::time::Instant;

use ev_alerts::{Alerts, AlertsConfig, Pack, Report, Sample};
use ev_domain::VehicleId;

const PACKS: usize = 10_000;
const SECONDS: i64 = 100;

fn main() {
    let config = AlertsConfig::default();
    let Ok(thresholds) = config.rule.thresholds(None) else { return };
    let alerts = Alerts::new(config.life, 1);
    let vehicles: Vec<VehicleId> =
        (0..PACKS).filter_map(|index| VehicleId::new(&format!("bus-{index}")).ok()).collect();
    let mut packs = vec![Pack::default(); vehicles.len()];
    for (name, late_us) in [("in order", 0), ("every other one 2.5 s late", 2_500_000)] {
        packs.fill(Pack::default());
        let began = Instant::now();
        let mut observed = 0_u64;
        for second in 0..SECONDS {
            let now_us = second * 1_000_000;
            let late_us = if second % 2 == 0 { 0 } else { late_us };
            for (pack, vehicle) in packs.iter_mut().zip(&vehicles) {
                let sample = Sample {
                    hottest_celsius: 31.0,
                    others_celsius: 29.0,
                    cell_voltage_min_v: 3.81,
                    cell_voltage_max_v: 3.83,
                    state_of_charge_percent: 70.0,
                    ..Sample::at(now_us - late_us)
                };
                if let Some(found) = pack.observe(&thresholds, &sample, now_us) {
                    observed += 1;
                    alerts.report(&Report::of_rule(vehicle, &found), now_us);
                }
            }
        }
        let each = began.elapsed().as_secs_f64() * 1e9 / (PACKS as f64 * SECONDS as f64);
        println!("{name}: {each:.0} ns a reading with rule and report, {observed} judged, {PACKS} packs");
    }
}
