//! The only place that makes a `Status` or a row error of an error.

use std::{collections::HashMap, error::Error, sync::Arc, time::Duration};

use ev_domain::Problem;
use ev_features::{StoreError, WriteError};
use ev_outcomes::OutcomesError;
use ev_proto::ev::common::v1::{FieldViolation, RowError};
use ev_registry::RegistryError;
use ev_rollouts::RolloutError;
use ev_telemetry::{SubmitError, TelemetryError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    comparison::ComparisonError,
    deploy::NotLoaded,
    gates::GateError,
    pipeline::{PredictError, Violation},
    rollouts::RolloutsError,
};

/// `ErrorInfo.domain` of every error.
const DOMAIN: &str = "evserve";

/// When a caller may try again what was refused for a passing reason.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// When an upload may try again that found no room beside others: some end within.
const STAGING_DELAY: Duration = Duration::from_secs(10);

/// When a caller may try again to watch: others watch for long.
const WATCHERS_RETRY_DELAY: Duration = Duration::from_secs(5);

/// An error as every edge shows it.
struct Described {
    code: Code,
    reason: &'static str,
    message: String,
    violations: Vec<Violation>,
    retry: Option<Duration>,
}

/// The status of a failed prediction.
#[cold]
pub(super) fn of_predict(error: PredictError) -> Status {
    describe(error).into_status()
}

/// The error of one row.
#[cold]
pub(super) fn of_row(error: PredictError) -> RowError {
    let Described { code, reason, message, violations, .. } = describe(error);
    RowError {
        code: code as i32,
        message,
        reason: reason.to_owned(),
        field_violations: violations
            .into_iter()
            .map(|violation| FieldViolation { field: violation.field, description: violation.description })
            .collect(),
    }
}

/// The status of a failed registry call.
#[cold]
pub(super) fn of_registry(error: &RegistryError) -> Status {
    let (code, reason) = match error {
        RegistryError::NotFound { .. } => (Code::NotFound, "NOT_FOUND"),
        RegistryError::InvalidManifest(_) => (Code::InvalidArgument, "INVALID_MANIFEST"),
        RegistryError::InvalidAlias { .. } => (Code::InvalidArgument, "INVALID_ALIAS"),
        RegistryError::InvalidAuditEntry { .. } => (Code::InvalidArgument, "INVALID_AUDIT_ENTRY"),
        RegistryError::InvalidPage { .. } => (Code::InvalidArgument, "INVALID_PAGE"),
        RegistryError::UnknownFile { .. } => (Code::InvalidArgument, "UNKNOWN_FILE"),
        RegistryError::MissingFile { .. } => (Code::InvalidArgument, "MISSING_FILE"),
        RegistryError::OutOfOrder { .. } => (Code::InvalidArgument, "OUT_OF_ORDER"),
        RegistryError::RefusedFile { .. } => (Code::InvalidArgument, "REFUSED_FILE"),
        RegistryError::DigestMismatch { .. } => (Code::DataLoss, "DIGEST_MISMATCH"),
        RegistryError::SizeMismatch { .. } => (Code::DataLoss, "SIZE_MISMATCH"),
        RegistryError::TooLarge { .. } => (Code::ResourceExhausted, "TOO_LARGE"),
        RegistryError::TooManyFiles { .. } => (Code::ResourceExhausted, "TOO_MANY_FILES"),
        RegistryError::DiskFull { .. } => (Code::ResourceExhausted, "DISK_FULL"),
        RegistryError::StagingFull { .. } => (Code::ResourceExhausted, "STAGING_FULL"),
        RegistryError::Gap { .. } => (Code::Aborted, "UPLOAD_GAP"),
        RegistryError::UploadFailed => (Code::Aborted, "UPLOAD_FAILED"),
        RegistryError::Conflict { .. } => (Code::Aborted, "ALIAS_MOVED"),
        RegistryError::RolloutUnderWay { .. } => (Code::FailedPrecondition, "ROLLOUT_UNDER_WAY"),
        RegistryError::RolloutMoved { .. } => (Code::Aborted, "ROLLOUT_MOVED"),
        RegistryError::Corrupt { .. } | RegistryError::Damaged { .. } => (Code::DataLoss, "CORRUPT"),
        RegistryError::Tampered { .. } => (Code::DataLoss, "TAMPERED"),
        RegistryError::Lost { .. } => (Code::DataLoss, "LOST"),
        RegistryError::Malformed { .. } => (Code::DataLoss, "MALFORMED"),
        RegistryError::NotWritable { .. }
        | RegistryError::Storage { .. }
        | RegistryError::Unreachable { .. }
        | RegistryError::StoreUnreachable { .. } => (Code::Unavailable, "STORE_UNREACHABLE"),
        RegistryError::StoreRefused { .. } => (Code::Unavailable, "STORE_REFUSED"),
        RegistryError::InUse { .. } => (Code::FailedPrecondition, "VERSION_IN_USE"),
        RegistryError::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
        // The registry's errors may grow; what is not known here is ours to look into.
        _ => (Code::Internal, "INTERNAL"),
    };
    let operator = matches!(code, Code::Unavailable | Code::DataLoss | Code::Internal) || reason == "DISK_FULL";
    if operator {
        tracing::error!(error = error as &dyn Error, reason, "registry call failed");
    }
    let mut message = error.to_string();
    if let RegistryError::InvalidManifest(source) = error {
        message = format!("{message}: {source}");
    }
    let retry = match reason {
        "STAGING_FULL" => Some(STAGING_DELAY),
        _ => matches!(code, Code::Unavailable).then_some(RETRY_DELAY),
    };
    Described { code, reason, message, violations: Vec::new(), retry }.into_status()
}

