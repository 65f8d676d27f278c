//! The questions that are answered by a closed loop, and what they share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ev_benches::{
    grpc::{LoadReport, Placement, Process, Target, load},
    median,
};
use tempfile::TempDir;

use crate::peer;

/// Least share of the peer's pictures a second: from a tensor with one caller, with four, and from a file.
const TENSOR_ONE: f64 = 0.95;
const TENSOR_FOUR: f64 = 0.97;
const PHOTO: f64 = 0.90;
/// How many times their idle median and 99th percentile tabular requests may take beside busy workers.
const NEIGHBOUR_P50: f64 = 1.5;
const NEIGHBOUR_P99: f64 = 3.0;
/// Runs of the neighbours, idle and beside busy workers in turn.
const NEIGHBOUR_RUNS: usize = 10;
/// Each measurement takes so long.
const SECONDS: f64 = 2.0;
/// Server and client of one-processor measurements; both share both in those of two.
const SERVER: &str = "0";
const CLIENT: &str = "1";
const BOTH: &str = "0,1";
/// The client beside a server on two processors, where it must not share them.
const THIRD: &str = "2";

/// What the questions are asked with.
pub(crate) struct Setting {
    pub(crate) rounds: usize,
    pub(crate) model: PathBuf,
    pub(crate) photo: PathBuf,
    pub(crate) folder: TempDir,
}

/// Which rows of the table against the peer; all, where nothing is said.
#[derive(Debug, Default, Args)]
pub(crate) struct Rows {
    /// Of a server on so many processors, 1 or 2.
    #[arg(long)]
    processors: Option<usize>,
    /// Of so many callers, 1 or 4.
    #[arg(long)]
    callers: Option<usize>,
    /// Of pictures sent as this.
    #[arg(long)]
    from: Option<Kind>,
}

/// What a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The tensor, over the Open Inference Protocol.
    Tensor,
    /// The file, to `VehicleVision.Classify`.
    Photo,
}

// === impl Setting ===

impl Setting {
    pub(crate) fn described(&self) -> anyhow::Result<String> {
        let size = fs_err::metadata(&self.photo)?.len();
        Ok(format!("model {}, photo of {} KB", self.name()?, size / 1000))
    }

    fn name(&self) -> anyhow::Result<String> {
        Ok(peer::manifest(&self.model)?.0.model.name)
    }

    fn side(&self) -> anyhow::Result<String> {
        Ok(peer::manifest(&self.model)?.0.inputs[0].shape[1].to_string())
    }

    /// A server on these processors that serves the model.
    pub(crate) fn server(&self, processors: &str, settings: &[String]) -> anyhow::Result<Process> {
        let place = Placement { processors: processors.to_owned(), cores: processors.split(',').count() };
        let data = self.folder.path().join("data");
        let is_first = !data.exists();
        let (server, _) = Process::evserve_with(&place, &data, settings)?;
        if is_first {
            // Pictures of nothing: the weights are random, and no label was ever measured.
            server.import_waiving(&self.model, &self.name()?, &["synthetic"])?;
        }
        Ok(server)
    }

    /// Loads a server with pictures from these processors.
    pub(crate) fn pictures(
        &self,
        server: &Process,
        client: &str,
        kind: Kind,
        arguments: &[&str],
    ) -> anyhow::Result<LoadReport> {
        let target = Target { address: server.address(), processors: client.to_owned() };
        let (name, side, photo) = (self.name()?, self.side()?, self.photo.display().to_string());
        let mut all = match kind {
            Kind::Tensor => vec!["--scenario", "tensor", "--side", &side],
            Kind::Photo => vec!["--scenario", "photo", "--photo", &photo],
        };
        all.extend(["--model", &name, "--connections", "1"]);
        all.extend(arguments);
        load(&target, &all)
    }

    /// A closed loop of so many callers.
    pub(crate) fn closed(
        &self,
        server: &Process,
        client: &str,
        kind: Kind,
        callers: usize,
    ) -> anyhow::Result<LoadReport> {
        let (callers, duration) = (callers.to_string(), format!("{SECONDS}s"));
        self.pictures(server, client, kind, &["--in-flight", &callers, "--warm-up", "300ms", "--duration", &duration])
    }

