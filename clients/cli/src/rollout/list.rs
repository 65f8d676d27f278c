//! `evctl rollout list`.

use clap::Args;
use ev_client::{
    Client,
    proto::ev::registry::v1::{Rollout, RolloutsListRequest},
};

use super::text;
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{BOLD, DIM, harmless},
    table::{Cell, Table},
};

/// List rollouts, newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
-o json prints a line for each rollout, as the API sends it.

Examples:
  evctl rollout list
  evctl rollout list --model ev-range --limit 5")]
pub(crate) struct ListCommand {
    /// Only of this model.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    model: String,
    /// Most rollouts, 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
}

// === impl ListCommand ===

impl ListCommand {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let ListCommand { model, limit } = self;
        let request = RolloutsListRequest { model, page_size: limit, page_token: String::new() };
        let page = client.rollouts().list(request).await?;
        for rollout in &page.rollouts {
            output.json_line(&Json::new(text::MESSAGE, rollout))?;
        }
        output.text(|| render(&page.rollouts))?;
        if !page.next_page_token.is_empty() {
            output.advise("there are more; see more with --limit");
        }
        Ok(Exit::Ok)
    }
}

fn render(rollouts: &[Rollout]) -> String {
    if rollouts.is_empty() {
        return "No rollouts. Start one with: evctl rollout start MODEL VERSION".to_owned();
    }
    let mut table = Table::new(["started", "model", "from", "to", "state", "reason", "id"]);
    for rollout in rollouts {
        let (state, style) = text::state(rollout);
        table.row([
            text::moment(rollout.created_at.as_ref()).into(),
            Cell::styled(&rollout.model, BOLD),
            rollout.baseline_version.to_string().into(),
            rollout.candidate_version.to_string().into(),
            Cell::styled(state, style),
            harmless(&rollout.reason).into(),
            Cell::styled(&rollout.id, DIM),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use crate::rollout::text::tests::shadowing;

    #[test]
    fn rollouts_are_rows() {
        assert_eq!(
            strip_str(&render(&[shadowing()])).to_string(),
            "\
STARTED                MODEL      FROM   TO   STATE       REASON                    ID
2026-01-01T00:00:00Z   ev-range   3      4    shadowing   the candidate is loaded   r-1
"
        );
        assert!(render(&[]).contains("evctl rollout start"));
    }
}
