//! How soon does a server answer, and how much memory does it take?

use std::{path::Path, time::Duration};

use clap::Parser;
use ev_benches::{
    grpc::{Placement, Process, Target, load, machine},
    median,
};

/// From exec to ready, all bundled models warm.
const START_BUDGET: Duration = Duration::from_secs(1);
/// Resident memory with all bundled models, those of pictures among them, in bytes.
const MEMORY_BUDGET: f64 = 220e6;
/// The same without the models of pictures.
const TABULAR_MEMORY_BUDGET: f64 = 60e6;
/// Begins the names of the models of pictures.
const OF_PICTURES: &str = "vehicle-classifier";

#[derive(Parser)]
struct Cli {
    /// Rounds; an odd number has a median.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Processors of server and client.
    #[arg(long, default_value = "0,1")]
    processors: String,
    /// Serving threads.
    #[arg(long, default_value_t = 2)]
    cores: usize,
}

/// What one round found.
struct Round {
    first: Duration,
    second: Duration,
    resident_first: u64,
    resident: u64,
    resident_loaded: u64,
    resident_tabular: u64,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    println!("{}; {} rounds, medians; {} serving threads", machine(), cli.rounds, cli.cores);
    let rounds = (0..cli.rounds).map(|_| round(&cli)).collect::<anyhow::Result<Vec<_>>>()?;
    println!("\n{:<58} {:>9} {:>9}  budget", "", "found", "allowed");
    let line = |name: &str, value: &dyn Fn(&Round) -> f64, allowed: f64| {
        let found = median(rounds.iter().map(value).collect());
        let verdict = if found <= allowed { "kept" } else { "MISSED" };
        println!("{name:<58} {found:>9.1} {allowed:>9.1}  {verdict}");
    };
    let start_ms = START_BUDGET.as_secs_f64() * 1e3;
    line("exec to ready, empty data directory, ms", &|round| round.first.as_secs_f64() * 1e3, start_ms);
    line("exec to ready, second start, ms", &|round| round.second.as_secs_f64() * 1e3, start_ms);
    line(
        "resident memory when ready, empty data directory, MB",
        &|round| megabytes(round.resident_first),
        MEMORY_BUDGET / 1e6,
    );
    line("resident memory when ready, second start, MB", &|round| megabytes(round.resident), MEMORY_BUDGET / 1e6);
    line("resident memory after 100,000 requests, MB", &|round| megabytes(round.resident_loaded), MEMORY_BUDGET / 1e6);
    line(
        "resident memory with the tabular models alone, MB",
        &|round| megabytes(round.resident_tabular),
        TABULAR_MEMORY_BUDGET / 1e6,
    );
    Ok(())
}

fn round(cli: &Cli) -> anyhow::Result<Round> {
    let folder = tempfile::tempdir()?;
    let place = Placement { processors: cli.processors.clone(), cores: cli.cores };
    let (process, first) = Process::evserve(&place, folder.path())?;
    let resident_first = process.resident()?;
    drop(process);
    let (process, second) = Process::evserve(&place, folder.path())?;
    let resident = process.resident()?;
    let target = Target { address: process.address(), processors: cli.processors.clone() };
    // At least as many as the table says: what a closed loop does not reach in one go, it does in the next.
    let mut sent = 0.0;
    while sent < 100_000.0 {
        sent += load(&target, &["--in-flight", "32", "--warm-up", "0s", "--duration", "2s"])?.sent;
    }
    let resident_loaded = process.resident()?;
    drop(process);
    Ok(Round { first, second, resident_first, resident, resident_loaded, resident_tabular: tabular(&place)? })
}

/// What a server has resident that knows the tabular models and no other, when it has started with them.
fn tabular(place: &Placement) -> anyhow::Result<u64> {
    let folder = tempfile::tempdir()?;
    let settings = ["data.bundled_models=false".to_owned()];
    let (process, _) = Process::evserve_with(place, folder.path(), &settings)?;
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/zoo");
    for entry in fs_err::read_dir(&zoo)? {
        let model = entry?;
        if model.path().join("manifest.toml").is_file() && !model.file_name().to_string_lossy().starts_with(OF_PICTURES)
        {
            process.import_as(&model.path(), "canary")?;
        }
    }
    drop(process);
    Process::evserve_with(place, folder.path(), &settings)?.0.resident()
}

#[expect(clippy::cast_precision_loss, reason = "memory of one process is far below 2^52 bytes")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
