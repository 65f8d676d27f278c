//! `evctl telemetry rejected`.

use clap::Args;
use ev_client::{
    Client,
    proto::ev::telemetry::v1::{ListRejectedRequest, ListRejectedResponse, RejectReason, Rejected},
};

use super::{cells, time};
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{BOLD, DIM, WARN},
    table::{Cell, Table},
};

/// Rejects that the server keeps, and that it tells at a time.
const LIMIT_MAX: u32 = 10_000;
const PAGE_MAX: u32 = 1_000;

/// Show the readings that were refused last, and how many the server refused for each reason.
#[derive(Debug, Args)]
#[command(after_help = "\
A reading that cannot be is left out of its batch and told to its gateway. The server keeps the
latest 10,000 rejects with the readings, and counts all since its start. -o json prints a line for
each page of the API.

Examples:
  evctl telemetry rejected
  evctl telemetry rejected --vehicle car-1
  evctl -o json telemetry rejected --gateway depot-7 | jq -r '.rejected[].message'")]
pub(crate) struct RejectedCommand {
    /// Only of this vehicle.
    #[arg(long, value_name = "VEHICLE", default_value_t)]
    vehicle: String,
    /// Only of this gateway.
    #[arg(long, value_name = "GATEWAY", default_value_t)]
    gateway: String,
    /// Most rejects, the latest first.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=LIMIT_MAX as i64))]
    limit: u32,
}

// === impl RejectedCommand ===

impl RejectedCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let RejectedCommand { vehicle, gateway, limit } = self;
        let request = ListRejectedRequest {
            vehicle_id: vehicle,
            gateway_id: gateway,
            limit: limit.min(PAGE_MAX),
            ..ListRejectedRequest::default()
        };
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut pages = client.telemetry().list_rejected(request);
        let mut all = ListRejectedResponse::default();
        while left > 0
            && let Some(mut page) = pages.next().await?
        {
            page.rejected.truncate(left);
            left -= page.rejected.len();
            output.json_line(&Json::new("ev.telemetry.v1.ListRejectedResponse", &page))?;
            let before = std::mem::take(&mut all.rejected);
            all = ListRejectedResponse { rejected: before.into_iter().chain(page.rejected).collect(), ..page };
        }
        output.text(|| render(&all))?;
        Ok(Exit::Ok)
    }
}

fn render(response: &ListRejectedResponse) -> String {
    let ListRejectedResponse { rejected, counts, since, next_page_token: _ } = response;
    let since = since.as_ref().map(|since| time::text(time::microseconds(since))).unwrap_or_default();
    let mut table = Table::new(["time", "gateway", "vehicle", "batch", "readings", "reason", "signal", "what"]);
    for one in rejected {
        let Rejected { time, gateway_id, vehicle_id, sequence, readings, message, signal, .. } = one;
        let time = time.as_ref().map(|time| time::text(time::microseconds(time))).unwrap_or_default();
        table.row([
            time.into(),
            gateway_id.into(),
            Cell::styled(vehicle_id, BOLD),
            sequence.to_string().into(),
            readings.to_string().into(),
            Cell::styled(reason(one.reason()), WARN),
            cells::short_name(signal).into(),
            Cell::styled(message, DIM),
        ]);
    }
    let counts: Vec<String> =
        counts.iter().map(|count| format!("{} {}", count.readings, reason(count.reason()))).collect();
    let sum = if counts.is_empty() {
        format!("Nothing was refused since the server started, {since}.")
    } else {
        format!("Since the server started, {since}: {}.", counts.join(", "))
    };
    if rejected.is_empty() { sum } else { format!("{}\n{sum}", table.render()) }
}

fn reason(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::Unspecified => "other",
        RejectReason::UnknownSignal => "unknown signal",
        RejectReason::ImplausibleValue => "implausible value",
        RejectReason::ImplausibleTime => "implausible time",
        RejectReason::MalformedBatch => "malformed batch",
        RejectReason::TooLarge => "too large",
        RejectReason::VehicleNotAllowed => "vehicle not allowed",
        RejectReason::ImplausibleSequence => "implausible sequence",
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use ev_client::proto::ev::telemetry::v1::RejectCount;
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn refused_readings_are_rows() {
        let since = Some(Timestamp { seconds: 1_767_225_600, nanos: 0 });
        let nothing = ListRejectedResponse { since, ..ListRejectedResponse::default() };
        assert_eq!(render(&nothing), "Nothing was refused since the server started, 2026-01-01T00:00:00Z.");
        let rejected = Rejected {
            time: Some(Timestamp { seconds: 1_767_225_660, nanos: 0 }),
            gateway_id: "depot-7".to_owned(),
            boot_id: "a1".to_owned(),
            vehicle_id: "car-1".to_owned(),
            sequence: 9,
            reading: Some(1),
            reason: RejectReason::ImplausibleValue.into(),
            message: "Vehicle.Speed is 4000, expected -250 to 500 km/h".to_owned(),
            readings: 2,
            signal: "Vehicle.Speed".to_owned(),
            value: Some(4_000.0),
        };
        let count = RejectCount { reason: RejectReason::ImplausibleValue.into(), readings: 2 };
        let next_page_token = String::new();
        let mut response =
            ListRejectedResponse { rejected: vec![rejected], counts: vec![count], since, next_page_token };
        assert_eq!(
            strip_str(&render(&response)).to_string(),
            "\
TIME                   GATEWAY   VEHICLE   BATCH   READINGS   REASON              SIGNAL          WHAT
2026-01-01T00:01:00Z   depot-7   car-1     9       2          implausible value   Vehicle.Speed   Vehicle.Speed is 4000, expected -250 to 500 km/h

Since the server started, 2026-01-01T00:00:00Z: 2 implausible value."
        );
        // Of an earlier start.
        response.counts.clear();
        let shown = strip_str(&render(&response)).to_string();
        assert!(shown.contains("car-1") && shown.ends_with(&render(&nothing)), "{shown}");
    }
}
