//! `evctl rollout status`.

use clap::Args;
use ev_client::Client;

use super::text;
use crate::{exit::Exit, failure::Failure, json::Json, output::Output};

/// Show where a rollout is, what was seen of it, and what its guards say.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evctl rollout status ev-range
  evctl -o json rollout status ev-range | jq -r '.guards[] | select(.state == \"ROLLOUT_GUARD_STATE_FAILING\").name'")]
pub(crate) struct StatusCommand {
    /// A rollout's id, or its model's name.
    #[arg(value_name = "ROLLOUT")]
    rollout: String,
}

// === impl StatusCommand ===

impl StatusCommand {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let rollout = client.rollouts().get(&self.rollout).await?;
        output.answer(&Json::new(text::MESSAGE, &rollout), || text::page(&rollout))?;
        Ok(Exit::Ok)
    }
}
