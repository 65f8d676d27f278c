//! `evctl telemetry latest`.

use clap::Args;
use ev_client::{
    Client,
    proto::ev::telemetry::v1::{GetLatestResponse, SignalValue},
};

use super::{cells, time};
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::BOLD,
    table::{Cell, Table},
};

/// Show the latest value of each signal of a vehicle.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evctl telemetry latest car-1
  evctl telemetry latest car-1 --signal Vehicle.Speed --signal Vehicle.TraveledDistance")]
pub(crate) struct LatestCommand {
    /// The vehicle, as `evctl telemetry vehicles` lists it.
    #[arg(value_name = "VEHICLE")]
    vehicle: String,
    /// Only this signal, by its VSS path; may be given several times.
    #[arg(long = "signal", value_name = "PATH")]
    signals: Vec<String>,
}

// === impl LatestCommand ===

impl LatestCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let response = client.telemetry().latest(&self.vehicle, &self.signals).await?;
        output.answer(&Json::new("ev.telemetry.v1.GetLatestResponse", &response), || render(&response))?;
        Ok(Exit::Ok)
    }
}

fn render(response: &GetLatestResponse) -> String {
    if response.values.is_empty() {
        return "No value of these signals yet. See what there is without --signal".to_owned();
    }
    let mut table = Table::new(["signal", "value", "time"]);
    for SignalValue { signal, value, unit, time } in &response.values {
        table.row([
            Cell::styled(signal, BOLD),
            cells::value(*value, unit).into(),
            time.as_ref().map(|time| time::text(time::microseconds(time))).unwrap_or_default().into(),
        ]);
    }
    table.render()
}
