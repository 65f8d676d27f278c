//! `evctl rollout`: a new version's way to production.

mod act;
mod list;
mod start;
mod status;
mod text;
mod watch;

use clap::Subcommand;

use crate::{cli::GlobalOptions, exit::Exit, failure::Failure, output::Output};

/// Bring a new version to production step by step, watch it, and take it back.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A rollout first runs copies of production's rows on the new version (shadow), then gives it a growing
share of the requests (canary), then all of them for a while (bake), and then makes it production.
Guards compare errors, latency and predictions with production's all the time, and take it back by
themselves. ROLLOUT is a rollout's id or its model's name: then the model's newest is meant.

Examples:
  evctl rollout start ev-range 4                  with the usual plan: about 50 minutes
  evctl rollout start ev-range 4 --step 5:10m --step 50:10m --bake 30m
  evctl rollout watch ev-range                    how does it do?
  evctl rollout rollback ev-range --reason 'depot reports nonsense'")]
pub(crate) enum RolloutCommand {
    Start(Box<start::StartCommand>),
    Status(status::StatusCommand),
    List(list::ListCommand),
    Watch(watch::WatchCommand),
    /// Stay where it is until it is resumed; guards go on.
    Pause(act::ActCommand),
    /// Go on after a pause.
    Resume(act::ActCommand),
    /// Make the new version production now.
    Promote(act::ActCommand),
    /// End it; production stays what it was.
    Abort(act::ActCommand),
    /// Take the new version back, also after it was promoted.
    Rollback(act::ActCommand),
}

// === impl RolloutCommand ===

impl RolloutCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let client = global.connect().await?;
        match self {
            RolloutCommand::Start(command) => command.run(&client, output).await,
            RolloutCommand::Status(command) => command.run(&client, output).await,
            RolloutCommand::List(command) => command.run(&client, output).await,
            RolloutCommand::Watch(command) => command.run(&client, output).await,
            RolloutCommand::Pause(command) => command.run(&client, output, act::Act::Pause).await,
            RolloutCommand::Resume(command) => command.run(&client, output, act::Act::Resume).await,
            RolloutCommand::Promote(command) => command.run(&client, output, act::Act::Promote).await,
            RolloutCommand::Abort(command) => command.run(&client, output, act::Act::Abort).await,
            RolloutCommand::Rollback(command) => command.run(&client, output, act::Act::Rollback).await,
        }
    }
}
