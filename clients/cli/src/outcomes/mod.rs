//! `evctl outcomes`: what came of predictions, and how right they were.

mod compare;
mod input;
mod report;

use clap::Subcommand;

use crate::{cli::GlobalOptions, exit::Exit, failure::Failure, output::Output};

/// Report what came of predictions, and see how right the models were.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
The server logs a share of all predictions (predictions.log.share of its configuration). What came
of one is reported by its prediction id, and compared with what was predicted.

Examples:
  evctl outcomes report trips.csv --source trip-computer
  evctl outcomes compare ev-range                        how right is each version?
  evctl outcomes compare ev-range --from 7d --by-cohort  of the last week, and for which cars?")]
pub(crate) enum OutcomesCommand {
    Report(report::ReportCommand),
    Compare(compare::CompareCommand),
}

// === impl OutcomesCommand ===

impl OutcomesCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let client = global.connect().await?;
        match self {
            OutcomesCommand::Report(command) => command.run(&client, output).await,
            OutcomesCommand::Compare(command) => command.run(&client, output).await,
        }
    }
}
