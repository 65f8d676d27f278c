//! How well does each shape of load use the serving cores: one connection with many streams, or many connections?

use std::time::{Duration, Instant};

use clap::Parser;
use ev_benches::{
    grpc::{H2load, Placement, Process, Target, load, machine, write_body},
    median,
};

/// Connections and requests in flight on each.
const SHAPES: [(usize, usize); 3] = [(1, 64), (8, 8), (64, 1)];

#[derive(Parser)]
struct Cli {
    /// Rounds; an odd number has a median.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests of one round of h2load.
    #[arg(long, default_value_t = 100_000)]
    requests: usize,
    /// Processors of a server with one serving thread.
    #[arg(long, default_value = "0")]
    one_processor: String,
    /// Processors of a server with two.
    #[arg(long, default_value = "0,1")]
    two_processors: String,
    /// The client's processor.
    #[arg(long, default_value = "1")]
    client_processor: String,
}

struct Round {
    per_second: f64,
    /// Processor seconds a second of each serving thread, the busiest first.
    busy: Vec<f64>,
    us: f64,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let folder = tempfile::tempdir()?;
    let body = folder.path().join("request.bin");
    write_body(&body)?;
    let h2load = H2load::find();
    println!("{}; client on processor {}; {} rounds, medians", machine(), cli.client_processor, cli.rounds);
    println!(
        "\n{:>8} {:>12} {:>11} {:>12} {:>14} {:>24}",
        "serving", "connections", "in flight", "requests/s", "us a request", "share by serving thread"
    );
    for (cores, processors) in [(1, &cli.one_processor), (2, &cli.two_processors)] {
        let place = Placement { processors: processors.clone(), cores };
        let (server, _) = Process::evserve(&place, &folder.path().join(cores.to_string()))?;
        let target = Target { address: server.address(), processors: cli.client_processor.clone() };
        for (connections, in_flight) in SHAPES {
            let rounds = (0..cli.rounds)
                .map(|_| {
                    measure(&server, || match h2load {
                        Some(h2load) => {
                            let calls = h2load.unary(&target, &body, connections, in_flight, cli.requests)?;
                            Ok((calls.count, calls.per_second))
                        }
                        None => {
                            let [connections, in_flight] = [connections, in_flight].map(|count| count.to_string());
                            let arguments = ["--connections", &connections, "--in-flight", &in_flight];
                            let report =
                                load(&target, &[&arguments[..], &["--warm-up", "0s", "--duration", "2s"]].concat())?;
                            Ok((report.sent, report.per_second))
                        }
                    })
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            print(cores, connections, in_flight, &rounds);
        }
    }
    Ok(())
}

fn measure(server: &Process, load: impl FnOnce() -> anyhow::Result<(f64, f64)>) -> anyhow::Result<Round> {
    let (before, started) = (serving(server)?, Instant::now());
    let (count, per_second) = load()?;
    let elapsed = started.elapsed();
    let used: Vec<f64> =
        serving(server)?.iter().zip(before).map(|(after, before)| (*after - before).as_secs_f64()).collect();
    let us = used.iter().sum::<f64>() * 1e6 / count;
    let mut busy: Vec<f64> = used.into_iter().map(|used| used / elapsed.as_secs_f64()).collect();
    busy.sort_by(|left, right| right.total_cmp(left));
    Ok(Round { per_second, busy, us })
}

/// Time of each serving thread.
fn serving(server: &Process) -> anyhow::Result<Vec<Duration>> {
    let threads = server.used_by_thread()?;
    Ok(threads.into_iter().filter(|(name, _)| name.starts_with("serve-")).map(|(_, used)| used).collect())
}

fn print(cores: usize, connections: usize, in_flight: usize, rounds: &[Round]) {
    let of = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let busy: Vec<String> = (0..cores)
        .map(|core| format!("{:.0} %", 100.0 * of(&|round| round.busy.get(core).copied().unwrap_or(0.0))))
        .collect();
    println!(
        "{cores:>8} {connections:>12} {in_flight:>11} {:>12.0} {:>14.2} {:>24}",
        of(&|round| round.per_second),
        of(&|round| round.us),
        busy.join(" + ")
    );
}
