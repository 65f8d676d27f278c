//! Refusals that come from below the services (too large, not decodable, nobody's method) say their reason as well.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body as _;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::status;

/// Gives refusals that have none an `ErrorInfo`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReasonLayer {
    /// The key of the configuration that bounds messages; empty where there are several.
    pub(crate) size_key: &'static str,
}

/// [`ReasonLayer`]'s service.
#[derive(Debug, Clone)]
pub(crate) struct ReasonService<S> {
    inner: S,
    size_key: &'static str,
}

/// [`ReasonService`]'s future. The answer is looked at where it is: moving it costs more than looking.
pub(crate) struct Reasoned<F> {
    inner: F,
    size_key: &'static str,
}

impl<S> Layer<S> for ReasonLayer {
    type Service = ReasonService<S>;

    fn layer(&self, inner: S) -> ReasonService<S> {
        ReasonService { inner, size_key: self.size_key }
    }
}

impl<S, B> Service<Request<B>> for ReasonService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Unpin>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Reasoned<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        Reasoned { inner: self.inner.call(request), size_key: self.size_key }
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>> + Unpin> Future for Reasoned<F> {
    type Output = F::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut answered = Pin::new(&mut self.inner).poll(context);
        // A call that went well has a body, so this is all it pays.
        if let Poll::Ready(Ok(response)) = &mut answered
            && response.body().is_end_stream()
        {
            explain(response, self.size_key);
        }
        answered
    }
}

/// An answer without a body has its status in the head.
#[cold]
fn explain(response: &mut Response<Body>, size_key: &str) {
    if let Some(found) = Status::from_header_map(response.headers())
        && found.code() != Code::Ok
        && found.details().is_empty()
    {
        *response = status::of_wire(found, size_key).into_http();
    }
}
