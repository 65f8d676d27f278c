//! `evctl alerts watch`: alerts as they happen.

use std::{collections::BTreeMap, ops::ControlFlow};

use clap::Args;
use ev_client::{
    Client, Error, Replies,
    proto::ev::thermal::v1::{
        Alert, AlertFilter, AlertHappening, AlertState, ListAlertsRequest, Severity, WatchAlertsResponse,
    },
};

use super::{Selection, text};
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    live::{Live, count, follow},
    output::Output,
    style::{self, ACCENT, BOLD, DIM, harmless},
};

/// Show alerts that are open, and then whatever happens to any, until interrupted.
#[derive(Debug, Args)]
#[command(after_help = "\
A line for each event: raised, rose, fell, escalated (nobody acknowledged it in time), acknowledged,
ended, reopened, displaced (more severe ones needed its place). -o json prints a line for each, as
the API sends it. Who reads too slowly misses events, and is told how many. A connection that is lost
is made again, and alerts are told that were raised, changed or ended meanwhile, as they are by then.

Examples:
  evctl alerts watch
  evctl alerts watch --topic thermal --severity-min high | tee alerts.log
  evctl -o json alerts watch | jq -r 'select(.happening == \"ALERT_HAPPENING_RAISED\").alert.vehicle_id'")]
pub(crate) struct WatchCommand {
    #[command(flatten)]
    selection: Selection,
    /// End after so many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Alerts whose state is remembered, beyond what a server does unless told otherwise.
const TOLD_MAX: usize = 100_000;
/// Alerts of a page, as many as one may have.
const PAGE_ALERTS: u32 = 1_000;

/// What was shown so far.
struct Watch<'a> {
    client: &'a Client,
    output: &'a Output,
    filter: AlertFilter,
    left: Option<u64>,
    /// By id, which rises with time.
    told: BTreeMap<String, Told>,
}

/// An alert as it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    revision: u32,
    is_open: bool,
}

// === impl WatchCommand ===

impl WatchCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let filter = self.selection.into_filter();
        let mut watch = Watch { client, output, filter, left: self.count, told: BTreeMap::new() };
        // What has ended before is no news, also after a break.
        for alert in watch.list(AlertState::Ended).await? {
            watch.remember(&alert);
        }
        follow(&mut watch).await?;
        Ok(Exit::Ok)
    }
}

// === impl Watch ===

