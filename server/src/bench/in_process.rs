//! Calls without a socket: everything from the request's head to the answer's trailers, and nothing of HTTP/2.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body::Body as _;
use http_body_util::Full;
use tonic::{body::Body, codegen::BoxFuture};
use tower::Service;

use crate::Server;

/// Polls of one call before it is given up: each is a pause between bursts, and nothing here waits for anything else.
const POLLS_MAX: usize = 100_000;

/// The server's layers and services, called on this thread.
pub struct InProcess(Box<dyn FnMut(Request<Full<Bytes>>) -> CallFuture + Send>);

type CallFuture = BoxFuture<Response<Body>, Infallible>;

/// A call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The path is not one.
    #[error("not a path")]
    Path(#[from] http::Error),
    /// The call waits for something that does not happen on this thread.
    #[error("the call did not end")]
    Unfinished,
    /// The answer ended early.
    #[error("the answer ended early")]
    Answer(#[source] tonic::Status),
    /// The service refused.
    #[error("gRPC status {code}: {message}")]
    Refused {
        /// `grpc-status`.
        code: String,
        /// `grpc-message`.
        message: String,
    },
}

// === impl Server ===

impl Server {
    /// The layers and services that connections of this server are served by.
    #[must_use]
    pub fn in_process(&self) -> InProcess {
        (self.in_process)()
    }
}

// === impl InProcess ===

impl InProcess {
    pub(crate) fn new<S>(mut service: S) -> InProcess
    where
        S: Service<Request<Full<Bytes>>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        InProcess(Box::new(move |request| Box::pin(service.call(request))))
    }

    /// Calls `/package.Service/Method` with gRPC-framed messages, and gives the answer's.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the call fails or does not end.
    pub fn call(&mut self, path: &str, messages: Bytes) -> Result<Vec<u8>, CallError> {
        let request = Request::post(path)
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(messages))?;
        let mut call = (self.0)(request);
        let Ok(response) = finish(|context| call.as_mut().poll(context))?;
        check(response.headers())?;
        let mut body = pin!(response.into_body());
        let mut answer = Vec::new();
        while let Some(frame) = finish(|context| Pin::as_mut(&mut body).poll_frame(context))? {
            match frame.map_err(CallError::Answer)?.into_data() {
                Ok(data) => answer.extend_from_slice(&data),
                Err(frame) => check(frame.trailers_ref().unwrap_or(&HeaderMap::new()))?,
            }
        }
        Ok(answer)
    }
}

fn check(headers: &HeaderMap) -> Result<(), CallError> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match text("grpc-status") {
        Some(code) if code != "0" => {
            Err(CallError::Refused { code, message: text("grpc-message").unwrap_or_default() })
        }
        _ => Ok(()),
    }
}

/// Polls until it is ready.
fn finish<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, CallError> {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(value) = poll(&mut context) {
            return Ok(value);
        }
    }
    Err(CallError::Unfinished)
}
