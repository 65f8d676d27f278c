//! `evctl predict`: one request from options, or many from a file.

mod battery;
mod battery_fields;
mod image;
mod info;
mod range;
mod rows;
mod service;
mod stream;
mod thermal;
mod utilization;
mod watch;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ev_client::proto::ev::common::v1::{ModelSelector, model_selector::VersionChoice};

pub(crate) use self::{info::short_digest, rows::Rows};
use crate::{cli::GlobalOptions, exit::Exit, failure::Failure, output::Output};

/// Ask for a prediction.
#[derive(Debug, Subcommand)]
pub(crate) enum PredictCommand {
    /// How far does this car go?
    Range(range::RangeCommand),
    /// How many charging sessions a day will this station see?
    Utilization(utilization::UtilizationCommand),
    /// How healthy is this battery, and how long does it last?
    Battery(battery::BatteryCommand),
    /// Is this battery pack heading for thermal runaway, and what must be done now?
    Thermal(thermal::ThermalCommand),
    /// Which vehicle is on this photo?
    Image(image::ImageCommand),
}

/// Where requests come from when they do not come from options.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct FileOption {
    /// Answer every line of a file of JSON requests (`-` for standard input) with a line of JSON.
    ///
    /// A request has the field names of the API, such as {"make": "Tesla", "model": "Model 3", "battery_capacity_kwh": 60}.
    /// Line n is answered under id n, in order; a line that is wrong is answered with its error, and the rest goes on.
    #[arg(long, value_name = "ROWS.jsonl", conflicts_with = "fields", help_heading = "Many requests")]
    pub(crate) file: Option<PathBuf>,
}

/// Which model version shall answer.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct SelectionOptions {
    /// Registered model that shall answer [default: the service's own].
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    model_name: Option<String>,
    /// Version of the model, from 1 [default: where the alias production points].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "alias", help_heading = "Model")]
    model_version: Option<u32>,
    /// Alias of the version, such as production or canary.
    #[arg(long, value_name = "ALIAS", help_heading = "Model")]
    alias: Option<String>,
}

// === impl PredictCommand ===

impl PredictCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        match self {
            PredictCommand::Range(command) => command.run(global, output).await,
            PredictCommand::Utilization(command) => command.run(global, output).await,
            PredictCommand::Battery(command) => command.run(global, output).await,
            PredictCommand::Thermal(command) => command.run(global, output).await,
            PredictCommand::Image(command) => command.run(global, output).await,
        }
    }
}

// === impl SelectionOptions ===

impl SelectionOptions {
    pub(crate) fn selector(&self) -> Option<ModelSelector> {
        let SelectionOptions { model_name, model_version, alias } = self;
        let version_choice =
            model_version.map(VersionChoice::Version).or_else(|| alias.clone().map(VersionChoice::Alias));
        if model_name.is_none() && version_choice.is_none() {
            return None;
        }
        Some(ModelSelector { name: model_name.clone().unwrap_or_default(), version_choice })
    }
}
