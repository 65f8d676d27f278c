//! `evctl alerts list`.

use clap::Args;
use ev_client::{
    Client,
    proto::ev::thermal::v1::{Alert, AlertFilter, AlertState, ListAlertsRequest},
};

use super::{Selection, text};
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{self, BOLD, DIM, PLAIN},
    table::{Cell, Table},
};

/// Rows of a table unless more are asked for.
const TABLE_ROWS: usize = 100;
/// Most alerts of a page.
const PAGE_ALERTS: u32 = 1_000;

/// List open and recent alerts, newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
-o json prints a line for each alert, as the API sends it.

Examples:
  evctl alerts list --open
  evctl alerts list --topic thermal --severity-min high
  evctl -o json alerts list --open | jq -r 'select(.acknowledgement == null).id'")]
pub(crate) struct ListCommand {
    #[command(flatten)]
    selection: Selection,
    /// Only those that go on.
    #[arg(long)]
    open: bool,
    /// Most alerts [default: 100 in a table, all otherwise].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

// === impl ListCommand ===

impl ListCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let ListCommand { selection, open, limit } = self;
        let state = if open { AlertState::Open } else { AlertState::Unspecified };
        let filter = AlertFilter { state: state.into(), ..selection.into_filter() };
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let limit = limit.unwrap_or(if output.is_json() { usize::MAX } else { TABLE_ROWS });
        // One more than is shown, to know whether there are more.
        let page_size = u32::try_from(limit.saturating_add(1)).unwrap_or(PAGE_ALERTS).min(PAGE_ALERTS);
        let request = ListAlertsRequest { filter: Some(filter), page_size, page_token: String::new() };
        let mut pages = client.thermal().list_alerts(request);
        let (mut rows, mut shown, mut has_more) = (Vec::new(), 0, false);
        'pages: while let Some(page) = pages.next().await? {
            for alert in page.alerts {
                if shown == limit {
                    has_more = true;
                    break 'pages;
                }
                shown += 1;
                output.json_line(&Json::new("ev.thermal.v1.Alert", &alert))?;
                if !output.is_json() {
                    rows.push(alert);
                }
            }
        }
        output.text(|| render(&rows))?;
        if has_more {
            output.advise(&format!("there are more than {shown} alerts; see more with --limit, all with -o json"));
        }
        Ok(Exit::Ok)
    }
}

fn render(alerts: &[Alert]) -> String {
    if alerts.is_empty() {
        return "No such alerts. See them as they happen with: evctl alerts watch".to_owned();
    }
    let mut table =
        Table::new(["raised", "vehicle", "severity", "topic", "sign", "what to do", "state", "acknowledged by", "id"]);
    for alert in alerts {
        let severity = alert.severity();
        let (state, style) = match alert.state() {
            AlertState::Ended => ("ended", DIM),
            AlertState::Open | AlertState::Unspecified => ("open", style::of_severity(severity)),
        };
        table.row([
            text::moment(alert.raised_time.as_ref()).into(),
            Cell::styled(&alert.vehicle_id, BOLD),
            Cell::styled(style::severity_name(severity), style),
            text::topic(alert.topic()).into(),
            text::sign(alert).into(),
            text::action(alert).into(),
            Cell::styled(state, if state == "ended" { DIM } else { PLAIN }),
            text::known_by(alert).into(),
            Cell::styled(&alert.id, DIM),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use crate::{
        alerts::text::tests::{ended, nearly_empty},
        style::WARN,
    };

    #[test]
    fn alerts_are_rows() {
        let table = render(&[nearly_empty(), ended()]);
        assert_eq!(
            strip_str(&table).to_string(),
            "\
RAISED                 VEHICLE   SEVERITY   TOPIC             SIGN                               WHAT TO DO           STATE   ACKNOWLEDGED BY   ID
2026-01-01T00:00:00Z   car-1     MEDIUM     state-of-charge   state_of_charge 10 %, limit 15 %   Charge the vehicle   open                      01994d6e-0000-7000-8000-000000000001
2026-01-01T00:00:00Z   car-1     MEDIUM     state-of-charge   state_of_charge 10 %, limit 15 %   Charge the vehicle   ended   depot [2J         01994d6e-0000-7000-8000-000000000001
"
        );
        assert_eq!(table.matches(&format!("{WARN}MEDIUM")).count(), 1, "only what goes on is coloured");
        assert!(render(&[]).contains("evctl alerts watch"));
    }
}
