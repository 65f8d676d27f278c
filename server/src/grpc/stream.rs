//! Bidirectional prediction: each request is answered as it comes, in order, inline.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use futures_core::Stream;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, Streaming};

use super::status;
use crate::pipeline::PredictError;

/// Messages answered in one go before other tasks of this core get a turn: about 0.2 ms of tabular models.
/// Answers of one go leave in one frame, which is most of what makes a stream cheaper than single calls.
const BURST: u32 = 64;
/// Messages still answered after draining began: everything a client had sent by then, unless it never stops.
const DRAINED_MAX: u32 = 4096;

/// Answers of a stream, boxed as tonic's generated traits want it.
pub(super) type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

struct AnswerStream<Q, F> {
    requests: Streaming<Q>,
    answer: F,
    draining: CancellationToken,
    drain_begins: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Option<Pin<Box<Sleep>>>,
    burst: u32,
    drained: u32,
    ended: bool,
}

/// Answers `requests` one by one until the client ends, the deadline passes, or the server drains.
pub(super) fn answers<Q, A>(
    requests: Streaming<Q>,
    draining: &CancellationToken,
    deadline: Option<Instant>,
    answer: impl FnMut(Q) -> A + Send + Unpin + 'static,
) -> Answers<A>
where
    Q: Send + 'static,
    A: Send + 'static,
{
    Box::pin(AnswerStream {
        requests,
        answer,
        draining: draining.clone(),
        drain_begins: Box::pin(draining.clone().cancelled_owned()),
        deadline: deadline.map(|instant| Box::pin(tokio::time::sleep_until(instant.into()))),
        burst: 0,
        drained: 0,
        ended: false,
    })
}

impl<Q, A, F> Stream for AnswerStream<Q, F>
where
    F: FnMut(Q) -> A + Unpin,
{
    type Item = Result<A, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if this.burst >= BURST {
            this.burst = 0;
            if let Some(error) = this.over(context) {
                this.ended = true;
                return Poll::Ready(Some(Err(status::of_predict(error))));
            }
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match Pin::new(&mut this.requests).poll_next(context) {
            Poll::Ready(Some(Ok(request))) => {
                this.burst += 1;
                Poll::Ready(Some(Ok((this.answer)(request))))
            }
            Poll::Ready(Some(Err(error))) => {
                this.ended = true;
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                this.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                this.burst = 0;
                let idle = this.drain_begins.as_mut().poll(context).is_ready();
                let error = if idle { Some(PredictError::ShuttingDown) } else { this.expired(context) };
                let Some(error) = error else { return Poll::Pending };
                this.ended = true;
                Poll::Ready(Some(Err(status::of_predict(error))))
            }
        }
    }
}

// === impl AnswerStream ===

impl<Q, F> AnswerStream<Q, F> {
    /// Why a stream that never pauses ends now.
    fn over(&mut self, context: &mut Context<'_>) -> Option<PredictError> {
        if self.draining.is_cancelled() {
            self.drained += BURST;
            if self.drained > DRAINED_MAX {
                return Some(PredictError::ShuttingDown);
            }
        }
        self.expired(context)
    }

    fn expired(&mut self, context: &mut Context<'_>) -> Option<PredictError> {
        let deadline = self.deadline.as_mut()?;
        deadline.as_mut().poll(context).is_ready().then_some(PredictError::DeadlineExceeded)
    }
}
