//! `evctl outcomes report`.

use std::path::PathBuf;

use clap::Args;
use ev_client::{
    Client,
    proto::ev::outcomes::v1::{Outcome, ReportRequest, ReportResult, ReportStatus},
};
use serde::Serialize;

use super::input::Form;
use crate::{exit::Exit, failure::Failure, json::Json, output::Output, predict::Rows, style::BAD};

/// Outcomes of one call; the server takes ten times as many.
const AT_ONCE: usize = 1_000;
/// Refusals that a person is shown.
const SHOWN_MAX: usize = 20;

/// Report what came of predictions, from a file.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is CSV with a header, or JSON, one ev.outcomes.v1.Outcome a line:

  prediction_id,actual,observed_time
  01a3f6c2-7d2e-7c41-9b7e-5f0f0c6c1d11,412.5,2026-01-31T12:00:00Z
  01a3f6c2-9a10-7e55-8e0a-1d1f6f0c7a02,388,

An actual that is a number is one, in the unit of the model's output; anything else is a class. Of
an event, such as battery failure, it is 1 or 0. A column `class` always holds classes.
Reporting a file again changes nothing.

-o json prints a line for each outcome.

Examples:
  evctl outcomes report trips.csv --source trip-computer
  psql -c \"copy (select ...) to stdout csv header\" | evctl outcomes report - --source warehouse")]
pub(crate) struct ReportCommand {
    /// The outcomes; - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Who says so: kept with each outcome.
    #[arg(long, value_name = "NAME", default_value = "evctl")]
    source: String,
    /// Take the place of what was reported before, which is kept beside.
    #[arg(long)]
    supersede: bool,
}

/// What became of a line.
#[derive(Serialize)]
struct Line<'a> {
    line: u64,
    prediction_id: &'a str,
    #[serde(flatten)]
    result: Json,
}

#[derive(Debug, Default)]
struct Counts {
    stored: u64,
    known: u64,
    superseded: u64,
    forwarded: u64,
    refused: u64,
    /// The first refusals.
    refusals: Vec<String>,
}

// === impl ReportCommand ===

impl ReportCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let mut lines = Rows::open(&self.file).await?;
        let (mut form, mut counts) = (None, Counts::default());
        let mut outcomes: Vec<(u64, Outcome)> = Vec::new();
        while let Some((number, text)) = lines.next_line().await? {
            let bad = |problem: String| {
                Failure::usage(format!("line {number}: {problem}"), &["see evctl outcomes report --help"])
            };
            let text = text.map_err(|error| Failure::usage(error.message, &["see evctl outcomes report --help"]))?;
            let form = match &form {
                Some(form) => form,
                None => {
                    let (found, is_header) = Form::of(&text).map_err(bad)?;
                    let found = form.insert(found);
                    if is_header {
                        continue;
                    }
                    found
                }
            };
            let mut outcome = form.read(&text).map_err(bad)?;
            outcome.supersede |= self.supersede;
            outcomes.push((number, outcome));
            if outcomes.len() == AT_ONCE {
                self.send(client, output, &mut counts, std::mem::take(&mut outcomes)).await?;
            }
        }
        if !outcomes.is_empty() {
            self.send(client, output, &mut counts, outcomes).await?;
        }
        output.text(|| counts.render())?;
        Ok(if counts.refused > 0 { Exit::Failed } else { Exit::Ok })
    }

    async fn send(
        &self,
        client: &Client,
        output: &Output,
        counts: &mut Counts,
        outcomes: Vec<(u64, Outcome)>,
    ) -> Result<(), Failure> {
        let request = ReportRequest {
            outcomes: outcomes.iter().map(|(_, outcome)| outcome.clone()).collect(),
            source: self.source.clone(),
        };
        let response = client.outcomes().report(request).await?;
        for ((line, outcome), result) in outcomes.iter().zip(&response.results) {
            let prediction_id = outcome.prediction_id.as_str();
            let json = || Line { line: *line, prediction_id, result: Json::new("ev.outcomes.v1.ReportResult", result) };
            output.json_line(&json())?;
            counts.add(*line, result);
        }
        Ok(())
    }
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, line: u64, result: &ReportResult) {
        match result.status() {
            ReportStatus::Stored => self.stored += 1,
            ReportStatus::AlreadyReported => self.known += 1,
            ReportStatus::Superseded => self.superseded += 1,
            ReportStatus::Forwarded => self.forwarded += 1,
            ReportStatus::Refused | ReportStatus::Unspecified => {
                self.refused += 1;
                if self.refusals.len() < SHOWN_MAX {
                    let error = result.error.as_ref();
                    let (reason, message) =
                        error.map_or(("", ""), |error| (error.reason.as_str(), error.message.as_str()));
                    self.refusals.push(format!("{BAD}line {line}{BAD:#}: {reason}: {message}"));
                }
            }
        }
    }

    fn render(&self) -> String {
        let Counts { stored, known, superseded, forwarded, refused, refusals } = self;
        let all = stored + known + superseded + forwarded + refused;
        let parts = [
            (stored, "stored"),
            (known, "reported before"),
            (superseded, "corrected"),
            (forwarded, "kept for the server that made the prediction"),
            (refused, "refused"),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(count, _)| **count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let outcomes = if all == 1 { "outcome" } else { "outcomes" };
        let mut text = if parts.is_empty() {
            "The file has no outcomes.".to_owned()
        } else {
            format!("{all} {outcomes}: {}", parts.join(", "))
        };
        for refusal in refusals {
            text.push_str("\n  ");
            text.push_str(refusal);
        }
        let more = usize::try_from(*refused).unwrap_or(usize::MAX) - refusals.len();
        if more > 0 {
            text.push_str(&format!("\n  and {more} more; see all with -o json"));
        }
        text
    }
}
