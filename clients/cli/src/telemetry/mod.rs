//! `evctl telemetry`: what vehicles' sensors say.

mod aggregate;
mod arrow_schema;
pub(crate) mod cells;
pub(crate) mod csv;
mod export;
mod gaps;
mod latest;
mod parquet;
mod query;
mod recording;
mod rejected;
mod send;
mod tail;
pub(crate) mod time;
mod vehicles;

use clap::Subcommand;

use crate::{
    cli::{Format, GlobalOptions},
    exit::Exit,
    failure::Failure,
    output::Output,
};

/// See and send what vehicles' sensors say.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A reading is what a vehicle's sensors say at one time: values of signals, such as Vehicle.Speed.
Gateways stream readings to the server's ingest address; these commands ask about them on the main one.

Examples:
  evctl telemetry vehicles                                 who sends, since when, how completely
  evctl telemetry latest car-1                             the latest value of each signal
  evctl telemetry tail                                     readings as they come in
  evctl telemetry query car-1 --signal Vehicle.Speed --since 1h
  evctl telemetry aggregate car-1 --by hour --since 7d
  evctl telemetry export car-1 --since 24h --file car-1.parquet
  evctl telemetry gaps car-1                               which batches never came
  evctl telemetry rejected                                 which readings were refused, and why
  evctl telemetry send car-1.csv --vehicle car-2 --speed 10x    play it back as another vehicle")]
pub(crate) enum TelemetryCommand {
    /// List the vehicles that readings were taken in of, with the completeness of their data.
    #[command(after_help = "\
Completeness is the share of a vehicle's numbered batches that came: below 100 % some were lost on the way.

Examples:
  evctl telemetry vehicles
  evctl -o json telemetry vehicles | jq -r 'select(.completeness < 1).vehicle_id'")]
    Vehicles,
    Latest(latest::LatestCommand),
    Tail(tail::TailCommand),
    Query(query::QueryCommand),
    Aggregate(aggregate::AggregateCommand),
    Export(export::ExportCommand),
    Gaps(gaps::GapsCommand),
    Rejected(rejected::RejectedCommand),
    Send(send::SendCommand),
}

// === impl TelemetryCommand ===

impl TelemetryCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        match self {
            TelemetryCommand::Vehicles => vehicles::run(&global.connect().await?, output).await,
            TelemetryCommand::Latest(command) => command.run(&global.connect().await?, output).await,
            TelemetryCommand::Tail(command) => command.run(&global.connect().await?, output).await,
            TelemetryCommand::Query(command) => command.run(&global.connect().await?, output).await,
            TelemetryCommand::Aggregate(command) => command.run(&global.connect().await?, output).await,
            TelemetryCommand::Export(command) => command.run(&global.connect().await?, output).await,
            TelemetryCommand::Gaps(command) => command.run(&global.connect().await?, output).await,
            TelemetryCommand::Rejected(command) => command.run(&global.connect().await?, output).await,
            TelemetryCommand::Send(command) => command.run(global, output).await,
        }
    }

    /// Whether its answer can be CSV.
    pub(crate) fn has_format(&self, format: Format) -> bool {
        format != Format::Csv || matches!(self, TelemetryCommand::Query(_) | TelemetryCommand::Aggregate(_))
    }
}
