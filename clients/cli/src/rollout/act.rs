//! `evctl rollout pause`, `resume`, `promote`, `abort` and `rollback`.

use clap::Args;
use ev_client::Client;

use super::text;
use crate::{exit::Exit, failure::Failure, json::Json, output::Output};

/// Which rollout, and why.
#[derive(Debug, Args)]
pub(crate) struct ActCommand {
    /// A rollout's id, or its model's name.
    #[arg(value_name = "ROLLOUT")]
    rollout: String,
    /// Why, for whoever reads the history, at most 1024 bytes.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Pause,
    Resume,
    Promote,
    Abort,
    Rollback,
}

// === impl ActCommand ===

impl ActCommand {
    pub(super) async fn run(self, client: &Client, output: &Output, act: Act) -> Result<Exit, Failure> {
        let ActCommand { rollout, reason } = self;
        let rollouts = client.rollouts();
        let rollout = match act {
            Act::Pause => rollouts.pause(&rollout, &reason).await?,
            Act::Resume => rollouts.resume(&rollout, &reason).await?,
            Act::Promote => rollouts.promote(&rollout, &reason).await?,
            Act::Abort => rollouts.abort(&rollout, &reason).await?,
            Act::Rollback => rollouts.rollback(&rollout, &reason).await?,
        };
        output.answer(&Json::new(text::MESSAGE, &rollout), || text::line(&rollout))?;
        Ok(Exit::Ok)
    }
}
