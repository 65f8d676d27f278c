//! `ev-loadtests swap`: what callers notice when a model's version changes.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use ev_loadtests::{Asked, Awake, Bench, Place, Subject, SwapsPlan, run_cycles, run_rollbacks, run_shadow, run_swaps};
use serde::Serialize;

use crate::Output;

/// Swaps a model's version under load, in turns with the same load without swaps.
///
/// Starts an `evserve` of its own with an empty data directory. Fails when a request fails, or a threshold is not kept.
#[derive(Args)]
pub(crate) struct SwapArgs {
    /// Folder of the model: of the task `range`, or `image_classification`.
    #[arg(long, default_value = "models/zoo/ev-range")]
    model_directory: PathBuf,
    /// The server's program [default: `evserve` beside this one].
    #[arg(long)]
    server: Option<PathBuf>,
    /// Its processors, as `taskset -c` takes them; empty: all.
    #[arg(long, default_value = "0")]
    processors: String,
    /// Settings of the server, such as batching.worker_priority=low; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// How a range model is asked; a client takes longer for a single call than the server does, and cannot fill it so.
    #[arg(long, value_enum, default_value_t = Kind::Rows)]
    scenario: Kind,
    /// Rows of a request of the rows scenario.
    #[arg(long, default_value_t = 256)]
    rows: usize,
    /// Load, as share of what fills the server's processors.
    #[arg(long, default_value_t = 0.7)]
    load: f64,
    /// Requests a second instead of that share.
    #[arg(long)]
    rate: Option<f64>,
    /// Connections of the load.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Turns with the change and without it.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Swaps of a turn.
    #[arg(long, default_value_t = 100)]
    swaps: u32,
    /// From one swap to the next.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    every: Duration,
    /// After so many swaps follows as much time without, under the same load. Longer blocks compare seconds in which the
    /// machine is not the same.
    #[arg(long, default_value_t = 3)]
    block: u32,
    /// Both versions stay loaded; otherwise each swap loads the one and frees the other.
    #[arg(long)]
    warm: bool,
    /// Also tell the percentiles without requests that met an absence of the machine. What notes absences makes a swap's own
    /// work come before requests more often.
    #[arg(long)]
    witness: bool,
    /// Instead: so many loads and unloads, and what they leave in memory.
    #[arg(long, conflicts_with_all = ["shadow", "rollback"])]
    cycles: Option<u32>,
    /// Instead: what a rollout in shadow costs production's median request.
    #[arg(long, conflicts_with = "rollback")]
    shadow: bool,
    /// Time of each measurement beside a shadow.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How many times slower than production the slow shadow is.
    #[arg(long, default_value_t = 10)]
    slower: usize,
    /// Instead: how soon a bad version's last answer comes after it was rolled back.
    #[arg(long)]
    rollback: bool,
    /// Let processors sleep that have nothing to do. What it takes to wake one, or to get that of a virtual machine back, is
    /// part of every latency then.
    #[arg(long)]
    let_sleep: bool,
    /// Fail when the 99th percentile with swaps is more than so many times that without, in the median of the turns.
    #[arg(long, default_value_t = 1.5)]
    p99_ratio_max: f64,
    /// Fail when memory after the last load is more than so many times that after the tenth.
    #[arg(long, default_value_t = 1.05)]
    growth_max: f64,
    /// Fail when a bad version still answers so long after the call.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    last_max: Duration,
    /// Table or JSON.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Unary,
    Stream,
    Rows,
}

/// Runs it on this thread.
pub(crate) async fn run(args: SwapArgs) -> anyhow::Result<ExitCode> {
    let bench = args.bench()?;
    let is_table = matches!(args.output, Output::Table);
    let _awake = if args.let_sleep { None } else { Awake::hold_or_tell() };
    let (printed, broken) = if let Some(cycles) = args.cycles {
        let report = run_cycles(&bench, cycles, |sample| tell(is_table, sample)).await?;
        (args.text(&report)?, report.broken(args.growth_max))
    } else if args.shadow {
        let report = run_shadow(&bench, args.duration, args.slower, |round| tell(is_table, round)).await?;
        (args.text(&report)?, report.broken())
    } else if args.rollback {
        let report = run_rollbacks(&bench, |round| tell(is_table, round)).await?;
        (args.text(&report)?, report.broken(args.last_max))
    } else {
        let SwapArgs { swaps, every, block, warm, witness, .. } = args;
        let plan = SwapsPlan { swaps, every, block, warm, witness };
        let report = run_swaps(&bench, plan, |round| tell(is_table, round)).await?;
        (args.text(&report)?, report.broken(args.p99_ratio_max))
    };
    println!("{}", printed.trim_end());
    for promise in &broken {
        eprintln!("FAILED: {promise}");
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Long tests say where they are.
fn tell(is_table: bool, what: &impl std::fmt::Display) {
    if is_table {
        eprintln!("{what}");
    }
}

// === impl SwapArgs ===

impl SwapArgs {
    fn bench(&self) -> anyhow::Result<Bench> {
        let program = match &self.server {
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name("evserve"),
        };
        anyhow::ensure!(program.is_file(), "there is no `{}`; --server says where it is", program.display());
        anyhow::ensure!(self.load > 0.0 && self.load < 1.0, "--load is {}, expected above 0 and below 1", self.load);
        anyhow::ensure!(self.rounds > 0 && self.swaps > 0 && self.slower > 0, "expected numbers above 0");
        anyhow::ensure!(self.rows > 1, "--rows is {}, expected above 1", self.rows);
        let asked = match self.scenario {
            Kind::Unary => Asked::Unary,
            Kind::Stream => Asked::Stream,
            Kind::Rows => Asked::Rows(self.rows),
        };
        Ok(Bench {
            place: Place { program, processors: self.processors.clone(), settings: self.settings.clone() },
            subject: Subject::open(&self.model_directory, asked)?,
            load: self.load,
            connections: self.connections,
            rounds: self.rounds,
            rate: self.rate,
        })
    }

    fn text(&self, report: &(impl std::fmt::Display + Serialize)) -> anyhow::Result<String> {
        Ok(match self.output {
            Output::Table => report.to_string(),
            Output::Json => serde_json::to_string_pretty(report)?,
        })
    }
}
