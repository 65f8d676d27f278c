//! `evctl`: asks an evserve server for predictions, manages its models, shows and sends telemetry, tells alerts, and says what is wrong with it.
//!
//! Invariants:
//!
//! - Everything goes over the public API.
//! - Tables are for people and may change; `-o json` is for scripts, keeps its names, and is the API's own messages.
//! - Nothing but answers goes to standard output; errors, progress and advice go to standard error.
//! - Every error says what to do.
//!
//! Not here: checks of a request's values; the server knows them.

mod actor;
mod alerts;
mod cli;
mod completions;
mod doctor;
mod exit;
mod failure;
mod features;
mod import;
mod interval;
mod json;
mod live;
mod models;
mod outcomes;
mod output;
mod predict;
mod rollout;
mod style;
mod table;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{cli::Cli, failure::Failure, output::Output};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.output);
    // The connection lives on a thread of its own, so that it is kept while standard output is full.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.failure(&Failure::Start(error)),
    };
    let result = runtime.block_on(cli.run(&output));
    // A read of standard input that never ends must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => output.failure(&failure),
    }
}