/// The status of a rollout that was refused or failed.
#[cold]
pub(super) fn of_rollouts(error: &RolloutsError) -> Status {
    let (code, reason) = match error {
        RolloutsError::Registry(error) => return of_registry(error),
        RolloutsError::Contended { .. } => (Code::Aborted, "ROLLOUT_MOVED"),
        RolloutsError::Refused(RolloutError::InvalidPlan { field, found, expected }) => {
            return invalid(&format!("plan.{field}"), "OUT_OF_RANGE", format!("is {found}, expected {expected}"));
        }
        RolloutsError::Refused(RolloutError::SameVersion { .. }) => (Code::FailedPrecondition, "ALREADY_PRODUCTION"),
        RolloutsError::Refused(RolloutError::NotNow { .. }) => (Code::FailedPrecondition, "ROLLOUT_STATE"),
        // Rollouts' errors may grow; what is not known here is ours to look into.
        RolloutsError::Refused(_) => (Code::Internal, "INTERNAL"),
    };
    let retry = (code == Code::Aborted).then_some(RETRY_DELAY);
    Described { code, reason, message: error.to_string(), violations: Vec::new(), retry }.into_status()
}

/// The status of versions that cannot be compared.
#[cold]
pub(super) fn of_comparison(error: ComparisonError) -> Status {
    let message = error.to_string();
    let (code, reason) = match error {
        ComparisonError::NotAlike { .. } => (Code::FailedPrecondition, "NOT_COMPARABLE"),
        ComparisonError::NoRequests => (Code::FailedPrecondition, "NO_GOLDEN_REQUESTS"),
        ComparisonError::ShuttingDown => return of_registry(&RegistryError::ShuttingDown),
        ComparisonError::NotLoaded { model, version, source } => return of_not_loaded(&model, version, source),
    };
    Described { code, reason, message, violations: Vec::new(), retry: None }.into_status()
}

/// The status of a version that was not loaded.
#[cold]
pub(super) fn of_not_loaded(model: &str, version: u32, error: NotLoaded) -> Status {
    match error {
        NotLoaded::Unread(error) => of_registry(&error),
        NotLoaded::Refused(reason) => of_predict(PredictError::NotServable { name: model.to_owned(), version, reason }),
    }
}

