//! What does a prediction over gRPC cost, beside a server that does nothing and beside the model itself?
//!
//! Both servers run on one processor, the client on another. They take turns; each figure is the median over the rounds.
//! Latencies are taken in many short turns, and compared second by second: what else wants the processor for some
//! milliseconds decides the 99th percentile of the turn that it falls into, whosever that is, and of its second. Half of
//! the seconds have less of it than the other half, and the quartiles tell how much one is worth.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use ev_benches::{
    grpc::{H2load, LoadReport, Placement, Process, Target, load, load_beside, machine, write_body},
    median,
};

/// Server time a unary call may cost above floor and model.
const UNARY_BUDGET_US: f64 = 1.0;
/// The same for a prediction on a stream.
const STREAM_BUDGET_US: f64 = 0.4;
/// Least share of 1 / (floor + model + budget) that is answered a second.
const RATE_BUDGET: f64 = 0.9;
/// How many times the floor's p99 the server's may be.
const P99_BUDGET: f64 = 1.25;

#[derive(Parser)]
struct Cli {
    /// Rounds; an odd number has a median.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Requests of one round of h2load.
    #[arg(long, default_value_t = 150_000)]
    requests: usize,
    /// Seconds of a round in which both servers' latencies are taken, each to be compared on its own.
    #[arg(long, default_value_t = 10)]
    seconds: usize,
    /// Offered requests a second for latencies.
    #[arg(long, default_value_t = 15_000)]
    rate: usize,
    /// The servers' processor.
    #[arg(long, default_value = "0")]
    server_processor: String,
    /// The client's processor.
    #[arg(long, default_value = "1")]
    client_processor: String,
}

/// What one round found for one server.
#[derive(Debug, Clone, Copy)]
struct Round {
    unary_us: f64,
    per_second: f64,
    stream_us: f64,
    stream_per_second: f64,
    unary_model_us: f64,
    stream_model_us: f64,
}

/// What one second at the offered rate found for one server; not a number where the client did not keep its schedule.
#[derive(Debug, Clone, Copy)]
struct Latency {
    p50_us: f64,
    p99_us: f64,
    /// The client's lateness, part of the latencies.
    lag_us: f64,
}

struct Bench {
    cli: Cli,
    h2load: Option<H2load>,
    body: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let folder = tempfile::tempdir()?;
    let body = folder.path().join("request.bin");
    let size = write_body(&body)?;
    let bench = Bench { h2load: H2load::find(), body, cli };
    println!(
        "{}; servers on processor {}, client on {}",
        machine(),
        bench.cli.server_processor,
        bench.cli.client_processor
    );
    let Cli { rounds, seconds, .. } = bench.cli;
    println!("request {size} bytes; {rounds} rounds, and {seconds} seconds of latencies in each; medians");
    if bench.h2load.is_none() {
        println!("without h2load (Debian: nghttp2-client): requests/s are what the Rust client reaches, which is less");
    }

    let place = Placement { processors: bench.cli.server_processor.clone(), cores: 1 };
    let floor = Process::floor(&place)?;
    let (full, _) = Process::evserve(&place, folder.path())?;
    let (mut rounds, mut latencies) = (Vec::new(), Vec::new());
    for round in 0..bench.cli.rounds {
        rounds.push(pair(round, || bench.round(&floor), || bench.round(&full))?);
        latencies.extend((0..bench.cli.seconds).map(|_| bench.latencies(&floor, &full)));
        eprint!("\rround {} of {}", round + 1, bench.cli.rounds);
    }
    eprintln!();
    bench.print(&Pairs(rounds), &Pairs(latencies));
    Ok(())
}

/// What was found of the floor and of the server, one right after the other.
struct Pairs<T>(Vec<(T, T)>);

/// Measures the floor and the server; who is first alternates.
fn pair<T>(
    turn: usize,
    floor: impl FnOnce() -> anyhow::Result<T>,
    full: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, T)> {
    if turn.is_multiple_of(2) {
        let floor = floor()?;
        Ok((floor, full()?))
    } else {
        let full = full()?;
        Ok((floor()?, full))
    }
}

// === impl Pairs ===

impl<T> Pairs<T> {
    fn floor(&self, value: fn(&T) -> f64) -> f64 {
        measured(self.0.iter().map(|(floor, _)| value(floor)))
    }

    fn full(&self, value: fn(&T) -> f64) -> f64 {
        measured(self.0.iter().map(|(_, full)| value(full)))
    }

    fn both(&self, value: impl Fn(&T, &T) -> f64) -> f64 {
        measured(self.0.iter().map(|(floor, full)| value(floor, full)))
    }

    /// The ends of the middle half; not numbers where nothing was found.
    fn quartiles(&self, value: impl Fn(&T, &T) -> f64) -> [f64; 2] {
        let mut values: Vec<f64> = self.0.iter().map(|(floor, full)| value(floor, full)).collect();
        values.retain(|value| !value.is_nan());
        values.sort_by(f64::total_cmp);
        [1, 3].map(|quarter| values.get(values.len() * quarter / 4).copied().unwrap_or(f64::NAN))
    }

    fn print(&self, name: &str, value: fn(&T) -> f64, decimals: usize) {
        println!("{name:<44} {:>12.decimals$} {:>12.decimals$}", self.floor(value), self.full(value));
    }
}

fn measured(values: impl Iterator<Item = f64>) -> f64 {
    median(values.filter(|value| !value.is_nan()).collect())
}