    /// Against the peer.
    pub(crate) fn budgets(&self, rows: &Rows) -> anyhow::Result<()> {
        println!(
            "\n| processors | from | callers | ONNX Runtime in process, pictures/s | p50, p99 ms | evserve, pictures/s | p50, p99 ms | ratio | half of the rounds between | at least | |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|");
        for (processors, client) in [(SERVER, CLIENT), (BOTH, BOTH)] {
            if rows.processors.is_some_and(|asked| asked != processors.split(',').count()) {
                continue;
            }
            let server = self.server(processors, &[])?;
            for kind in [Kind::Tensor, Kind::Photo] {
                for callers in [1, 4] {
                    if rows.from.is_some_and(|asked| asked != kind)
                        || rows.callers.is_some_and(|asked| asked != callers)
                    {
                        continue;
                    }
                    let (mut peers, mut ours) = (Vec::new(), Vec::new());
                    for round in 0..self.rounds {
                        let peer = || peer::measure(processors, &self.model, kind.photo(&self.photo), callers, SECONDS);
                        // Who is first alternates.
                        if round % 2 == 0 {
                            peers.push(peer()?);
                        }
                        ours.push(self.closed(&server, client, kind, callers)?);
                        if round % 2 == 1 {
                            peers.push(peer()?);
                        }
                        eprint!("\r{processors} {} {callers}: round {} of {}   ", kind.name(), round + 1, self.rounds);
                    }
                    let ratios = peers.iter().zip(&ours).map(|(peer, ours)| ours.per_second / peer.per_second);
                    let mut ratios: Vec<f64> = ratios.collect();
                    ratios.sort_by(f64::total_cmp);
                    let (lower, upper) = (ratios[ratios.len() / 4], ratios[ratios.len() * 3 / 4]);
                    let ratio = median(ratios);
                    let least = match (kind, callers) {
                        (Kind::Photo, _) => PHOTO,
                        (Kind::Tensor, 1) => TENSOR_ONE,
                        (Kind::Tensor, _) => TENSOR_FOUR,
                    };
                    let of_peers = |value: fn(&peer::Reached) -> f64| median(peers.iter().map(value).collect());
                    let of_ours = |value: fn(&LoadReport) -> f64| median(ours.iter().map(value).collect());
                    eprint!("\r{:60}\r", "");
                    println!(
                        "| {} | {} | {callers} | {:.1} | {:.1}, {:.1} | {:.1} | {:.1}, {:.1} | {ratio:.3} | {lower:.2} and {upper:.2} | {least} | {} |",
                        processors.split(',').count(),
                        kind.name(),
                        of_peers(|peer| peer.per_second),
                        of_peers(|peer| peer.p50_ms),
                        of_peers(|peer| peer.p99_ms),
                        of_ours(|ours| ours.per_second),
                        of_ours(|ours| ours.latency_us.p50 / 1e3),
                        of_ours(|ours| ours.latency_us.p99 / 1e3),
                        verdict(ratio >= least),
                    );
                }
            }
        }
        Ok(())
    }

    /// With and without batches.
    pub(crate) fn batching(&self, kind: Kind) -> anyhow::Result<()> {
        let ways = [
            ("one by one", vec!["batching.max_image_batch_size=1".to_owned()]),
            ("up to 4", vec!["batching.max_image_batch_size=4".to_owned()]),
            ("up to 8", vec!["batching.max_image_batch_size=8".to_owned()]),
            (
                "up to 8, waiting 5 ms",
                vec!["batching.max_image_batch_size=8".to_owned(), "batching.max_queue_delay=5ms".to_owned()],
            ),
        ];
        println!("\n| from | callers | batches | pictures/s | p50 ms | p99 ms |\n|---|---|---|---|---|---|");
        for callers in [1, 4, 16] {
            let mut found = vec![Vec::new(); ways.len()];
            for _ in 0..self.rounds {
                for ((_, settings), found) in ways.iter().zip(&mut found) {
                    let server = self.server(SERVER, settings)?;
                    found.push(self.closed(&server, CLIENT, kind, callers)?);
                }
            }
            for ((way, _), found) in ways.iter().zip(&found) {
                let of = |value: fn(&LoadReport) -> f64| median(found.iter().map(value).collect());
                println!(
                    "| {} | {callers} | {way} | {:.1} | {:.1} | {:.1} |",
                    kind.name(),
                    of(|report| report.per_second),
                    of(|report| report.latency_us.p50 / 1e3),
                    of(|report| report.latency_us.p99 / 1e3),
                );
            }
        }
        Ok(())
    }

    /// Tabular requests beside busy workers.
    pub(crate) fn neighbours(&self) -> anyhow::Result<()> {
        println!("\n| server's processors | tabular requests | idle, ms | beside pictures, ms | ratio | at most | |");
        println!("|---|---|---|---|---|---|---|");
        let processors = std::thread::available_parallelism()?.get();
        if processors < 3 {
            // The client keeps its schedule by spinning, and would find itself beside the workers.
            println!("(a server on two processors is asked only where the client has a third)");
        }
        let places = [(SERVER, CLIENT), (BOTH, THIRD)];
        for (processors, client) in places.into_iter().take(processors - 1) {
            let server = self.server(processors, &[])?;
            let target = Target { address: server.address(), processors: client.to_owned() };
            let tabular =
                || load(&target, &["--rate", "500", "--connections", "2", "--warm-up", "300ms", "--duration", "2s"]);
            let (mut idle, mut busy) = (Vec::new(), Vec::new());
            for _ in 0..NEIGHBOUR_RUNS {
                idle.push(tabular()?.latency_us);
                let found = std::thread::scope(|scope| {
                    let pictures = scope.spawn(|| {
                        let arguments = ["--in-flight", "8", "--warm-up", "0s", "--duration", "4s"];
                        self.pictures(&server, client, Kind::Photo, &arguments)
                    });
                    std::thread::sleep(std::time::Duration::from_millis(500));
                    let found = tabular();
                    let pictures = pictures.join().unwrap_or_else(|_| anyhow::bail!("the load panicked"));
                    pictures.and(found)
                })?;
                busy.push(found.latency_us);
            }
            for (name, value, most) in [
                ("p50", (|latency| latency.p50) as fn(&ev_benches::grpc::Latency) -> f64, NEIGHBOUR_P50),
                ("p99", |latency| latency.p99, NEIGHBOUR_P99),
            ] {
                let ratio = median(idle.iter().zip(&busy).map(|(idle, busy)| value(busy) / value(idle)).collect());
                println!(
                    "| {} | {name} | {:.3} | {:.3} | {ratio:.2} | {most} | {} |",
                    processors.split(',').count(),
                    median(idle.iter().map(value).collect()) / 1e3,
                    median(busy.iter().map(value).collect()) / 1e3,
                    verdict(ratio <= most),
                );
            }
        }
        Ok(())
    }
}

/// What a table says of a budget.
pub(crate) fn verdict(kept: bool) -> &'static str {
    if kept { "kept" } else { "MISSED" }
}

// === impl Kind ===

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Tensor => "tensor",
            Kind::Photo => "JPEG",
        }
    }
}
