//! `evctl telemetry gaps`.

use clap::Args;
use ev_client::{
    Client,
    proto::ev::telemetry::v1::{ListGapsRequest, ListGapsResponse, SequenceRange, SourceGaps},
};

use super::vehicles::share;
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{BOLD, WARN},
    table::{Cell, Table},
};

/// Ranges of a source that a table shows.
const RANGES_SHOWN: usize = 4;

/// Show which batches of a vehicle never came, by gateway and start.
#[derive(Debug, Args)]
#[command(after_help = "\
Gateways number the batches of each vehicle from 1, anew with each start; a number that was skipped
is missing until its batch comes. -o json prints a line for each page of the API, with all ranges.

Examples:
  evctl telemetry gaps car-1
  evctl -o json telemetry gaps car-1 | jq '.sources[].ranges'")]
pub(crate) struct GapsCommand {
    /// The vehicle, as `evctl telemetry vehicles` lists it.
    #[arg(value_name = "VEHICLE")]
    vehicle: String,
}

// === impl GapsCommand ===

impl GapsCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let request = ListGapsRequest { vehicle_id: self.vehicle.clone(), ..ListGapsRequest::default() };
        let mut pages = client.telemetry().list_gaps(request);
        let mut all = ListGapsResponse::default();
        while let Some(page) = pages.next().await? {
            output.json_line(&Json::new("ev.telemetry.v1.ListGapsResponse", &page))?;
            let before = std::mem::take(&mut all.sources);
            all = ListGapsResponse { sources: before.into_iter().chain(page.sources).collect(), ..page };
        }
        output.text(|| render(&self.vehicle, &all))?;
        Ok(Exit::Ok)
    }
}

fn render(vehicle: &str, response: &ListGapsResponse) -> String {
    let ListGapsResponse { sources, batches_received, batches_expected, completeness, next_page_token: _ } = response;
    let share = share(*completeness);
    let sum = format!("{vehicle}: {batches_received} of {batches_expected} batches came, {share}");
    if sources.is_empty() {
        return format!("{sum}. Nothing is missing.");
    }
    let mut table = Table::new(["gateway", "start", "came", "missing", "numbers"]);
    for SourceGaps { gateway_id, boot_id, batches_received, batches_missing, ranges } in sources {
        table.row([
            Cell::styled(gateway_id, BOLD),
            boot_id.into(),
            batches_received.to_string().into(),
            Cell::styled(batches_missing.to_string(), WARN),
            numbers(ranges).into(),
        ]);
    }
    format!("{}\n{sum}.", table.render())
}

fn numbers(ranges: &[SequenceRange]) -> String {
    let range = |SequenceRange { first, last }: &SequenceRange| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let mut shown: Vec<String> = ranges.iter().take(RANGES_SHOWN).map(range).collect();
    if ranges.len() > RANGES_SHOWN {
        shown.push(format!("and {} more", ranges.len() - RANGES_SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn holes_are_rows() {
        let range = |first, last| SequenceRange { first, last };
        let source = |gateway: &str, boot: &str, ranges: &[SequenceRange]| SourceGaps {
            gateway_id: gateway.to_owned(),
            boot_id: boot.to_owned(),
            batches_received: 90,
            batches_missing: ranges.iter().map(|range| range.last - range.first + 1).sum(),
            ranges: ranges.to_vec(),
        };
        let many: Vec<_> = (1..=6).map(|index| range(index * 10, index * 10)).collect();
        let response = ListGapsResponse {
            sources: vec![source("depot-7", "a1", &[range(3, 4), range(9, 9)]), source("depot-7", "b2", &many)],
            batches_received: 180,
            batches_expected: 189,
            completeness: 180.0 / 189.0,
            next_page_token: String::new(),
        };
        assert_eq!(
            strip_str(&render("car-1", &response)).to_string(),
            "\
GATEWAY   START   CAME   MISSING   NUMBERS
depot-7   a1      90     3         3-4, 9
depot-7   b2      90     6         10, 20, 30, 40, and 2 more

car-1: 180 of 189 batches came, 95.24 %."
        );
        let none = ListGapsResponse { completeness: 1.0, batches_received: 5, batches_expected: 5, ..response };
        let none = ListGapsResponse { sources: Vec::new(), ..none };
        assert_eq!(render("car-1", &none), "car-1: 5 of 5 batches came, 100.00 %. Nothing is missing.");
    }
}
