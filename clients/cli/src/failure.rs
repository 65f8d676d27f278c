//! What ends a command early, and what to do about it.

use std::{error::Error as StdError, fmt, io, time::Duration};

use clap::CommandFactory as _;
use ev_client::{CallError, Code, Error, GatewayError};
use serde::Serialize;

use crate::{
    cli::Cli,
    exit::Exit,
    style::{ACCENT, BAD, BOLD, DIM},
};

/// What ends a command early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] Error),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The caller's own mistake, with what to do about it.
    #[error("{message}")]
    Usage { message: String, advice: Vec<String> },
    #[error("cannot read the input")]
    Input(#[source] io::Error),
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
    #[error("cannot encode the answer")]
    Encode(#[source] serde_json::Error),
    #[error("the server sent something else than JSON")]
    Decode(#[source] serde_json::Error),
    #[error("cannot start")]
    Start(#[source] io::Error),
}

/// A failure as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    error: ReportedError,
}

#[derive(Debug, Serialize)]
struct ReportedError {
    /// gRPC status code, or `UNREACHABLE`, `USAGE`, `INPUT_OUTPUT`.
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    field_violations: Vec<ReportedViolation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_delay_ms: Option<u128>,
    advice: Vec<String>,
}

/// What is wrong with one field, and the option that sets it.
#[derive(Debug, Serialize)]
pub(crate) struct ReportedViolation {
    field: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    option: Option<String>,
    description: String,
}

/// The option that sets a request's field, such as `--battery-kwh` for `battery_capacity_kwh`.
pub(crate) fn option_of(field: &str) -> Option<String> {
    let field = field.rsplit_once("].").map_or(field, |(_, field)| field);
    let command = Cli::command();
    let requests = ["predict", "features", "alerts"].into_iter().filter_map(|name| command.find_subcommand(name));
    let mut arguments = requests.flat_map(clap::Command::get_subcommands).flat_map(clap::Command::get_arguments);
    let argument = arguments.find(|argument| argument.get_id() == field)?;
    argument.get_long().map(|long| format!("--{long}"))
}

// === impl Failure ===

impl Failure {
    pub(crate) fn usage(message: impl Into<String>, advice: &[&str]) -> Failure {
        Failure::Usage { message: message.into(), advice: advice.iter().map(|&line| line.to_owned()).collect() }
    }

    /// What went wrong with the server, and the option that says where it is.
    fn of_server(&self) -> Option<(&Error, &'static str)> {
        match self {
            Failure::Client(error) => Some((error, "--server (or EVCTL_SERVER)")),
            Failure::Gateway(GatewayError::Ended(error)) => Some((&**error, "--ingest (or EVCTL_INGEST)")),
            _ => None,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self.of_server() {
            Some((Error::Unreachable { .. }, _)) => return Exit::Unreachable,
            Some((Error::InvalidEndpoint { .. } | Error::Upload(_), _)) => return Exit::Usage,
            Some((error, _)) if error.code() == Some(Code::DeadlineExceeded) => return Exit::Timeout,
            _ => {}
        }
        match self {
            Failure::Gateway(GatewayError::Full { .. }) => Exit::Timeout,
            Failure::Usage { .. } | Failure::Input(_) | Failure::Gateway(GatewayError::Invalid(_)) => Exit::Usage,
            _ if self.is_closed_pipe() => Exit::Ok,
            _ => Exit::Failed,
        }
    }

    /// Whoever read the answers has seen enough, as `head` does.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn report(&self) -> Report {
        if let Some((error, option)) = self.of_server() {
            return Report { error: ReportedError::of_server(error, option) };
        }
        let error = match self {
            Failure::Usage { message, advice } => ReportedError::plain("USAGE", message.clone(), advice.clone()),
            Failure::Gateway(error @ GatewayError::Invalid(_)) => ReportedError::plain(
                "USAGE",
                error.to_string(),
                vec!["`evctl telemetry send --help` says more".to_owned()],
            ),
            Failure::Gateway(error) => {
                let advice = vec!["see what is wrong with: evctl doctor".to_owned()];
                ReportedError::plain("UNAVAILABLE", error.to_string(), advice)
            }
            Failure::Client(_)
            | Failure::Input(_)
            | Failure::Output(_)
            | Failure::Encode(_)
            | Failure::Decode(_)
            | Failure::Start(_) => ReportedError::plain("INPUT_OUTPUT", chain(self), Vec::new()),
        };
        Report { error }
    }
}

/// An error with its causes; a cause that its effect already repeats is left out.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

// === impl ReportedError ===

impl ReportedError {
    fn plain(code: &'static str, message: String, advice: Vec<String>) -> ReportedError {
        ReportedError {
            code,
            message,
            reason: String::new(),
            field_violations: Vec::new(),
            retry_delay_ms: None,
            advice,
        }
    }

    fn of_server(error: &Error, option: &str) -> ReportedError {
        match error {
            // Something else than the ingest listener answers there.
            Error::Call(call) if call.code == Code::Unimplemented && option.starts_with("--ingest") => {
                let advice =
                    vec![format!("give the server's ingest address, port 50052 unless configured, with {option}")];
                ReportedError { advice, ..ReportedError::of_call(call) }
            }
            Error::Call(call) => ReportedError::of_call(call),
            Error::Unreachable { endpoint, .. } => {
                let advice =
                    vec!["start one with: make demo".to_owned(), format!("or correct {option}, now {endpoint}")];
                ReportedError::plain("UNREACHABLE", chain(error), advice)
            }
            Error::InvalidEndpoint { .. } => {
                ReportedError::plain("USAGE", chain(error), vec![format!("correct {option}")])
            }
            error => ReportedError::plain("INPUT_OUTPUT", chain(error), Vec::new()),
        }
    }

    fn of_call(call: &CallError) -> ReportedError {
        ReportedError {
            reason: call.reason.clone(),
            field_violations: call
                .field_violations
                .iter()
                .map(|violation| ReportedViolation::new(&violation.field, &violation.description))
                .collect(),
            retry_delay_ms: call.retry_delay.as_ref().map(Duration::as_millis),
            ..ReportedError::plain(call.code_name(), call.message.clone(), advice(call))
        }
    }
}

/// What to do about a refused call.
fn advice(call: &CallError) -> Vec<String> {
    if call.reason == "MESSAGE_TOO_LARGE" {
        let limits = "or have the server take more: grpc.message_size_max, for photos grpc.image_message_size_max, \
                      for readings telemetry.message_size_max";
        return vec!["send less at a time".to_owned(), limits.to_owned()];
    }
    let advice = match call.code {
        _ if call.reason == "UNKNOWN_VEHICLE" => "see which vehicles there are with: evctl telemetry vehicles",
        _ if call.reason == "UNKNOWN_SIGNAL" => "see a vehicle's signals with: evctl telemetry latest VEHICLE",
        _ if call.reason == "UNKNOWN_ALERT" || call.reason == "INVALID_ID" && faults(call, &["id"]) => {
            "see alerts and their ids with: evctl alerts list"
        }
        _ if call.reason == "SUPERSEDED" => "another sender has the same name; give this one another with --gateway",
        _ if faults(call, &["by", "note"]) => "correct the options above; `evctl alerts ack --help` explains each",
        _ if faults(call, &["filter.vehicle_id"]) => "see which vehicles there are with: evctl telemetry vehicles",
        _ if matches!(&*call.reason, "UNKNOWN_VIEW" | "UNKNOWN_FEATURE" | "NOT_WRITABLE") => {
            "see all features and their views with: evctl features get VEHICLE --missing"
        }
        _ if call.field_violations.iter().any(|field| field.field.starts_with("values[")) => {
            "correct the value; `evctl features put --help` says how numbers and texts are written"
        }
        _ if call.reason == "GATE_FAILED" => {
            return vec![
                "see what was measured with: evctl models gates NAME:VERSION".to_owned(),
                "take it upon you with: evctl models alias NAME production VERSION --waive GATE='why'".to_owned(),
            ];
        }
        _ if faults(call, &["gate", "reason"]) => {
            "see the gates and how a version stands with them with: evctl models gates NAME:VERSION"
        }
        _ if call.reason == "FUTURE_TIME" => "give --time a time that has come",
        _ if call.reason == "CONTENDED" => "others write the same features; try again",
        Code::InvalidArgument => "correct the fields above; `evctl predict <SERVICE> --help` explains each",
        Code::NotFound => "see what there is with: evctl models list",
        Code::DeadlineExceeded => "allow more time with --timeout, or see what is slow with: evctl doctor",
        Code::ResourceExhausted | Code::Unavailable => {
            let delay =
                call.retry_delay.map_or("a moment".to_owned(), |delay| humantime::format_duration(delay).to_string());
            return vec![format!("try again in {delay}"), "see what is wrong with: evctl doctor".to_owned()];
        }
        Code::FailedPrecondition => "see what can serve with: evctl models list",
        Code::Aborted => "someone else moved it; look where it points now and pass that to --expect",
        Code::DataLoss => "its files are damaged; import the version again with: evctl models import DIR",
        Code::Unimplemented => "the server is of another version; compare with: evctl doctor",
        Code::Unauthenticated | Code::PermissionDenied => "ask whoever runs the server for access",
        _ => "the server's log says more; see what is wrong with: evctl doctor",
    };
    vec![advice.to_owned()]
}

/// Whether one of these fields is wrong.
fn faults(call: &CallError, fields: &[&str]) -> bool {
    call.field_violations.iter().any(|violation| fields.contains(&violation.field.as_str()))
}

// === impl ReportedViolation ===

impl ReportedViolation {
    pub(crate) fn new(field: &str, description: &str) -> ReportedViolation {
        ReportedViolation { field: field.to_owned(), option: option_of(field), description: description.to_owned() }
    }
}

// === impl Report ===

impl Report {
    /// Names what the failure is about, unless its message does.
    pub(crate) fn about(mut self, what: &str) -> Report {
        if !self.error.message.contains(what) {
            self.error.message = format!("{what}: {}", self.error.message);
        }
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReportedError { code, message, reason, field_violations, retry_delay_ms: _, advice } = &self.error;
        write!(f, "{BAD}error:{BAD:#} {message}")?;
        match (*code, reason.as_str()) {
            ("UNREACHABLE" | "USAGE" | "INPUT_OUTPUT", _) => writeln!(f)?,
            (code, "") => writeln!(f, " {DIM}({code}){DIM:#}")?,
            (code, reason) => writeln!(f, " {DIM}({code}, {reason}){DIM:#}")?,
        }
        let name = |violation: &ReportedViolation| violation.option.clone().unwrap_or_else(|| violation.field.clone());
        let width = field_violations.iter().map(|violation| name(violation).chars().count()).max().unwrap_or(0);
        for violation in field_violations {
            let name = name(violation);
            let pad = width - name.chars().count();
            writeln!(f, "  {BOLD}{name}{BOLD:#}{:pad$}  {}", "", violation.description)?;
        }
        for line in advice {
            writeln!(f, "  {ACCENT}→{ACCENT:#} {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn refused(code: Code, message: &str, details: ErrorDetails) -> Failure {
        let status = Status::with_error_details(code, message, details);
        Failure::Client(Error::Call(Box::new(CallError::from(status))))
    }

    fn text(failure: &Failure) -> String {
        strip_str(&failure.report().to_string()).to_string()
    }

    fn invalid() -> Failure {
        let mut details = ErrorDetails::with_error_info("OUT_OF_RANGE", "evserve", std::collections::HashMap::new());
        details.add_bad_request_violation("battery_capacity_kwh", "is 6000; expected 1 to 1000 kWh");
        details.add_bad_request_violation("rows[3].seats", "is 0; expected 1 to 100");
        details.add_bad_request_violation("frobs", "unknown");
        refused(Code::InvalidArgument, "3 fields are wrong", details)
    }

    #[test]
    fn every_field_at_fault_is_listed_with_its_option() {
        assert_eq!(
            text(&invalid()),
            "error: 3 fields are wrong (INVALID_ARGUMENT, OUT_OF_RANGE)\n\
             \x20 --battery-kwh  is 6000; expected 1 to 1000 kWh\n\
             \x20 --seats        is 0; expected 1 to 100\n\
             \x20 frobs          unknown\n\
             \x20 → correct the fields above; `evctl predict <SERVICE> --help` explains each\n"
        );
        assert_eq!(invalid().exit(), Exit::Failed);
    }

    #[test]
    fn scripts_get_the_same_as_json() {
        assert_eq!(
            serde_json::to_string(&invalid().report()).expect("encoded"),
            "{\"error\":{\"code\":\"INVALID_ARGUMENT\",\"message\":\"3 fields are wrong\",\"reason\":\"OUT_OF_RANGE\",\
             \"field_violations\":[\
             {\"field\":\"battery_capacity_kwh\",\"option\":\"--battery-kwh\",\"description\":\"is 6000; expected 1 to 1000 kWh\"},\
             {\"field\":\"rows[3].seats\",\"option\":\"--seats\",\"description\":\"is 0; expected 1 to 100\"},\
             {\"field\":\"frobs\",\"description\":\"unknown\"}],\
             \"advice\":[\"correct the fields above; `evctl predict <SERVICE> --help` explains each\"]}}"
        );
    }

    #[test]
    fn an_absent_server_says_how_to_start_one() {
        let failure = Failure::Client(Error::Unreachable {
            endpoint: "http://127.0.0.1:1".to_owned(),
            source: "connection refused".into(),
        });
        assert_eq!(
            text(&failure),
            "error: no server answers at http://127.0.0.1:1: connection refused\n\
             \x20 → start one with: make demo\n\
             \x20 → or correct --server (or EVCTL_SERVER), now http://127.0.0.1:1\n"
        );
        assert_eq!(failure.exit(), Exit::Unreachable);
    }

    #[test]
    fn an_overloaded_server_says_when_to_come_back() {
        let failure = refused(
            Code::ResourceExhausted,
            "the queue is full",
            ErrorDetails::with_retry_info(Some(Duration::from_millis(250))),
        );
        assert_eq!(
            text(&failure),
            "error: the queue is full (RESOURCE_EXHAUSTED)\n\
             \x20 → try again in 250ms\n\
             \x20 → see what is wrong with: evctl doctor\n"
        );
    }

    #[test]
    fn no_answer_in_time_has_its_own_exit_code() {
        assert_eq!(refused(Code::DeadlineExceeded, "too slow", ErrorDetails::new()).exit(), Exit::Timeout);
    }

    #[test]
    fn a_closed_pipe_is_not_a_failure() {
        let failure = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(failure.exit(), Exit::Ok);
        assert!(failure.is_closed_pipe());
    }
}
