//! The caller's deadline: `grpc-timeout` becomes an instant the pipeline can compare with.

use std::{
    convert::Infallible,
    future::ready,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{dispatch::AnswerFuture, status};
use crate::pipeline::PredictError;

/// Parsed once; looking it up by text would parse it for every call.
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// When the caller stops waiting; a request extension, present when the caller sent `grpc-timeout`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(pub(super) Instant);

/// Reads `grpc-timeout`, and answers at once what has already expired.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadlineLayer;

/// [`DeadlineLayer`]'s service.
#[derive(Debug, Clone)]
pub(crate) struct DeadlineService<S>(S);

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService(inner)
    }
}

impl<S, B> Service<Request<B>> for DeadlineService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible, Future = AnswerFuture>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(header) = request.headers().get(&GRPC_TIMEOUT) {
            match timeout(header) {
                Some(Duration::ZERO) => {
                    return refusal(status::of_predict(PredictError::DeadlineExceeded));
                }
                // A century is as good as no deadline, and cannot overflow an instant.
                Some(timeout) if timeout < Duration::from_secs(100 * 365 * 86_400) => {
                    request.extensions_mut().insert(Deadline(Instant::now() + timeout));
                }
                Some(_) => {}
                None => {
                    return refusal(status::invalid(
                        "grpc-timeout",
                        "WRONG_KIND",
                        "is not a timeout, expected up to 8 digits and one of H, M, S, m, u, n",
                    ));
                }
            }
        }
        self.0.call(request)
    }
}

#[cold]
fn refusal(status: Status) -> AnswerFuture {
    Box::pin(ready(Ok(status.into_http())))
}

/// Parses up to eight digits and a unit, as the gRPC specification has it.
fn timeout(header: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = header.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        let check = |text: &'static str, expected: Option<Duration>| {
            assert_eq!(timeout(&HeaderValue::from_static(text)), expected, "{text}");
        };
        check("0n", Some(Duration::ZERO));
        check("250m", Some(Duration::from_millis(250)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        check("2S", Some(Duration::from_secs(2)));
        check("", None);
        check("m", None);
        check("1", None);
        check("1d", None);
        check("-1S", None);
        check("123456789S", None);
    }
}