impl Live for Watch<'_> {
    type Message = WatchAlertsResponse;

    async fn ask(&self) -> Result<Replies<WatchAlertsResponse>, Error> {
        self.client.thermal().watch_alerts(self.filter.clone()).await
    }

    fn take(&mut self, reply: WatchAlertsResponse) -> Result<ControlFlow<()>, Failure> {
        // Before the event: they happened before it.
        if reply.missed_events > 0 {
            self.output.advise(&missed(reply.missed_events));
        }
        if let Some(alert) = &reply.alert {
            // Told before the connection was lost, or when it was there again. Other numbers are news even where they are
            // smaller: a server that was killed may have forgotten what it told last.
            if self.told.get(&alert.id) == Some(&Told::of(alert)) {
                return Ok(ControlFlow::Continue(()));
            }
            self.remember(alert);
        }
        self.output.json_line(&Json::new("ev.thermal.v1.WatchAlertsResponse", &reply))?;
        self.output.text(|| line(&reply))?;
        Ok(count(&mut self.left))
    }

    fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.output.note(text);
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<ControlFlow<()>, Failure> {
        let alerts = self.list(AlertState::Unspecified).await?;
        let is_here = |id: &str| alerts.binary_search_by(|alert| alert.id.as_str().cmp(id)).is_ok();
        let forgotten = self.told.iter().filter(|(id, told)| told.is_open && !is_here(id)).count();
        if forgotten > 0 {
            self.output.note(&format!("{forgotten} alerts that were open are not known to the server any more"));
        }
        self.told.retain(|id, _| is_here(id));
        for alert in alerts {
            let happening = match alert.state() {
                AlertState::Ended => AlertHappening::Ended,
                AlertState::Open | AlertState::Unspecified => AlertHappening::Unspecified,
            };
            let reply = WatchAlertsResponse { happening: happening.into(), alert: Some(alert), missed_events: 0 };
            if self.take(reply)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Watch<'_> {
    /// The alerts that a watch tells of, in the order they were raised in.
    async fn list(&self, state: AlertState) -> Result<Vec<Alert>, Failure> {
        // A listing goes by the severity an alert has or ended with, a watch by the highest it had.
        let severity_min = self.filter.severity_min();
        let filter =
            AlertFilter { state: state.into(), severity_min: Severity::Unspecified.into(), ..self.filter.clone() };
        let request = ListAlertsRequest { filter: Some(filter), page_size: PAGE_ALERTS, page_token: String::new() };
        let mut pages = self.client.thermal().list_alerts(request);
        let mut alerts = Vec::new();
        while let Some(page) = pages.next().await? {
            alerts.extend(page.alerts.into_iter().filter(|alert| alert.peak_severity >= severity_min.into()));
            if alerts.len() >= TOLD_MAX {
                break;
            }
        }
        alerts.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(alerts)
    }

    fn remember(&mut self, alert: &Alert) {
        self.told.insert(alert.id.clone(), Told::of(alert));
        if self.told.len() > TOLD_MAX {
            self.told.pop_first();
        }
    }
}

// === impl Told ===

impl Told {
    fn of(alert: &Alert) -> Told {
        Told { revision: alert.revision, is_open: alert.state() != AlertState::Ended }
    }
}

fn missed(events: u64) -> String {
    format!("{events} events were missed: this reads too slowly; see how things are with: evctl alerts list --open")
}

fn line(reply: &WatchAlertsResponse) -> String {
    let happening = reply.happening();
    let Some(alert) = &reply.alert else { return happening_name(happening) };
    let severity = alert.severity();
    let (style, vehicle) = (style::of_severity(severity), &alert.vehicle_id);
    let mut line = format!(
        "{DIM}{}{DIM:#}  {style}{}{style:#}  {ACCENT}{vehicle}{ACCENT:#}  {BOLD}{} {}{BOLD:#}  {}",
        time_of(happening, alert),
        style::severity_name(severity),
        text::topic(alert.topic()),
        happening_name(happening),
        text::sign(alert),
    );
    let parts = match &alert.acknowledgement {
        Some(known) if happening == AlertHappening::Acknowledged => {
            [format!("by {}", text::known_by(alert)), harmless(&known.note)]
        }
        // Nothing is left to do.
        _ if matches!(happening, AlertHappening::Ended | AlertHappening::Displaced) => [String::new(), String::new()],
        _ => [text::action(alert).to_owned(), String::new()],
    };
    for part in parts.iter().filter(|part| !part.is_empty()) {
        line.push_str("  ");
        line.push_str(part);
    }
    line.push_str(&format!("  {DIM}{}{DIM:#}", alert.id));
    line
}

fn happening_name(happening: AlertHappening) -> String {
    match happening {
        AlertHappening::Unspecified => "open".to_owned(),
        happening => happening.as_str_name().trim_start_matches("ALERT_HAPPENING_").to_lowercase(),
    }
}

/// When it happened, by the server's clock; of an escalation, since when the severity is what it is.
fn time_of(happening: AlertHappening, alert: &Alert) -> String {
    let time = match happening {
        AlertHappening::Unspecified | AlertHappening::Raised => alert.raised_time.as_ref(),
        AlertHappening::Acknowledged => alert.acknowledgement.as_ref().and_then(|known| known.at.as_ref()),
        AlertHappening::Ended | AlertHappening::Displaced => alert.ended_time.as_ref(),
        AlertHappening::Reopened | AlertHappening::Rose | AlertHappening::Fell | AlertHappening::Escalated => {
            alert.changed_time.as_ref()
        }
    };
    text::moment(time)
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use crate::alerts::text::tests::{ended, nearly_empty};

    #[test]
    fn events_are_lines() {
        let check = |happening: AlertHappening, alert: Alert, expected: &str| {
            let reply = WatchAlertsResponse { happening: happening.into(), alert: Some(alert), missed_events: 0 };
            let expected = format!("2026-01-01T00:00:{expected}  01994d6e-0000-7000-8000-000000000001");
            assert_eq!(strip_str(&line(&reply)).to_string(), expected);
        };
        let found = "state_of_charge 10 %, limit 15 %";
        check(
            AlertHappening::Unspecified,
            nearly_empty(),
            &format!("00Z  MEDIUM  car-1  state-of-charge open  {found}  Charge the vehicle"),
        );
        check(
            AlertHappening::Rose,
            nearly_empty(),
            &format!("01Z  MEDIUM  car-1  state-of-charge rose  {found}  Charge the vehicle"),
        );
        check(
            AlertHappening::Acknowledged,
            ended(),
            &format!("02Z  MEDIUM  car-1  state-of-charge acknowledged  {found}  by depot [2J"),
        );
        check(AlertHappening::Ended, ended(), &format!("03Z  MEDIUM  car-1  state-of-charge ended  {found}"));
    }

    #[test]
    fn missed_events_say_where_to_look() {
        let text = missed(7);
        assert!(text.contains("7 events") && text.contains("evctl alerts list"), "{text}");
    }
}