/// The status of a version that may not be in production.
#[cold]
pub(super) fn of_gates(error: GateError) -> Status {
    let message = error.to_string();
    match error {
        GateError::Registry(error) => of_registry(&error),
        GateError::NotServable { model, version, reason } => {
            of_predict(PredictError::NotServable { name: model, version, reason })
        }
        GateError::Failed { failed, .. } => {
            let violations = failed.into_iter().map(|result| Violation {
                field: format!("gates.{}", result.gate),
                reason: "GATE_FAILED",
                description: format!("{}; required: {}; {}", result.measured, result.required, result.remedy),
            });
            let (code, reason, violations) = (Code::FailedPrecondition, "GATE_FAILED", violations.collect());
            Described { code, reason, message, violations, retry: None }.into_status()
        }
    }
}

/// The status of outcomes that could not be stored or compared.
#[cold]
pub(super) fn of_outcomes(error: &OutcomesError) -> Status {
    let (code, reason) = match error {
        OutcomesError::UnknownModel { .. } => (Code::NotFound, "NOTHING_LOGGED"),
        OutcomesError::InvalidQuestion { field, problem } => {
            return invalid(field, "INVALID_QUESTION", problem.clone());
        }
        OutcomesError::Malformed { .. } => (Code::DataLoss, "MALFORMED"),
        OutcomesError::DiskFull { .. } => (Code::ResourceExhausted, "DISK_FULL"),
        OutcomesError::InUse { .. } | OutcomesError::Storage { .. } => (Code::Unavailable, "STORE_UNREACHABLE"),
        // Outcomes' errors may grow; what is not known here is ours to look into.
        _ => (Code::Internal, "INTERNAL"),
    };
    if code != Code::NotFound {
        tracing::error!(error = error as &dyn Error, reason, "outcomes failed");
    }
    let retry = (code == Code::Unavailable).then_some(RETRY_DELAY);
    Described { code, reason, message: error.to_string(), violations: Vec::new(), retry }.into_status()
}

/// The error of one of many that are answered one by one.
#[cold]
pub(super) fn row_error(code: Code, reason: &str, message: String) -> RowError {
    RowError { code: code as i32, message, reason: reason.to_owned(), field_violations: Vec::new() }
}

/// The status of telemetry that failed.
#[cold]
pub(super) fn of_telemetry(error: &TelemetryError) -> Status {
    let (code, reason) = match error {
        TelemetryError::UnknownVehicle { .. } => (Code::NotFound, "UNKNOWN_VEHICLE"),
        TelemetryError::InvalidQuery { .. } => (Code::InvalidArgument, "INVALID_QUERY"),
        TelemetryError::InvalidBatch { .. } => (Code::InvalidArgument, "INVALID_BATCH"),
        TelemetryError::Malformed { .. } => (Code::DataLoss, "MALFORMED"),
        TelemetryError::DiskFull { .. } => (Code::ResourceExhausted, "DISK_FULL"),
        TelemetryError::Storage { .. } | TelemetryError::Unreachable { .. } => (Code::Unavailable, "STORE_UNREACHABLE"),
        TelemetryError::Overloaded { .. } => (Code::ResourceExhausted, "OVERLOADED"),
        TelemetryError::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
        // Telemetry's errors may grow; what is not known here is ours to look into.
        _ => (Code::Internal, "INTERNAL"),
    };
    let operator =
        matches!(code, Code::DataLoss | Code::Internal) || matches!(reason, "DISK_FULL" | "STORE_UNREACHABLE");
    if operator {
        tracing::error!(error = error as &dyn Error, reason, "telemetry failed");
    }
    let retry = matches!(code, Code::Unavailable | Code::ResourceExhausted).then_some(RETRY_DELAY);
    Described { code, reason, message: error.to_string(), violations: Vec::new(), retry }.into_status()
}