// === impl Bench ===

impl Bench {
    fn round(&self, server: &Process) -> anyhow::Result<Round> {
        let target = Target { address: server.address(), processors: self.cli.client_processor.clone() };
        let closed = ["--in-flight", "32", "--connections", "4", "--warm-up", "0s", "--duration", "500ms"];
        let before = server.used()?;
        let own = load(&target, &closed).context("unary")?;
        let (count, per_second, used) = match self.h2load {
            None => (own.sent, own.per_second, server.used()? - before),
            Some(h2load) => {
                let before = server.used()?;
                let calls = h2load.unary(&target, &self.body, 4, 32, self.cli.requests)?;
                (calls.count, calls.per_second, server.used()? - before)
            }
        };
        let before = server.used()?;
        let stream = load(
            &target,
            &[
                "--scenario",
                "stream",
                "--in-flight",
                "64",
                "--connections",
                "2",
                "--streams",
                "2",
                "--warm-up",
                "0s",
                "--duration",
                "1s",
            ],
        );
        let stream = stream.context("stream")?;
        let stream_used = server.used()? - before;
        Ok(Round {
            unary_us: used.as_secs_f64() * 1e6 / count,
            per_second,
            stream_us: stream_used.as_secs_f64() * 1e6 / stream.sent,
            stream_per_second: stream.per_second,
            unary_model_us: own.inference_us.p50,
            stream_model_us: stream.inference_us.p50,
        })
    }

    /// Of both servers, which take turns of 50 ms: the slowest hundredth is what waited while the machine did something
    /// else, and that comes in clusters, which must not fall upon one of the two.
    fn latencies(&self, floor: &Process, full: &Process) -> (Latency, Latency) {
        let [floor, full] = [floor, full]
            .map(|server| Target { address: server.address(), processors: self.cli.client_processor.clone() });
        let rate = self.cli.rate.to_string();
        let arguments = ["--rate", &rate, "--connections", "4", "--warm-up", "300ms", "--duration", "1s"];
        // A client that other work kept from its schedule says nothing of the servers: no latencies from this second.
        let open = load_beside(&floor, &full, &arguments);
        let open = open.inspect_err(|error| eprintln!("\na second without latencies: {error}")).ok();
        let found = |server: usize| {
            let value = |value: fn(&LoadReport) -> f64| open.as_ref().map_or(f64::NAN, |both| value(&both[server]));
            Latency {
                p50_us: value(|report| report.latency_us.p50),
                p99_us: value(|report| report.latency_us.p99),
                lag_us: value(|report| report.lag_us.p99),
            }
        };
        (found(0), found(1))
    }

    fn print(&self, rounds: &Pairs<Round>, latencies: &Pairs<Latency>) {
        println!("\n{:<44} {:>12} {:>12}", "", "floor", "evserve");
        rounds.print("unary: server time a request, us", |round| round.unary_us, 2);
        rounds.print("unary: requests/s, closed loop of 4 x 32", |round| round.per_second, 0);
        // The floor has no model, and makes its figure up.
        let model =
            |name: &str, value: fn(&Round) -> f64| println!("{name:<44} {:>12} {:>12.2}", "", rounds.full(value));
        model("unary: median model time, us", |round| round.unary_model_us);
        latencies.print("unary: p50 at the offered rate, us", |latency| latency.p50_us, 0);
        latencies.print("unary: p99 at the offered rate, us", |latency| latency.p99_us, 0);
        latencies.print("unary: p99 of the client's own lateness, us", |latency| latency.lag_us, 0);
        rounds.print("stream: server time a prediction, us", |round| round.stream_us, 2);
        rounds.print("stream: predictions/s, 4 streams of 64", |round| round.stream_per_second, 0);
        model("stream: median model time, us", |round| round.stream_model_us);

        println!("\n{:<58} {:>9} {:>9}  budget", "", "found", "allowed");
        let line = |name: &str, found: f64, allowed: f64, is_kept: bool| {
            println!("{name:<58} {found:>9.2} {allowed:>9.2}  {}", if is_kept { "kept" } else { "MISSED" });
        };
        let unary = rounds.both(|floor, full| full.unary_us - floor.unary_us - full.unary_model_us);
        line("unary: above floor and model, us", unary, UNARY_BUDGET_US, unary <= UNARY_BUDGET_US);
        let share = rounds
            .both(|floor, full| full.per_second * (floor.unary_us + full.unary_model_us + UNARY_BUDGET_US) * 1e-6);
        line("unary: requests/s x (floor + model + 1 us)", share, RATE_BUDGET, share >= RATE_BUDGET);
        let floor_share = rounds.floor(|floor| floor.per_second * floor.unary_us * 1e-6);
        println!("{:<58} {floor_share:>9.2}", "  the same of the floor itself: requests/s x floor");
        let p99 = latencies.both(|floor, full| full.p99_us / floor.p99_us);
        let name = format!("unary: p99 / floor's p99 at {} requests/s", self.cli.rate);
        line(&name, p99, P99_BUDGET, p99 <= P99_BUDGET);
        let [low, high] = latencies.quartiles(|floor, full| full.p99_us / floor.p99_us);
        println!("{:<58} {low:>9.2} {high:>9.2}", "  half of the seconds are between");
        let stream = rounds.both(|floor, full| full.stream_us - floor.stream_us - full.stream_model_us);
        line("stream: above floor and model, us", stream, STREAM_BUDGET_US, stream <= STREAM_BUDGET_US);
    }
}
