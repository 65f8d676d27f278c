//! `evctl models audit`.

use std::time::SystemTime;

use clap::Args;
use ev_client::{
    Client,
    proto::ev::registry::v1::{AuditEvent, GetAuditLogRequest, GetAuditLogResponse, VerifyAuditLogResponse},
};

use super::detail::words;
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    predict::short_digest,
    style::{ACCENT, BAD, BOLD, DIM, GOOD},
    table::{Cell, Table, clip},
    telemetry::time,
};

/// Characters of a row's detail that a table shows; JSON output has all of it.
const DETAIL_CHARACTERS: usize = 100;

/// Show who changed what and when, or what each alias pointed at at some time.
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with 1 when --verify finds something.

Examples:
  evctl models audit                                  the newest 100 changes
  evctl models audit ev-range                         those of one model
  evctl models audit ev-range --as-of 2026-01-31      what served on that date
  evctl models audit --verify                         whether the log and the registry are what was written")]
pub(crate) struct AuditCommand {
    /// Model name; none: all models.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// What each alias of the model pointed at then: a date, a time such as 2026-01-31T12:00:00Z, or a time span ago.
    #[arg(long, value_name = "TIME", value_parser = time::parse, requires = "name")]
    as_of: Option<SystemTime>,
    /// Most changes, newest first.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Read the whole log again, and tell the first row that was altered, removed or inserted.
    #[arg(long, conflicts_with_all = ["name", "as_of"])]
    verify: bool,
}

// === impl AuditCommand ===

impl AuditCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        if self.verify {
            let found = client.registry().verify_audit_log().await?;
            output.answer(&Json::new("ev.registry.v1.VerifyAuditLogResponse", &found), || render_verified(&found))?;
            return Ok(if found.ok { Exit::Ok } else { Exit::Failed });
        }
        let request = GetAuditLogRequest {
            model: self.name.unwrap_or_default(),
            page_size: self.limit,
            page_token: String::new(),
            as_of: self.as_of.map(time::timestamp),
        };
        let log = client.registry().audit_log(request).await?;
        output.answer(&Json::new("ev.registry.v1.GetAuditLogResponse", &log), || render(&log))?;
        Ok(Exit::Ok)
    }
}

fn render(log: &GetAuditLogResponse) -> String {
    if log.events.is_empty() {
        return format!("{DIM}nothing{DIM:#}");
    }
    let mut table = Table::new(["row", "time", "actor", "action", "model", "version", "alias", "digest", "detail"]);
    for event in &log.events {
        let AuditEvent { sequence, time, actor, action, model, version, alias, digest, detail_json, .. } = event;
        let when = time.as_ref().map_or_else(String::new, |time| time::text(time::microseconds(time)));
        table.row([
            sequence.to_string().into(),
            when.into(),
            actor.into(),
            Cell::styled(action, BOLD),
            model.into(),
            if *version == 0 { String::new() } else { version.to_string() }.into(),
            Cell::styled(alias, ACCENT),
            Cell::styled(if digest.is_empty() { String::new() } else { short_digest(digest) }, DIM),
            clip(&words(action, detail_json), DETAIL_CHARACTERS).into(),
        ]);
    }
    table.render()
}

fn render_verified(found: &VerifyAuditLogResponse) -> String {
    let VerifyAuditLogResponse { ok, fault_sequence, problem, head_sequence, head_hash } = found;
    if *ok {
        return format!(
            "{GOOD}{head_sequence} rows, and the registry, are what was written{GOOD:#}\n{DIM}keep this elsewhere: row \
             {head_sequence} has the hash {head_hash}{DIM:#}"
        );
    }
    match fault_sequence {
        0 => format!("{BAD}{problem}{BAD:#}"),
        row => format!("{BAD}row {row}: {problem}{BAD:#}"),
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn rows_and_faults_are_shown() {
        let event = AuditEvent {
            sequence: 7,
            time: Some(time::timestamp(SystemTime::UNIX_EPOCH)),
            actor: "ci from 10.0.0.7".into(),
            action: "set_alias".into(),
            model: "ev-range".into(),
            version: 2,
            alias: "production".into(),
            detail_json: r#"{"previous_version":1}"#.into(),
            ..AuditEvent::default()
        };
        let log = GetAuditLogResponse { events: vec![event], next_page_token: String::new() };
        let text = strip_str(&render(&log)).to_string();
        for word in
            ["7", "1970-01-01T00:00:00Z", "ci from 10.0.0.7", "set_alias", "ev-range", "production", "from version 1"]
        {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(strip_str(&render(&GetAuditLogResponse::default())).to_string(), "nothing");
        let check = |fault_sequence, expected: &str| {
            let problem = "it was altered".to_owned();
            let found = VerifyAuditLogResponse { fault_sequence, problem, ..VerifyAuditLogResponse::default() };
            assert_eq!(strip_str(&render_verified(&found)).to_string(), expected);
        };
        check(3, "row 3: it was altered");
        check(0, "it was altered");
        let good =
            VerifyAuditLogResponse { ok: true, head_sequence: 9, head_hash: "sha256:ab".into(), ..Default::default() };
        assert!(render_verified(&good).contains("row 9 has the hash sha256:ab"));
    }
}