/// The status of features that could not be read.
#[cold]
pub(super) fn of_feature_store(error: &StoreError) -> Status {
    let reason = match error {
        StoreError::Unavailable { .. } => "STORE_UNREACHABLE",
        StoreError::ShuttingDown => "SHUTTING_DOWN",
        // Features' errors may grow; what is not known here is ours to look into.
        _ => {
            tracing::error!(error = error as &dyn Error, "features failed");
            return internal(error);
        }
    };
    let (code, retry) = (Code::Unavailable, Some(RETRY_DELAY));
    Described { code, reason, message: error.to_string(), violations: Vec::new(), retry }.into_status()
}

/// The status of features that could not be written. What is wrong with the request is told by its service, which knows
/// the places of names in it; here it is told without.
#[cold]
pub(super) fn of_write(error: &WriteError) -> Status {
    let (code, reason) = match error {
        WriteError::Store(error) => return of_feature_store(error),
        WriteError::Contended => (Code::Aborted, "CONTENDED"),
        WriteError::UnknownView { .. } => (Code::InvalidArgument, "UNKNOWN_VIEW"),
        WriteError::NotWritable { .. } => (Code::InvalidArgument, "NOT_WRITABLE"),
        WriteError::UnknownFeature { .. } => (Code::InvalidArgument, "UNKNOWN_FEATURE"),
        WriteError::Value(_) | WriteError::OwnValue { .. } => (Code::InvalidArgument, "IMPLAUSIBLE_VALUE"),
        WriteError::Future { .. } => (Code::InvalidArgument, "FUTURE_TIME"),
        _ => {
            tracing::error!(error = error as &dyn Error, "features failed");
            return internal(error);
        }
    };
    let retry = (code == Code::Aborted).then_some(RETRY_DELAY);
    Described { code, reason, message: error.to_string(), violations: Vec::new(), retry }.into_status()
}

/// The reason of a value that is refused.
pub(super) fn reason_of(problem: &Problem) -> &'static str {
    match problem {
        Problem::OutOfRange { .. } => "OUT_OF_RANGE",
        Problem::NotFinite { .. } => "NOT_FINITE",
        Problem::TooLong { .. } => "TOO_LONG",
        Problem::WrongKind { .. } => "WRONG_KIND",
        _ => "IMPLAUSIBLE_VALUE",
    }
}

fn internal(error: &dyn Error) -> Status {
    let (code, message) = (Code::Internal, error.to_string());
    Described { code, reason: "INTERNAL", message, violations: Vec::new(), retry: None }.into_status()
}

/// The status of a stream whose batch could not be taken in.
#[cold]
pub(super) fn of_submit(error: &SubmitError) -> Status {
    let (code, reason) = match error {
        SubmitError::Closed(error) => return of_telemetry(error),
        SubmitError::OutOfCredit { .. } => (Code::ResourceExhausted, "OUT_OF_CREDIT"),
        SubmitError::Rejected(_) => (Code::InvalidArgument, "REJECTED"),
        _ => (Code::Internal, "INTERNAL"),
    };
    let retry = (code == Code::ResourceExhausted).then_some(RETRY_DELAY);
    Described { code, reason, message: error.to_string(), violations: Vec::new(), retry }.into_status()
}

/// The status of a stream whose gateway sent without credit; the next may be opened after `wait`.
#[cold]
pub(super) fn out_of_credit(error: &SubmitError, wait: Duration) -> Status {
    let (code, reason, message) = (Code::ResourceExhausted, "OUT_OF_CREDIT", error.to_string());
    Described { code, reason, message, violations: Vec::new(), retry: Some(wait) }.into_status()
}

/// A stream that comes too soon after another of its connection was ended for what it sent.
#[cold]
pub(super) fn too_soon(wait: Duration) -> Status {
    let (code, reason, seconds) = (Code::ResourceExhausted, "TOO_SOON", wait.as_secs_f64());
    let message = format!("a stream of this connection was ended for what it sent; open the next in {seconds:.1} s");
    Described { code, reason, message, violations: Vec::new(), retry: Some(wait) }.into_status()
}

