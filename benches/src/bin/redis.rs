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

/// The 99th percentile of requests that need no features, against that with Redis in order.
const BUDGET: f64 = 1.1;
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
    let mut p99_ms: [Vec<f64>; 3] = Default::default();
    let mut p50_ms: [Vec<f64>; 3] = Default::default();
    let mut ratios: [Vec<f64>; 2] = Default::default();
    for _ in 0..cli.rounds {
        let alive = predictions(&server, seconds)?;
        redis.signal("STOP")?;
        let still = predictions(&server, seconds)?;
        redis.signal("CONT")?;
        drop(redis);
        let dead = predictions(&server, seconds)?;
        redis = Redis::start(address)?;
        for (place, report) in [&alive, &dead, &still].into_iter().enumerate() {
            p50_ms[place].push(report.latency_us.p50 / 1e3);
            p99_ms[place].push(report.latency_us.p99 / 1e3);
        }
        ratios[0].push(dead.latency_us.p99 / alive.latency_us.p99);
        ratios[1].push(still.latency_us.p99 / alive.latency_us.p99);
        // The breaker tries again, and closes.
        thread::sleep(Duration::from_secs(2));
    }
    ended.store(true, Relaxed);
    for other in others {
        other.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }

    println!("\n{:<42} {:>9} {:>9} {:>9} {:>9}  budget", "Redis", "p50, ms", "p99, ms", "times", "allowed");
    let [p50_alive, p50_dead, p50_still] = p50_ms.map(median);
    let [alive, dead, still] = p99_ms.map(median);
    println!("{:<42} {p50_alive:>9.3} {alive:>9.3}", "in order");
    for (name, p50, p99, ratio) in [("dead", p50_dead, dead, 0), ("standing still", p50_still, still, 1)] {
        let ratio = median(std::mem::take(&mut ratios[ratio]));
        let verdict = if ratio <= BUDGET { "kept" } else { "MISSED" };
        println!("{name:<42} {p50:>9.3} {p99:>9.3} {ratio:>9.2} {BUDGET:>9.2}  {verdict}");
    }
    Ok(())
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
