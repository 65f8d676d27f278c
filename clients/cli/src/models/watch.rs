//! `evctl models watch`: changes of the registry as they happen.

use std::ops::ControlFlow;

use clap::Args;
use ev_client::{
    Client, Error, Replies,
    proto::ev::registry::v1::{AuditEvent, GetAuditLogRequest, WatchEventsResponse},
};

use super::detail::words;
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    live::{Live, count, follow},
    output::Output,
    style::{ACCENT, BOLD, DIM},
    telemetry::time,
};

/// Show whatever changes in the registry as it happens, until interrupted.
#[derive(Debug, Args)]
#[command(after_help = "\
A line for each change: versions that are registered, aliases that move, rollouts that go on, and who did it.
-o json prints a line for each, as the API sends it. A connection that is lost is made again, and no change is
missed meanwhile.

Examples:
  evctl models watch
  evctl models watch ev-range --after 0               everything that ever happened to it, and what comes
  evctl -o json models watch | jq -r 'select(.event.alias == \"production\").event.version'")]
pub(crate) struct WatchCommand {
    /// Model name; none: all models.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// From the change after this row of the audit log on, instead of from now on.
    #[arg(long, value_name = "ROW")]
    after: Option<u64>,
    /// End after so many changes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// How far it has come.
struct Watch<'a> {
    client: &'a Client,
    output: &'a Output,
    model: String,
    after: u64,
    left: Option<u64>,
}

// === impl WatchCommand ===

impl WatchCommand {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let after = match self.after {
            Some(after) => after,
            // What happens before the first answer is not missed either.
            None => newest(client).await?,
        };
        let model = self.name.unwrap_or_default();
        follow(&mut Watch { client, output, model, after, left: self.count }).await?;
        Ok(Exit::Ok)
    }
}

// === impl Watch ===

impl Live for Watch<'_> {
    type Message = WatchEventsResponse;

    async fn ask(&self) -> Result<Replies<WatchEventsResponse>, Error> {
        self.client.registry().watch_events(Some(self.after), &self.model).await
    }

    fn take(&mut self, message: WatchEventsResponse) -> Result<ControlFlow<()>, Failure> {
        self.output.json_line(&Json::new("ev.registry.v1.WatchEventsResponse", &message))?;
        let WatchEventsResponse { event: Some(event) } = message else { return Ok(ControlFlow::Continue(())) };
        self.output.text(|| line(&event))?;
        self.after = event.sequence;
        Ok(count(&mut self.left))
    }

    fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.output.note(text);
        Ok(())
    }
}

/// The number of the audit log's newest row.
async fn newest(client: &Client) -> Result<u64, Failure> {
    let request = GetAuditLogRequest { page_size: 1, ..GetAuditLogRequest::default() };
    let log = client.registry().audit_log(request).await?;
    Ok(log.events.first().map_or(0, |event| event.sequence))
}

fn line(event: &AuditEvent) -> String {
    let AuditEvent { sequence, time, actor, action, model, version, alias, detail_json, .. } = event;
    let when = time.as_ref().map_or_else(String::new, |time| time::text(time::microseconds(time)));
    let mut what = model.clone();
    if *version > 0 {
        what.push_str(&format!(":{version}"));
    }
    if !alias.is_empty() {
        what.push_str(&format!(" {ACCENT}{alias}{ACCENT:#}"));
    }
    let detail = words(action, detail_json);
    let mut line = format!("{DIM}{sequence}  {when}{DIM:#}  {BOLD}{action}{BOLD:#}");
    for part in [what, format!("by {actor}"), detail] {
        if !part.is_empty() {
            line.push_str("  ");
            line.push_str(&part);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn changes_are_lines() {
        let check = |event: AuditEvent, expected: &str| {
            let event =
                AuditEvent { sequence: 7, time: Some(time::timestamp(std::time::SystemTime::UNIX_EPOCH)), ..event };
            assert_eq!(strip_str(&line(&event)).to_string(), format!("7  1970-01-01T00:00:00Z  {expected}"));
        };
        let event = |action: &str, model: &str| AuditEvent {
            action: action.to_owned(),
            model: model.to_owned(),
            actor: "kim@depot from 10.0.0.7".to_owned(),
            detail_json: "{}".to_owned(),
            ..AuditEvent::default()
        };
        let moved = AuditEvent {
            version: 2,
            alias: "production".to_owned(),
            detail_json: r#"{"previous_version":1}"#.to_owned(),
            ..event("set_alias", "ev-range")
        };
        check(moved, "set_alias  ev-range:2 production  by kim@depot from 10.0.0.7  from version 1");
        let judged = AuditEvent {
            version: 2,
            detail_json: r#"{"gates":[{"gate":"synthetic","state":"failed","measured":"`nature` is synthetic"}]}"#
                .to_owned(),
            ..event("judge", "ev-range")
        };
        check(judged, "judge  ev-range:2  by kim@depot from 10.0.0.7  1 gate, 1 failed: synthetic");
        check(event("collect_garbage", ""), "collect_garbage  by kim@depot from 10.0.0.7");
    }
}
