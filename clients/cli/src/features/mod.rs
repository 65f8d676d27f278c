//! `evctl features`: what is known of a vehicle now.

mod get;
mod put;

use clap::Subcommand;

use crate::{cli::GlobalOptions, exit::Exit, failure::Failure, output::Output};

/// See what is known of a vehicle now, and tell what its readings do not say.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A feature is what models are given of a vehicle: computed from its readings as they come in, or
told from outside, such as the cell family of its battery. Features that are read together are a view.

Examples:
  evctl features get car-1                      what is known, and how old is it?
  evctl features get car-1 --view pack_now      as the thermal model sees it
  evctl features put car-1 --view battery chemistry=nmc rated_capacity_ah=2.8")]
pub(crate) enum FeaturesCommand {
    Get(get::GetCommand),
    Put(put::PutCommand),
}

// === impl FeaturesCommand ===

impl FeaturesCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let client = global.connect().await?;
        match self {
            FeaturesCommand::Get(command) => command.run(&client, output).await,
            FeaturesCommand::Put(command) => command.run(&client, output).await,
        }
    }
}
