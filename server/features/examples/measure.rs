//! What aggregating costs, and what a vehicle takes: `cargo run --release -p ev-features --example measure`.
//!
//! The floor is what any aggregator has to do with the same batches: look at every value once.

use std::{hint::black_box, sync::Arc, time::Instant};

use ev_domain::{Catalogue, Column, ReadingBatch, Readings, SignalId, VehicleId, signals};
use ev_features::{
    Aggregator, AggregatorSettings, Features, MemoryOnlineStore, MemorySettings, OnlineStore, Plan, Views,
};

type Failure = Box<dyn std::error::Error>;

const SIGNALS: [SignalId; 8] = [
    signals::PACK_CURRENT,
    signals::PACK_VOLTAGE,
    signals::CELL_TEMPERATURE_MAX,
    signals::CELL_TEMPERATURE_MEAN,
    signals::CELL_TEMPERATURE_MIN,
    signals::CELL_VOLTAGE_MIN,
    signals::STATE_OF_CHARGE,
    signals::AIR_TEMPERATURE,
];
const NOW_US: i64 = 1_900_000_000_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let views = Arc::new(Views::bundled(&Catalogue::standard())?);
    println!("readings of {} signals, bundled views, one core, best of five", SIGNALS.len());
    println!("| readings in a batch | floor, million/s | aggregated, million/s | a tenth late, million/s |");
    println!("|---:|---:|---:|---:|");
    for size in [1, 10, 256] {
        let batches = fleet(size, 0)?;
        let late = fleet(size, 10)?;
        let mut best = [0.0f64; 3];
        for _ in 0..5 {
            best[0] = best[0].max(rate(&batches, floor));
            let mut aggregator = Aggregator::new(Arc::clone(&views), AggregatorSettings::default())?;
            best[1] = best[1].max(rate(&batches, |batch| aggregator.apply(batch, NOW_US).rows.len() as f64));
            let mut aggregator = Aggregator::new(Arc::clone(&views), AggregatorSettings::default())?;
            best[2] = best[2].max(rate(&late, |batch| aggregator.apply(batch, NOW_US).rows.len() as f64));
        }
        println!("| {size} | {:.1} | {:.2} | {:.2} |", best[0], best[1], best[2]);
    }
    aggregator_memory(&views)?;
    memory(&views).await
}

/// 200 vehicles with 60,000 readings or more in all, batch by batch in turn. Of a hundred readings, so many come ten
/// seconds late.
fn fleet(size: i64, late_percent: i64) -> Result<Vec<ReadingBatch>, Failure> {
    let vehicles: Result<Vec<_>, _> = (0..200).map(|index| VehicleId::new(&format!("VIN-{index:014}"))).collect();
    let vehicles = vehicles?;
    let rounds = (300 / size).max(2);
    let mut batches = Vec::new();
    for round in 0..rounds {
        for vehicle in &vehicles {
            let second = |index: i64| {
                let at = round * size + index;
                if late_percent > 0 && at % (100 / late_percent) == 7 && at > 10 { at - 10 } else { at }
            };
            // A late one is not a repeated one: half a second beside.
            let time_us = |index: i64| {
                let half = if second(index) == round * size + index { 0 } else { 500_000 };
                1_800_000_000_000_000 + second(index) * 1_000_000 + half
            };
            let value = |index: i64, signal: usize| {
                let swing = ((second(index) * 7 + signal as i64) % 40) as f32;
                if signal == 0 { swing - 60.0 } else { 3.0 + swing / 50.0 }
            };
            let column = |(place, signal): (usize, &SignalId)| Column {
                signal: *signal,
                values: (0..size).map(|index| value(index, place)).collect(),
            };
            let readings = Readings {
                times_us: (0..size).map(time_us).collect(),
                columns: SIGNALS.iter().enumerate().map(column).collect(),
            };
            batches.push(ReadingBatch { vehicle: vehicle.clone(), sequence: 1, readings });
        }
    }
    Ok(batches)
}

fn floor(batch: &ReadingBatch) -> f64 {
    let times: i64 = batch.readings.times_us.iter().fold(0, |max, time| max.max(*time));
    let values: f32 = batch.readings.columns.iter().flat_map(|column| &column.values).sum();
    times as f64 + f64::from(values)
}

