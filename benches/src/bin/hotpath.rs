//! How many instructions does a prediction take? Counted by callgrind, compared with `benches/callgrind.toml`.
//!
//! `hotpath` runs itself under valgrind and fails when a path became dearer than the tolerance; `hotpath --update` writes the new numbers.
//! Time on a shared machine is too noisy for this, counts are the same everywhere, but for the compiler and the profile.
//! valgrind shows no AVX-512 to the program, so the forest runs its portable kernel.

use std::{collections::BTreeMap, hint::black_box, path::Path, process::Command};

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use ev_proto::ev::range::v1::{PredictBatchRequest, PredictRequest, PredictStreamRequest};
use ev_registry::{AliasChange, ExpectedVersion, PRODUCTION, Registry, RegistryConfig};
use ev_server::{Config, Server, bench::InProcess};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Cli {
    /// Write what was counted to the file.
    #[arg(long)]
    update: bool,
    /// Where the committed numbers are.
    #[arg(long, default_value = "benches/callgrind.toml")]
    file: String,
    /// Run this many predictions of a path instead of counting; what valgrind is given.
    #[arg(long, requires = "path")]
    run: Option<u64>,
    #[arg(long, value_enum)]
    path: Option<CallPath>,
}

/// A way to ask for predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CallPath {
    Unary,
    Stream,
    Batch,
}

/// `benches/callgrind.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Committed {
    /// Share by which a count may be above its number.
    tolerance: f64,
    /// Compiler of the numbers.
    rustc: String,
    /// Instructions of one prediction, by path.
    instructions: BTreeMap<String, u64>,
}

const HEADER: &str = "# Instructions of one prediction, from request bytes to answer bytes, profile `release`, portable kernel.\n\
                      # Written by `benches/hotpath.sh --update`; commit it with the change that explains it.\n\n";
const PATHS: [CallPath; 3] = [CallPath::Unary, CallPath::Stream, CallPath::Batch];
/// Predictions that are counted; a multiple of [`ROWS`].
const COUNTED: u64 = 2_048;
/// Messages of a stream and rows of a batch.
const ROWS: u64 = 64;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let (Some(count), Some(path)) = (cli.run, cli.path) {
        return run(path, count);
    }
    let mut found = BTreeMap::new();
    for path in PATHS {
        let count = instructions(path)? / COUNTED;
        println!("{:<8} {count:>8} instructions a prediction", path.name());
        found.insert(path.name().to_owned(), count);
    }
    let file = Path::new(&cli.file);
    if cli.update {
        let committed = Committed { tolerance: 0.03, rustc: rustc(), instructions: found };
        fs_err::write(file, format!("{HEADER}{}", toml::to_string(&committed)?))?;
        return Ok(());
    }
    let committed: Committed = toml::from_str(&fs_err::read_to_string(file)?)?;
    compare(&committed, &found)
}

fn compare(committed: &Committed, found: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    let mut dearer = Vec::new();
    for (path, now) in found {
        let before =
            *committed.instructions.get(path).with_context(|| format!("no number for `{path}`: run with --update"))?;
        let ratio = ratio(*now, before);
        if ratio > 1.0 + committed.tolerance {
            dearer.push(format!("{path}: {before} before, {now} now ({:+.1} %)", (ratio - 1.0) * 100.0));
        } else if ratio < 1.0 - committed.tolerance {
            println!(
                "{path} became cheaper by {:.1} %: keep it with `benches/hotpath.sh --update`",
                (1.0 - ratio) * 100.0
            );
        }
    }
    if dearer.is_empty() {
        return Ok(());
    }
    let compiler = rustc();
    let compiler = if compiler == committed.rustc {
        String::new()
    } else {
        format!("\nThe numbers are of {}, this is {compiler}: update them apart from other changes.", committed.rustc)
    };
    bail!(
        "predictions take more instructions, by more than {:.0} %:\n  {}\n\
         Look at what was added to the path; if it is worth it, run `benches/hotpath.sh --update` and commit \
         benches/callgrind.toml with the reason.{compiler}",
        committed.tolerance * 100.0,
        dearer.join("\n  ")
    )
}

