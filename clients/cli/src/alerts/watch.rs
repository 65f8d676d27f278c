//! `evctl alerts watch`: alerts as they happen.

use clap::Args;
use ev_client::{
    Client,
    proto::ev::thermal::v1::{Alert, AlertHappening, WatchAlertsResponse},
};

use super::{Selection, text};
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{self, ACCENT, BOLD, DIM, harmless},
};

/// Show alerts that are open, and then whatever happens to any, until interrupted.
#[derive(Debug, Args)]
#[command(after_help = "\
A line for each event: raised, rose, fell, escalated (nobody acknowledged it in time), acknowledged,
ended, reopened, displaced (more severe ones needed its place). -o json prints a line for each, as
the API sends it. Who reads too slowly misses events, and is told how many.

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

// === impl WatchCommand ===

impl WatchCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let WatchCommand { selection, count } = self;
        let mut replies = client.thermal().watch_alerts(selection.into_filter()).await?;
        let mut seen = 0;
        while count.is_none_or(|count| seen < count)
            && let Some(reply) = replies.next().await?
        {
            seen += 1;
            // Before the event: they happened before it.
            if reply.missed_events > 0 {
                output.advise(&missed(reply.missed_events));
            }
            output.json_line(&Json::new("ev.thermal.v1.WatchAlertsResponse", &reply))?;
            output.text(|| line(&reply))?;
        }
        Ok(Exit::Ok)
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