/// A place among those who watch, of which there are so many.
///
/// # Errors
///
/// `RESOURCE_EXHAUSTED` when all are taken.
pub(super) fn place_of_watcher(places: &Arc<Semaphore>, max: usize) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        let message = format!("{max} callers watch already, the most at one time; try again, or ask now and then");
        let (code, reason, retry) = (Code::ResourceExhausted, "TOO_MANY_WATCHERS", Some(WATCHERS_RETRY_DELAY));
        Described { code, reason, message, violations: Vec::new(), retry }.into_status()
    })
}

/// Something that does not exist.
#[cold]
pub(super) fn not_found(reason: &'static str, message: String) -> Status {
    Described { code: Code::NotFound, reason, message, violations: Vec::new(), retry: None }.into_status()
}

/// A stream that ends because the server does.
#[cold]
pub(super) fn draining() -> Status {
    let message = "the server is shutting down; open the stream again, and it will say where to go on".to_owned();
    let (code, reason, retry) = (Code::Unavailable, "SHUTTING_DOWN", Some(RETRY_DELAY));
    Described { code, reason, message, violations: Vec::new(), retry }.into_status()
}

/// A gateway's stream that ends because it has opened another.
#[cold]
pub(super) fn superseded(gateway: &str) -> Status {
    let message = format!("gateway `{gateway}` has opened another stream; gateways need ids of their own");
    let (code, reason) = (Code::Aborted, "SUPERSEDED");
    Described { code, reason, message, violations: Vec::new(), retry: None }.into_status()
}

/// A request that breaks the protocol of its call.
#[cold]
pub(super) fn invalid(field: &str, reason: &'static str, description: impl Into<String>) -> Status {
    of_predict(PredictError::Invalid(vec![Violation {
        field: field.to_owned(),
        reason,
        description: description.into(),
    }]))
}

/// A refusal that comes from below the services, which knows no reasons: its own is found by its words.
///
/// A test for each of them says when tonic's words change. `size_key` is the key of the configuration that bounds
/// messages here; empty where there are several.
#[cold]
pub(super) fn of_wire(status: Status, size_key: &str) -> Status {
    let (mut code, mut message, mut facts) = (status.code(), status.message().to_owned(), HashMap::new());
    let says = |words: &str| status.message().contains(words);
    let reason = match status.code() {
        Code::Internal if says("failed to decode") || says("decompressing") => "MALFORMED_MESSAGE",
        Code::Internal if says("protocol error") || says("Unexpected EOF") || says("Missing request") => {
            "MALFORMED_CALL"
        }
        Code::Internal if says("tonic-web") => "MALFORMED_CALL",
        Code::OutOfRange | Code::ResourceExhausted if says("message length too large") => {
            // What gRPC's other servers say.
            code = Code::ResourceExhausted;
            facts.extend(after(&message, "found ").map(|size| ("size_bytes".to_owned(), size)));
            facts.extend(after(&message, "limit is: ").map(|limit| ("limit_bytes".to_owned(), limit)));
            if !size_key.is_empty() {
                message.push_str("; send less at a time, or have the server take more: `");
                message.push_str(size_key);
                message.push('`');
                facts.insert("key".to_owned(), size_key.to_owned());
            }
            "MESSAGE_TOO_LARGE"
        }
        Code::Unimplemented if says("compressed") => "UNSUPPORTED_COMPRESSION",
        Code::Unimplemented => "UNKNOWN_METHOD",
        code => name_of(code),
    };
    if reason == "UNKNOWN_METHOD" && message.is_empty() {
        message.push_str("no service here has this method; reflection lists those that are served");
    }
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, facts);
    if code == Code::Unavailable {
        details.set_retry_info(Some(RETRY_DELAY));
    }
    Status::with_error_details_and_metadata(code, message, details, status.metadata().clone())
}

/// The number after some words.
fn after(message: &str, words: &str) -> Option<String> {
    let (_, rest) = message.split_once(words)?;
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!number.is_empty()).then_some(number)
}