#[expect(clippy::cast_precision_loss, reason = "counts of instructions are far below 2^52")]
fn ratio(now: u64, before: u64) -> f64 {
    now as f64 / before.max(1) as f64
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Instructions that callgrind collects inside `predictions`.
fn instructions(path: CallPath) -> anyhow::Result<u64> {
    let folder = tempfile::tempdir()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*hotpath*predictions*"])
        .arg(format!("--callgrind-out-file={}", folder.path().join("out").display()))
        .arg(std::env::current_exe()?)
        .args(["--path", path.name(), "--run", &COUNTED.to_string()])
        .output()
        .context("cannot run valgrind; it is a package of the same name in Debian and others")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ")).and_then(|(_, count)| count.trim().parse().ok());
    match collected {
        Some(count) if count > 0 && output.status.success() => Ok(count),
        _ => bail!("callgrind counted nothing: {text}"),
    }
}

/// Starts a server, and predicts on this thread.
fn run(path: CallPath, count: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(register(folder.path()))?;
    let overrides = [
        ("data.directory", folder.path().display().to_string()),
        ("data.bundled_models", "false".to_owned()),
        ("grpc.address", "127.0.0.1:0".to_owned()),
        ("telemetry.address", "127.0.0.1:0".to_owned()),
        ("http.address", "127.0.0.1:0".to_owned()),
        ("grpc.serving_cores", "1".to_owned()),
    ];
    let config = Config::load(None, [], overrides.map(|(key, value)| (key.to_owned(), value)))?;
    let server = runtime.block_on(Server::start(config))?;
    let mut calls = server.in_process();
    let messages = path.messages();
    // Tables and caches are filled by the first.
    calls.call(path.method(), messages.clone().into())?;
    predictions(&mut calls, path, &messages, count)?;
    runtime.block_on(server.stop());
    Ok(())
}

/// Registers the one model that is asked: under valgrind those of pictures take minutes to warm up.
async fn register(data: &Path) -> anyhow::Result<()> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/zoo/ev-range");
    let registry = Registry::open(&RegistryConfig::new(data.join("registry"))).await?;
    let version = registry.import_dir(&model, 0).await?.version;
    let production = AliasChange::set(version.model, PRODUCTION, version.version, ExpectedVersion::Absent);
    registry.move_alias(&production, 0).await?;
    Ok(())
}

/// What is counted.
#[inline(never)]
fn predictions(calls: &mut InProcess, path: CallPath, messages: &[u8], count: u64) -> anyhow::Result<()> {
    for _ in 0..count / path.rows() {
        black_box(calls.call(path.method(), messages.to_vec().into())?);
    }
    Ok(())
}

// === impl CallPath ===

impl CallPath {
    fn name(self) -> &'static str {
        match self {
            CallPath::Unary => "unary",
            CallPath::Stream => "stream",
            CallPath::Batch => "batch",
        }
    }

    fn method(self) -> &'static str {
        match self {
            CallPath::Unary => "/ev.range.v1.RangePrediction/Predict",
            CallPath::Stream => "/ev.range.v1.RangePrediction/PredictStream",
            CallPath::Batch => "/ev.range.v1.RangePrediction/PredictBatch",
        }
    }

    /// Predictions of one call.
    fn rows(self) -> u64 {
        if self == CallPath::Unary { 1 } else { ROWS }
    }

    /// The framed messages of one call.
    fn messages(self) -> Vec<u8> {
        let cars = ev_loadtests::cars();
        let rows: Vec<PredictRequest> = (0..ROWS).zip(cars.iter().cycle()).map(|(_, car)| car.clone()).collect();
        match self {
            CallPath::Unary => framed(&cars[0]),
            CallPath::Batch => framed(&PredictBatchRequest { rows }),
            CallPath::Stream => (0..)
                .zip(rows)
                .flat_map(|(id, request)| framed(&PredictStreamRequest { id, request: Some(request) }))
                .collect(),
        }
    }
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let length = u32::try_from(message.encoded_len()).expect("a request is small");
    [&[0], &length.to_be_bytes()[..], &message.encode_to_vec()].concat()
}
