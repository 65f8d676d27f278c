//! `evsim`: writes what a simulated fleet sends, or a recording, or streams it to a server; at any speed.

mod cli;
mod depot;
mod pace;
mod source;
mod status;
mod stop;
mod stream;
mod write;

use std::{io, process::ExitCode};

use anyhow::Context as _;
use clap::Parser as _;
use evsim::SimError;

use cli::{Cli, Command, OutArgs};
use pace::Speed;
use source::Source;
use write::TruthFile;

/// Threads that hold gateways' streams, beside the one that simulates.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Replay(args) => Source::replay(&args).and_then(|source| send(source, &args.out, None)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &cli::RunArgs) -> anyhow::Result<()> {
    let source = Source::run(args)?;
    let truth = args.truth.as_deref().map(TruthFile::create).transpose()?;
    send(source, &args.out, truth)
}

fn send(source: Source, out: &OutArgs, truth: Option<TruthFile>) -> anyhow::Result<()> {
    let Some(to) = &out.to else { return Ok(write::write(source, out, truth)?) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("the stream's threads cannot be started")?;
    let result = runtime.block_on(stream::stream(to, source, &out.stream, truth));
    // What is not said by now never will be.
    runtime.shutdown_background();
    result
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SimError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe)
}

// === impl OutArgs ===

impl OutArgs {
    /// A stream goes on as life does, a file is wanted at once.
    fn speed(&self) -> Speed {
        let usual = if self.to.is_some() { Speed::Times(1.0) } else { Speed::Max };
        self.speed.unwrap_or(usual)
    }
}
