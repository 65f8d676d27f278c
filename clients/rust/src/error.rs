//! What can go wrong with a call.

use std::{collections::BTreeMap, error::Error as StdError, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::UploadError;

/// What can go wrong with a call, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The endpoint is not one: correct it.
    #[error("`{endpoint}` is not an endpoint such as http://127.0.0.1:50051")]
    InvalidEndpoint {
        /// As it was given.
        endpoint: String,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Nothing answers there: start the server, or correct the endpoint.
    #[error("no server answers at {endpoint}")]
    Unreachable {
        /// Where it was sought.
        endpoint: String,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The server refused the call, or the deadline passed.
    #[error(transparent)]
    Call(#[from] Box<CallError>),
    /// The files of an upload are at fault.
    #[error(transparent)]
    Upload(#[from] UploadError),
}

/// A refused call, with what `google.rpc` details said about it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CallError {
    /// gRPC status code.
    pub code: Code,
    /// Message for a person.
    pub message: String,
    /// Stable reason in upper case, such as `OUT_OF_RANGE`; empty when the server gave none.
    pub reason: String,
    /// Who the reason belongs to.
    pub domain: String,
    /// Further facts by name.
    pub facts: BTreeMap<String, String>,
    /// The fields at fault.
    pub field_violations: Vec<FieldViolation>,
    /// When to try again.
    pub retry_delay: Option<Duration>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Field name, with its row in a batch: `rows[3].battery_capacity_kwh`.
    pub field: String,
    /// What was sent, what is expected, and what to do.
    pub description: String,
}

// === impl Error ===

impl Error {
    /// Of a status, from the server or from the connection to it.
    pub(crate) fn of_status(endpoint: &str, status: Status) -> Error {
        // What the server sends carries no source; what the transport makes up does.
        // A call handed to a connection that closes at that moment comes back as cancelled, whoever closed it.
        let lost = match status.code() {
            Code::Unavailable => status.source().is_some(),
            Code::Cancelled => status.source().is_some_and(|source| !caused_by::<tonic::TimeoutExpired>(source)),
            _ => false,
        };
        if lost {
            return Error::Unreachable { endpoint: endpoint.to_owned(), source: status.into() };
        }
        Error::Call(Box::new(CallError::from(status)))
    }

    pub(crate) fn deadline(deadline: Duration) -> Error {
        Error::Call(Box::new(CallError::new(Code::DeadlineExceeded, format!("no answer within {deadline:?}"))))
    }

    /// The gRPC status code, where there is one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Call(call) => Some(call.code),
            Error::Unreachable { .. } => Some(Code::Unavailable),
            Error::InvalidEndpoint { .. } | Error::Upload(_) => None,
        }
    }

    /// Whether the same may be answered later: the server, its database or the connection is away, or it is overloaded.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Unreachable { .. } => true,
            Error::Call(call) => match call.code {
                Code::Unavailable => true,
                Code::ResourceExhausted => call.retry_delay.is_some(),
                // What a connection's end makes up; what the server says has a reason.
                Code::Unknown | Code::Internal | Code::Cancelled => call.reason.is_empty(),
                _ => false,
            },
            Error::InvalidEndpoint { .. } | Error::Upload(_) => false,
        }
    }

    /// When the server wants to be asked again, where it says so.
    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        match self {
            Error::Call(call) => call.retry_delay,
            Error::Unreachable { .. } | Error::InvalidEndpoint { .. } | Error::Upload(_) => None,
        }
    }
}

// === impl CallError ===

impl CallError {
    /// A refusal without details.
    pub fn new(code: Code, message: impl Into<String>) -> CallError {
        CallError {
            code,
            message: message.into(),
            reason: String::new(),
            domain: String::new(),
            facts: BTreeMap::new(),
            field_violations: Vec::new(),
            retry_delay: None,
        }
    }

