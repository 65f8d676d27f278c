//! What do other requests notice of a Redis that is gone, or that stands still?

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use ev_benches::{
    grpc::{Placement, Process, machine},
    median,
};
use ev_loadtests::{IngestLoad, IngestPace, Load, Pace, Report};

/// Predictions of ranges a second: an eighth of what a core can do.
const PREDICTIONS_PER_SECOND: f64 = 4_000.0;
/// Readings a second meanwhile, whose features go to Redis, and questions about vehicles that only Redis could know.
const READINGS_PER_SECOND: f64 = 3_200.0;
const QUESTION_EVERY: Duration = Duration::from_millis(5);
/// Longest wait for Redis to start.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Cli {
    /// Rounds with Redis in order, dead, and standing still.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Processors of the server; this program has those it was started on.
    #[arg(long, default_value = "0")]
    processors: String,
}

/// A `redis-server` without a disk; killed when dropped.
struct Redis {
    child: Child,
    address: SocketAddr,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    println!("{}; the server on processor {}", machine(), cli.processors);
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut redis = Redis::start(address)?;
    let data = tempfile::tempdir()?;
    let place = Placement { processors: cli.processors.clone(), cores: 1 };
    let urls = format!("features.redis.urls=redis://{address}");
    let (server, _) = Process::evserve_with(&place, data.path(), &[urls, "observability.log=off".to_owned()])?;
    let ended = Arc::new(AtomicBool::new(false));
    let others = others(&server, &ended);

    let seconds = Duration::from_secs(cli.seconds);
    let [mut alive, mut again, mut still, mut dead] = [const { Found::new() }; 4];
    for _ in 0..cli.rounds {
        let usual = predictions(&server, seconds)?.latency_us.p99;
        alive.add(&predictions(&server, seconds)?, usual);
        redis.signal("STOP")?;
        still.add(&predictions(&server, seconds)?, usual);
        redis.signal("CONT")?;
        again.add(&predictions(&server, seconds)?, usual);
        drop(redis);
        dead.add(&predictions(&server, seconds)?, usual);
        redis = Redis::start(address)?;
        // The breaker tries again, and closes.
        thread::sleep(Duration::from_secs(2));
    }
    ended.store(true, Relaxed);
    for other in others {
        other.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }

    println!("\n{:<34} {:>9} {:>9} {:>11} {:>9}", "Redis", "p50, ms", "p99, ms", "p99, times*", "between");
    for (name, found) in
        [("in order", alive), ("in order, after it stood still", again), ("standing still", still), ("dead", dead)]
    {
        let Found { p50_ms, p99_ms, mut times } = found;
        times.sort_unstable_by(f64::total_cmp);
        let at = |quarter: usize| times.get(times.len() * quarter / 4).copied().unwrap_or(f64::NAN);
        let (p50, p99) = (median(p50_ms), median(p99_ms));
        println!("{name:<34} {p50:>9.3} {p99:>9.3} {:>11.2} {:>5.2}-{:.2}", at(2), at(1), at(3));
    }
    println!("  * of a measurement with Redis in order in the same round; half of the rounds are between");
    Ok(())
}

/// What the rounds found.
struct Found {
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    /// The 99th percentile against the usual one.
    times: Vec<f64>,
}

impl Found {
    const fn new() -> Found {
        Found { p50_ms: Vec::new(), p99_ms: Vec::new(), times: Vec::new() }
    }

    fn add(&mut self, report: &Report, usual_p99_us: f64) {
        self.p50_ms.push(report.latency_us.p50 / 1e3);
        self.p99_ms.push(report.latency_us.p99 / 1e3);
        self.times.push(report.latency_us.p99 / usual_p99_us);
    }
}

/// Requests that have nothing to do with features.
fn predictions(server: &Process, duration: Duration) -> anyhow::Result<Report> {
    let load = Load {
        endpoint: server.address().to_string(),
        pace: Pace::Rate(PREDICTIONS_PER_SECOND),
        warm_up: Duration::from_millis(100),
        duration,
        ..Load::default()
    };
    let report = runtime()?.block_on(ev_loadtests::run(&load))?;
    anyhow::ensure!(report.failed == 0 && report.error.is_none(), "{:?}", report.error);
    Ok(report)
}

/// What does go to Redis, until it is ended: readings, and questions about vehicles that memory does not know.
fn others(server: &Process, ended: &Arc<AtomicBool>) -> [thread::JoinHandle<anyhow::Result<()>>; 2] {
    let (ingest, address, ends, asks) = (server.telemetry(), server.address(), Arc::clone(ended), Arc::clone(ended));
    let readings = thread::spawn(move || {
        while !ends.load(Relaxed) {
            let load = IngestLoad {
                endpoint: ingest.to_string(),
                gateways: 2,
                pace: IngestPace::Rate(READINGS_PER_SECOND),
                duration: Duration::from_secs(1),
                ..IngestLoad::default()
            };
            let report = runtime()?.block_on(ev_loadtests::run_ingest(&load))?;
            anyhow::ensure!(report.error.is_none(), "{:?}", report.error);
        }
        Ok(())
    });
    let questions = thread::spawn(move || {
        runtime()?.block_on(async {
            let client = ev_client::Client::connect(&address.to_string()).await?;
            for vehicle in 0.. {
                if asks.load(Relaxed) {
                    break;
                }
                let answer = client.features().get(&format!("stranger-{vehicle}"), &[]).await;
                anyhow::ensure!(answer.is_ok(), "{answer:?}");
                tokio::time::sleep(QUESTION_EVERY).await;
            }
            Ok(())
        })
    });
    [readings, questions]
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

// === impl Redis ===

impl Redis {
    fn start(address: SocketAddr) -> anyhow::Result<Redis> {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let redis = Redis { child, address };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(redis.address).is_err() {
            anyhow::ensure!(Instant::now() < end, "redis-server does not listen after {PATIENCE:?}");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status()?;
        anyhow::ensure!(status.success(), "kill -{name}: {status}");
        Ok(())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
