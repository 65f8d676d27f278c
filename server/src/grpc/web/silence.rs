//! A bound on how long an HTTP/1.1 client may leave its request unfinished: HTTP/2 would send it a ping.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Version};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{Status, body::Body};
use tower::Service;

use crate::grpc::status;

/// Calls a service with requests that may not fall silent.
#[derive(Clone)]
pub(super) struct NoSilence<S> {
    pub(super) inner: S,
    /// Longest pause inside a request.
    pub(super) max: Duration,
}

/// A request's messages, and the end of them when nothing more comes.
struct Bounded {
    body: Body,
    max: Duration,
    /// Runs while something is waited for.
    silence: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for NoSilence<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        if request.version() == Version::HTTP_2 {
            return self.inner.call(request);
        }
        let max = self.max;
        let silence = || Box::pin(tokio::time::sleep(max));
        self.inner.call(request.map(|body| Body::new(Bounded { body, max, silence: silence(), waiting: false })))
    }
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.waiting = false;
            return Poll::Ready(frame);
        }
        if !this.waiting {
            this.silence.as_mut().reset(Instant::now() + this.max);
            this.waiting = true;
        }
        ready!(this.silence.as_mut().poll(context));
        Poll::Ready(Some(Err(status::silent(this.max))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