/// A code as the specification writes it.
fn name_of(code: Code) -> &'static str {
    match code {
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

/// A request whose end does not come.
#[cold]
pub(super) fn silent(max: Duration) -> Status {
    let message = format!("the request is not complete, and nothing more of it came for {max:?}");
    let (code, reason) = (Code::DeadlineExceeded, "CLIENT_SILENT");
    Described { code, reason, message, violations: Vec::new(), retry: None }.into_status()
}

/// A request for which there is no room beside those that are being answered.
#[cold]
pub(super) fn memory_full(max: usize) -> Status {
    let message = format!(
        "requests with pictures that are being received or answered hold {max} bytes already, the most that \
         `grpc.image_messages_memory_max` allows; try again"
    );
    let (code, reason, retry) = (Code::ResourceExhausted, "MESSAGE_MEMORY_FULL", Some(RETRY_DELAY));
    Described { code, reason, message, violations: Vec::new(), retry }.into_status()
}

fn describe(error: PredictError) -> Described {
    let (code, reason, retry) = match &error {
        PredictError::Invalid(violations) => match violations.first() {
            None => (Code::InvalidArgument, "INVALID", None),
            // What the caller gave is checked first: where it is right, only the store is at fault.
            Some(first) if first.is_of_store() => (Code::FailedPrecondition, first.reason, None),
            Some(first) => (Code::InvalidArgument, first.reason, None),
        },
        PredictError::UnknownModel { .. } => (Code::NotFound, "UNKNOWN_MODEL", None),
        PredictError::UnknownVersion { .. } => (Code::NotFound, "UNKNOWN_VERSION", None),
        PredictError::UnknownAlias { .. } => (Code::NotFound, "UNKNOWN_ALIAS", None),
        PredictError::NotServed { .. } => (Code::NotFound, "VERSION_NOT_SERVED", None),
        PredictError::NotServable { .. } => (Code::FailedPrecondition, "NOT_SERVABLE", None),
        PredictError::Loading { .. } => (Code::Unavailable, "LOADING", Some(RETRY_DELAY)),
        PredictError::WrongTask { .. } => (Code::InvalidArgument, "WRONG_TASK", None),
        PredictError::EmptyBatch => (Code::InvalidArgument, "EMPTY_BATCH", None),
        PredictError::TooManyRows { .. } => (Code::InvalidArgument, "TOO_MANY_ROWS", None),
        PredictError::Abandoned => (Code::InvalidArgument, "ABANDONED", None),
        PredictError::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", None),
        PredictError::WouldMissDeadline => (Code::DeadlineExceeded, "WOULD_MISS_DEADLINE", None),
        PredictError::QueueFull { retry_after, .. } => (Code::ResourceExhausted, "QUEUE_FULL", Some(*retry_after)),
        PredictError::Displaced { retry_after } => (Code::ResourceExhausted, "DISPLACED", Some(*retry_after)),
        PredictError::UnknownVehicle { .. } => (Code::NotFound, "UNKNOWN_VEHICLE", None),
        PredictError::FeaturesUnavailable { .. } => (Code::Unavailable, "STORE_UNREACHABLE", Some(RETRY_DELAY)),
        PredictError::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN", Some(RETRY_DELAY)),
        PredictError::Backend(source) => {
            tracing::error!(error = source as &dyn Error, "a model could not be run");
            (Code::Internal, "BACKEND_FAILED", None)
        }
        PredictError::Panicked => (Code::Internal, "BACKEND_PANICKED", None),
    };
    let message = error.to_string();
    let violations = if let PredictError::Invalid(violations) = error { violations } else { Vec::new() };
    Described { code, reason, message, violations, retry }
}

// === impl Described ===

impl Described {
    fn into_status(self) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(self.reason, DOMAIN, HashMap::new());
        for violation in &self.violations {
            details.add_bad_request_violation(&violation.field, &violation.description);
        }
        if let Some(delay) = self.retry {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(self.code, self.message, details)
    }
}
