//! What a call says beside its message: until when, and for whom.

use std::time::Instant;

use ev_rollouts::Key;
use http::{Extensions, HeaderMap, HeaderName};
use tonic::{Request, Status};

use super::{deadline::Deadline, predictor::Predictor, status};
use crate::{deploy::Asker, pipeline::PredictError};

/// Metadata that keeps a caller on one side of a rollout.
pub(crate) const STICKY_KEY: HeaderName = HeaderName::from_static("x-evserve-sticky-key");
/// As much of it as counts.
const KEY_BYTES_MAX: usize = 128;

/// A call, as every prediction of it needs it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Call {
    pub(super) deadline: Option<Instant>,
    /// Not somebody's who calls, but the server's own.
    is_own: bool,
    key: Option<Key>,
}

// === impl Call ===

impl Call {
    /// The server's own: nobody waits, and production answers.
    pub(super) fn own() -> Call {
        Call { is_own: true, ..Call::default() }
    }

    /// Who asks about a vehicle; empty where there is none.
    #[inline]
    pub(super) fn asker<'a>(&self, vehicle: &'a str) -> Asker<'a> {
        if self.is_own { Asker::Server } else { Asker::Caller { vehicle, key: self.key } }
    }

    /// Whether there is no time left.
    pub(super) fn has_passed(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

// === impl Predictor ===

impl Predictor {
    /// The call of a request.
    ///
    /// # Errors
    ///
    /// `DEADLINE_EXCEEDED` when its deadline has already passed.
    #[inline]
    pub(super) fn call<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        self.call_with(request.extensions(), request.metadata().as_ref())
    }

    /// The call of a request that says this beside its message.
    ///
    /// # Errors
    ///
    /// As [`Predictor::call`].
    #[inline]
    pub(super) fn call_with(&self, extensions: &Extensions, headers: &HeaderMap) -> Result<Call, Status> {
        let key = if self.routes.is_split() { key(headers) } else { None };
        Ok(Call { deadline: deadline(extensions)?, is_own: false, key })
    }

    /// The same of a stream, which may outlive the beginning of a rollout.
    pub(super) fn call_of_stream<T>(&self, request: &Request<T>) -> Result<Call, Status> {
        let key = key(request.metadata().as_ref());
        Ok(Call { deadline: deadline(request.extensions())?, is_own: false, key })
    }
}

/// The caller's deadline.
///
/// # Errors
///
/// `DEADLINE_EXCEEDED` when it has already passed.
#[inline]
pub(super) fn deadline(extensions: &Extensions) -> Result<Option<Instant>, Status> {
    match extensions.get::<Deadline>() {
        None => Ok(None),
        Some(Deadline(instant)) if *instant > Instant::now() => Ok(Some(*instant)),
        Some(_) => Err(status::of_predict(PredictError::DeadlineExceeded)),
    }
}

#[cold]
fn key(headers: &HeaderMap) -> Option<Key> {
    let key = headers.get(STICKY_KEY)?.as_bytes();
    (!key.is_empty()).then(|| Key::of(&key[..key.len().min(KEY_BYTES_MAX)]))
}
