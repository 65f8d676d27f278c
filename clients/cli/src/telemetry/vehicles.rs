//! `evctl telemetry vehicles`.

use ev_client::{
    Client,
    proto::ev::telemetry::v1::{ListVehiclesRequest, Vehicle},
};

use super::time;
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{BOLD, PLAIN, WARN},
    table::{Cell, Table},
};

pub(crate) async fn run(client: &Client, output: &Output) -> Result<Exit, Failure> {
    let mut pages = client.telemetry().list_vehicles(ListVehiclesRequest::default());
    let mut vehicles = Vec::new();
    while let Some(page) = pages.next().await? {
        for vehicle in page.vehicles {
            output.json_line(&Json::new("ev.telemetry.v1.Vehicle", &vehicle))?;
            vehicles.push(vehicle);
        }
    }
    output.text(|| render(&vehicles))?;
    Ok(Exit::Ok)
}

fn render(vehicles: &[Vehicle]) -> String {
    if vehicles.is_empty() {
        return "No readings yet. Send some with: evctl telemetry send FILE.csv --vehicle ID".to_owned();
    }
    let mut table = Table::new(["vehicle", "first reading", "latest reading", "readings", "complete"]);
    for Vehicle { vehicle_id, first_time, last_time, readings, completeness } in vehicles {
        let text = |time: &Option<_>| time.as_ref().map(|time| time::text(time::microseconds(time)));
        let style = if *completeness < 1.0 { WARN } else { PLAIN };
        table.row([
            Cell::styled(vehicle_id, BOLD),
            text(first_time).unwrap_or_default().into(),
            text(last_time).unwrap_or_default().into(),
            readings.to_string().into(),
            Cell::styled(share(*completeness), style),
        ]);
    }
    table.render()
}

/// Never 100 % where something is missing.
pub(super) fn share(completeness: f64) -> String {
    let percent = completeness * 100.0;
    if completeness < 1.0 && percent > 99.99 { "99.99 %".to_owned() } else { format!("{percent:.2} %") }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn a_vehicle_with_holes_is_told_apart() {
        let vehicle = |id: &str, completeness| Vehicle {
            vehicle_id: id.to_owned(),
            first_time: Some(Timestamp { seconds: 1_767_225_600, nanos: 0 }),
            last_time: Some(Timestamp { seconds: 1_767_225_601, nanos: 500_000_000 }),
            readings: 12_345,
            completeness,
        };
        assert_eq!(
            strip_str(&render(&[vehicle("car-1", 1.0), vehicle("car-2", 0.999_999)])).to_string(),
            "\
VEHICLE   FIRST READING          LATEST READING             READINGS   COMPLETE
car-1     2026-01-01T00:00:00Z   2026-01-01T00:00:01.500Z   12345      100.00 %
car-2     2026-01-01T00:00:00Z   2026-01-01T00:00:01.500Z   12345      99.99 %
"
        );
        assert!(render(&[]).contains("evctl telemetry send"));
    }
}