/// Million readings a second.
fn rate(batches: &[ReadingBatch], mut each: impl FnMut(&ReadingBatch) -> f64) -> f64 {
    let readings: usize = batches.iter().map(|batch| batch.readings.len()).sum();
    let start = Instant::now();
    batches.iter().for_each(|batch| {
        black_box(each(black_box(batch)));
    });
    readings as f64 / start.elapsed().as_secs_f64() / 1e6
}

/// A million vehicles, each with every computed view, and reads of them.
async fn memory(views: &Arc<Views>) -> Result<(), Failure> {
    let vehicles: i64 = std::env::args().nth(1).map_or(Ok(1_000_000), |count| count.parse())?;
    let before = resident_bytes()?;
    let store = Arc::new(MemoryOnlineStore::new(MemorySettings { bytes_max: 8 << 30 })?);
    // Few at one time in the aggregator, so that what is counted is the store.
    let settings = AggregatorSettings { vehicles_max: 1000, ..AggregatorSettings::default() };
    let features = Features::new(Arc::clone(views), settings, Arc::clone(&store) as Arc<dyn OnlineStore>)?;
    let day = day()?;
    for index in 0..vehicles {
        let vehicle = VehicleId::new(&format!("VIN-{index:014}"))?;
        features.ingest(&ReadingBatch { vehicle, ..day.clone() }, NOW_US).await.store?;
    }
    let usage = store.usage();
    let resident = resident_bytes()?.saturating_sub(before);
    let each = |bytes: usize| bytes / usage.vehicles.max(1);
    println!(
        "\n{} vehicles in memory: {} bytes each by its own count, {} resident",
        usage.vehicles,
        each(usage.bytes),
        each(resident)
    );

    let plan = Plan::of_views(
        views,
        &[views.by_name("pack_now").ok_or("no view")?, views.by_name("battery").ok_or("no view")?],
    );
    let mut random = fastrand::Rng::with_seed(1);
    let mut took: Vec<u128> = Vec::new();
    for _ in 0..200_000 {
        let vehicle = VehicleId::new(&format!("VIN-{:014}", random.i64(0..vehicles)))?;
        let start = Instant::now();
        black_box(features.read(&vehicle, &plan, NOW_US).await?);
        took.push(start.elapsed().as_nanos());
    }
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 1000] as f64 / 1000.0;
    println!(
        "read of {} features: p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us",
        plan.wanted().len(),
        at(500),
        at(990),
        at(999)
    );
    Ok(())
}

/// What the aggregator itself takes of vehicles that send a reading a second.
fn aggregator_memory(views: &Arc<Views>) -> Result<(), Failure> {
    let before = resident_bytes()?;
    let mut aggregator = Aggregator::new(Arc::clone(views), AggregatorSettings::default())?;
    let (day, drive) = (day()?, fleet(256, 0)?.swap_remove(0));
    for index in 0..20_000 {
        let vehicle = VehicleId::new(&format!("VIN-{index:014}"))?;
        aggregator.apply(&ReadingBatch { vehicle: vehicle.clone(), ..day.clone() }, NOW_US);
        aggregator.apply(&ReadingBatch { vehicle, ..drive.clone() }, NOW_US);
    }
    let each = resident_bytes()?.saturating_sub(before) / aggregator.vehicles();
    println!("\nthe aggregator takes {each} bytes resident of a vehicle that sends a reading a second");
    Ok(())
}

/// A drive and a charge that have ended, so that every computed view is known.
fn day() -> Result<ReadingBatch, Failure> {
    let seconds: Vec<i64> = (0..=120).step_by(10).chain((600..=720).step_by(10)).chain([1200]).collect();
    let column = |signal: &SignalId| {
        let value = |second: &i64| match (*signal, *second) {
            (signals::PACK_CURRENT, 0..=120) => -60.0,
            (signals::PACK_CURRENT, 600..=720) => 50.0,
            (signals::PACK_CURRENT, _) => 0.0,
            _ => 3.5,
        };
        Column { signal: *signal, values: seconds.iter().map(value).collect() }
    };
    let times_us = seconds.iter().map(|second| 1_799_990_000_000_000 + second * 1_000_000).collect();
    let readings = Readings { times_us, columns: SIGNALS.iter().map(column).collect() };
    Ok(ReadingBatch { vehicle: VehicleId::new("day")?, sequence: 1, readings })
}

fn resident_bytes() -> Result<usize, Failure> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<usize>()? * 1024)
}