    /// The code as gRPC writes it, such as `INVALID_ARGUMENT`.
    #[must_use]
    pub fn code_name(&self) -> &'static str {
        match self.code {
            Code::Ok => "OK",
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> CallError {
        // The transport reports our own `grpc-timeout` as a cancellation.
        let timed_out =
            status.code() == Code::Cancelled && status.source().is_some_and(caused_by::<tonic::TimeoutExpired>);
        let code = if timed_out { Code::DeadlineExceeded } else { status.code() };
        let mut error = CallError::new(code, status.message());
        let details = status.get_error_details();
        if let Some(info) = details.error_info() {
            error.reason.clone_from(&info.reason);
            error.domain.clone_from(&info.domain);
            error.facts = info.metadata.clone().into_iter().collect();
        }
        if let Some(bad_request) = details.bad_request() {
            error.field_violations = bad_request
                .field_violations
                .iter()
                .map(|violation| FieldViolation {
                    field: violation.field.clone(),
                    description: violation.description.clone(),
                })
                .collect();
        }
        error.retry_delay = details.retry_info().and_then(|info| info.retry_delay);
        error
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code_name())?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        for FieldViolation { field, description } in &self.field_violations {
            write!(f, "; {field}: {description}")?;
        }
        Ok(())
    }
}

impl StdError for CallError {}

fn caused_by<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn details_become_fields() {
        let mut details = ErrorDetails::with_error_info(
            "OUT_OF_RANGE",
            "evserve",
            [("row".to_owned(), "3".to_owned())].into_iter().collect::<std::collections::HashMap<_, _>>(),
        );
        details.add_bad_request_violation("battery_capacity_kwh", "is 6000; expected 1 to 1000 kWh");
        details.set_retry_info(Some(Duration::from_millis(250)));
        let error = CallError::from(Status::with_error_details(Code::InvalidArgument, "1 field is wrong", details));

        assert_eq!(error.code, Code::InvalidArgument);
        assert_eq!(error.reason, "OUT_OF_RANGE");
        assert_eq!(error.domain, "evserve");
        assert_eq!(error.facts["row"], "3");
        assert_eq!(error.retry_delay, Some(Duration::from_millis(250)));
        assert_eq!(error.field_violations[0].field, "battery_capacity_kwh");
        assert_eq!(
            error.to_string(),
            "INVALID_ARGUMENT (OUT_OF_RANGE): 1 field is wrong; battery_capacity_kwh: is 6000; expected 1 to 1000 kWh"
        );
    }

    #[test]
    fn a_status_without_details_is_plain() {
        let error = CallError::from(Status::not_found("no model `x`"));
        assert_eq!(error.to_string(), "NOT_FOUND: no model `x`");
        assert_eq!(error.retry_delay, None);
    }

    #[test]
    fn garbled_details_are_ignored() {
        let status = Status::with_details(Code::Internal, "broken", vec![0xff; 7].into());
        assert_eq!(CallError::from(status).to_string(), "INTERNAL: broken");
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        let check = |code: Code, reason: &str, retry_delay: Option<Duration>, expected: bool| {
            let call = CallError { reason: reason.to_owned(), retry_delay, ..CallError::new(code, "") };
            assert_eq!(Error::Call(Box::new(call)).is_passing(), expected, "{code:?} {reason}");
        };
        check(Code::Unavailable, "STORE_UNREACHABLE", None, true);
        check(Code::ResourceExhausted, "TOO_MANY_WATCHERS", Some(Duration::from_secs(1)), true);
        check(Code::ResourceExhausted, "TOO_LARGE", None, false);
        check(Code::Unknown, "", None, true);
        check(Code::Internal, "INTERNAL", None, false);
        check(Code::NotFound, "NOT_FOUND", None, false);
        check(Code::OutOfRange, "", None, false);
    }

    #[test]
    fn what_the_server_says_is_not_unreachable() {
        assert!(matches!(Error::of_status("http://x", Status::unavailable("loading")), Error::Call(_)));
    }
}
