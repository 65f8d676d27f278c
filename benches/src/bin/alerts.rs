//! How soon is a reading an alert, idle and overloaded, and what do hostile gateways cost the others?

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use clap::Parser;
use ev_benches::{
    grpc::{Placement, Process, machine},
    median,
};
use ev_loadtests::{
    AlertsLoad, AlertsReport, Connection, IngestLoad, IngestPace, IngestReport, run_alerts, run_ingest,
};

/// From reading to alert at the 99th percentile, idle and at ten times what fills the server.
const IDLE_BUDGET_MS: f64 = 50.0;
const OVERLOAD_BUDGET_MS: f64 = 250.0;
/// Others' acknowledgements beside hostile gateways, against those without.
const NEIGHBOUR_BUDGET: f64 = 1.5;
/// Readings a second, each of which raises an alert.
const ALERTS_PER_SECOND: f64 = 50.0;
/// Gateways that fill a server, each as fast as its credit allows; overload has ten times as many.
const FILLING: usize = 4;
/// Readings a second of those beside hostile ones.
const NEIGHBOURS_PER_SECOND: f64 = 5_000.0;

/// Readings a batch, how they come, and how many of them a core is to receive in a second.
const RECEIVED_BUDGETS: [(usize, Connection, f64); 6] = [
    (256, Connection::Good, 10e6),
    (256, Connection::Poor, 10e6),
    (10, Connection::Good, 3e6),
    (10, Connection::Poor, 3e6),
    (1, Connection::Good, 1e6),
    (1, Connection::Poor, 1e6),
];
const RECEIVED_ROUNDS: usize = 3;
const RECEIVED_TIME: Duration = Duration::from_secs(2);
/// Hostile gateways, and what they do.
const VICES: [(&str, &str); 5] = [
    ("deaf", "8 that never read"),
    ("flood", "2 that send without credit"),
    ("huge", "1 that sends batches of 14 MB"),
    ("forged", "1 that sends of vehicles nobody knows, as fast as credit allows"),
    ("clock", "1 that is a year ahead, as fast as credit allows"),
];

#[derive(Parser)]
struct Cli {
    /// Rounds with and without hostile gateways.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Seconds of each measurement of alerts.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only beside hostile gateways of this kind: deaf, flood, huge, forged or clock; nothing else is measured.
    #[arg(long)]
    vice: Option<String>,
    /// Processors of the server; this program has those it was started on.
    #[arg(long, default_value = "0")]
    processors: String,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    println!("{}; the server on processor {}", machine(), cli.processors);
    let data = tempfile::tempdir()?;
    let place = Placement { processors: cli.processors.clone(), cores: 1 };
    // Thousands of alerts are raised on purpose: what the log costs is not what is measured.
    let settings = ["data.bundled_models=false".to_owned(), "observability.log=off".to_owned()];
    let (server, _) = Process::evserve_with(&place, data.path(), &settings)?;
    let (ingest, seconds) = (server.telemetry(), Duration::from_secs(cli.seconds));
    if cli.vice.is_some() {
        return neighbours(&cli, ingest);
    }

    println!("\n{:<58} {:>9} {:>9}  budget", "from a reading to its alert", "found", "allowed");
    let idle = alerts(&server, seconds)?;
    print_alerts("idle", &idle, IDLE_BUDGET_MS);
    for (name, connection) in
        [("overloaded by gateways", Connection::Good), ("the same, late, twice, lost", Connection::Poor)]
    {
        let load = IngestLoad { gateways: 10 * FILLING, connection, duration: seconds + RAMP, ..load(ingest) };
        let overloading = thread::spawn(move || stored(&load));
        thread::sleep(RAMP / 2);
        let overloaded = alerts(&server, seconds)?;
        print_alerts(name, &overloaded, OVERLOAD_BUDGET_MS);
        let load = joined(overloading)?;
        println!("{:<58} {:>9.0}", "    readings/s durable meanwhile", load.durable_per_second);
    }

    received(&cli, &server, &place)?;
    neighbours(&cli, ingest)
}

/// Time for a load to get going, and to end.
const RAMP: Duration = Duration::from_secs(4);

/// What a reading costs the thread that receives it, beside a server that acknowledges and drops what it is sent.
fn received(cli: &Cli, server: &Process, place: &Placement) -> anyhow::Result<()> {
    let (floor, receiving) = (Process::floor(place)?, Process::receiving(place)?);
    println!(
        "\n{:<36} {:>11} {:>11} {:>11} {:>11} {:>9}  budget",
        "readings/s, as fast as credit allows", "durable", "beside it*", "received*", "floor*", "expected"
    );
    for (readings, connection, budget) in RECEIVED_BUDGETS {
        let load = |process: &Process| IngestLoad {
            gateways: FILLING,
            batch_readings: readings,
            connection,
            duration: RECEIVED_TIME,
            ..load(process.telemetry())
        };
        let [mut durable, mut beside, mut received, mut floors] = [const { Vec::new() }; 4];
        for _ in 0..cli.rounds.clamp(1, RECEIVED_ROUNDS) {
            let (report, thread) = busy(server, "ingest-0", || stored(&load(server)))?;
            durable.push(report.durable_per_second);
            beside.push(thread);
            received.push(busy(&receiving, "ingest-0", || sent(&load(&receiving)))?.1);
            floors.push(busy(&floor, "serve-0", || sent(&load(&floor)))?.1);
        }
        let [durable, beside, received, floor] = [durable, beside, received, floors].map(median);
        let how = if connection == Connection::Poor { ", late, twice, lost" } else { "" };
        let name = format!("  {readings} a batch{how}");
        let verdict = verdict(received >= budget);
        println!("{name:<36} {durable:>11.0} {beside:>11.0} {received:>11.0} {floor:>11.0} {budget:>9.0}  {verdict}");
    }
    println!("  * a core of the thread that receives: while readings are stored; while they are forgotten; of a floor");
    println!(
        "    that acknowledges and drops what it is sent. Late, twice, lost: some batches come out of order, again or"
    );
    println!(
        "    never; what comes again counts once, and the server's gap ledgers are compared with what did not come."
    );
    Ok(())
}

