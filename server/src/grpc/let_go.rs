//! Calls that wait for something to happen end when the server drains: watchers of health, open reflection streams.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, StdError},
};

use super::status;
use crate::pipeline::PredictError;

/// A request or an answer that says `UNAVAILABLE` once draining has begun and there is nothing more to say.
struct UntilDrain {
    body: Body,
    side: Side,
    drain_begins: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Response,
}

/// Calls a service that may wait for ever, for its client or for news, as long as the server does not drain.
pub(super) fn until_drain<B, F>(
    request: Request<B>,
    draining: &CancellationToken,
    call: impl FnOnce(Request<Body>) -> F,
) -> BoxFuture<Response<Body>, Infallible>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    // The request as well: who holds its end open holds the call open.
    let answered = call(request.map(|body| UntilDrain::body(Body::new(body), Side::Request, draining)));
    let draining = draining.clone();
    Box::pin(async move { Ok(answered.await?.map(|body| UntilDrain::body(body, Side::Response, &draining))) })
}

// === impl UntilDrain ===

impl UntilDrain {
    fn body(body: Body, side: Side, draining: &CancellationToken) -> Body {
        let drain_begins = Box::pin(draining.clone().cancelled_owned());
        Body::new(UntilDrain { body, side, drain_begins, ended: false })
    }
}

impl http_body::Body for UntilDrain {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        // What there is to say is said first.
        let frame = Pin::new(&mut this.body).poll_frame(context);
        if frame.is_ready() || this.drain_begins.as_mut().poll(context).is_pending() {
            return frame;
        }
        this.ended = true;
        let status = status::of_predict(PredictError::ShuttingDown);
        if this.side == Side::Request {
            return Poll::Ready(Some(Err(status)));
        }
        let mut trailers = HeaderMap::new();
        let told = status.add_header(&mut trailers);
        Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