/// Received readings by the processor time of the thread with this name.
fn busy(
    server: &Process,
    thread: &str,
    send: impl Fn() -> anyhow::Result<IngestReport>,
) -> anyhow::Result<(IngestReport, f64)> {
    let used = || -> anyhow::Result<Duration> {
        let threads = server.used_by_thread()?;
        Ok(threads.iter().filter(|(name, _)| name == thread).map(|(_, used)| *used).sum())
    };
    let before = used()?;
    let report = send()?;
    let after = used()?;
    // Warm-up included, in time and in readings.
    let count = report.received_per_second * (RECEIVED_TIME + IngestLoad::default().warm_up).as_secs_f64();
    Ok((report, count / (after - before).as_secs_f64()))
}

/// Takes turns: with hostile gateways of each kind, and without.
fn neighbours(cli: &Cli, ingest: SocketAddr) -> anyhow::Result<()> {
    println!("\n{:<58} {:>9} {:>9}  budget", "others' acknowledgements beside hostile gateways", "found", "allowed");
    for (vice, what) in VICES {
        if cli.vice.as_ref().is_some_and(|asked| asked != vice) {
            continue;
        }
        let pace = IngestPace::Rate(NEIGHBOURS_PER_SECOND);
        let calm = || sent(&IngestLoad { gateways: 2, pace, duration: Duration::from_secs(1), ..load(ingest) });
        let mut ratios: [Vec<f64>; 4] = Default::default();
        let mut without_ms: [Vec<f64>; 2] = Default::default();
        for _ in 0..cli.rounds {
            let without = calm()?;
            let hostile = Hostile::start(vice, ingest)?;
            let beside = calm()?;
            drop(hostile);
            let of = |report: &IngestReport| {
                let (received, durable) = (report.received_us, report.durable_us);
                [received.p50, durable.p50, received.p99, durable.p99]
            };
            let (beside, without) = (of(&beside), of(&without));
            ratios.iter_mut().zip(beside.iter().zip(without)).for_each(|(ratios, (a, b))| ratios.push(a / b));
            without_ms.iter_mut().zip(without).for_each(|(all, us)| all.push(us / 1e3));
        }
        let [received_ms, durable_ms] = without_ms.map(median);
        println!("  {what}; p50 without them: received {received_ms:.2} ms, durable {durable_ms:.2} ms");
        let [received, durable, received_p99, durable_p99] = ratios.map(median);
        for (name, ratio) in [("    received, p50, times", received), ("    durable, p50, times", durable)] {
            println!("{name:<58} {ratio:>9.2} {NEIGHBOUR_BUDGET:>9.2}  {}", verdict(ratio <= NEIGHBOUR_BUDGET));
        }
        println!("    p99, times: received {received_p99:.2}, durable {durable_p99:.2}");
    }
    Ok(())
}

/// Hostile gateways in a process of the lowest priority, which leaves the processor to those that are measured on it.
struct Hostile(Child);

impl Hostile {
    fn start(vice: &str, ingest: SocketAddr) -> anyhow::Result<Hostile> {
        let program = std::env::current_exe()?.with_file_name("ev-loadtests");
        let child = Command::new("nice")
            .args(["-n", "19"])
            .arg(program)
            .args(["--scenario", "hostile", "--vice", vice, "--duration", "60s", "--endpoint", &ingest.to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Hostile(child))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn alerts(server: &Process, duration: Duration) -> anyhow::Result<AlertsReport> {
    let load = AlertsLoad {
        ingest: server.telemetry().to_string(),
        endpoint: server.address().to_string(),
        rate: ALERTS_PER_SECOND,
        duration,
    };
    let report = runtime()?.block_on(run_alerts(&load))?;
    let broken = report.broken(None);
    anyhow::ensure!(broken.is_empty(), "{broken:?}");
    Ok(report)
}

fn print_alerts(name: &str, report: &AlertsReport, budget_ms: f64) {
    let (p50, p99) = (report.latency_us.p50 / 1e3, report.latency_us.p99 / 1e3);
    let p50_name = format!("  {name}, p50, ms");
    println!("{p50_name:<58} {p50:>9.2}");
    let name = format!("  {name}, p99, ms");
    println!("{name:<58} {p99:>9.2} {budget_ms:>9.2}  {}", verdict(p99 <= budget_ms));
}

fn load(ingest: SocketAddr) -> IngestLoad {
    IngestLoad { endpoint: ingest.to_string(), ..IngestLoad::default() }
}

fn sent(load: &IngestLoad) -> anyhow::Result<IngestReport> {
    let report = runtime()?.block_on(run_ingest(load))?;
    anyhow::ensure!(report.error.is_none(), "{:?}", report.error);
    Ok(report)
}

/// To a server that keeps what it is sent.
fn stored(load: &IngestLoad) -> anyhow::Result<IngestReport> {
    let report = sent(load)?;
    let wrong = report.wrong_ledgers;
    anyhow::ensure!(wrong == 0, "the gap ledgers of {wrong} vehicles are not what was left out");
    Ok(report)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn joined<T>(thread: thread::JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
}

fn verdict(kept: bool) -> &'static str {
    if kept { "kept" } else { "MISSED" }
}
