//! Bidirectional prediction: each request is answered as it comes, in order, inline.

use std::{
    future::Future,
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

/// What answering a message takes.
pub(super) enum Answer<A> {
    /// It is answered.
    Now(A),
    /// Work that pauses for other requests of this core, such as a batch.
    Later(Pin<Box<dyn Future<Output = A> + Send>>),
}

struct AnswerStream<Q, A, F> {
    requests: Streaming<Q>,
    answer: F,
    /// The answer in the making; the next message waits for it.
    later: Option<Pin<Box<dyn Future<Output = A> + Send>>>,
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
    mut answer: impl FnMut(Q) -> A + Send + Unpin + 'static,
) -> Answers<A>
where
    Q: Send + 'static,
    A: Send + 'static,
{
    paused_answers(requests, draining, deadline, move |request| Answer::Now(answer(request)))
}

/// As [`answers`], of messages some of which take more than a moment.
pub(super) fn paused_answers<Q, A>(
    requests: Streaming<Q>,
    draining: &CancellationToken,
    deadline: Option<Instant>,
    answer: impl FnMut(Q) -> Answer<A> + Send + Unpin + 'static,
) -> Answers<A>
where
    Q: Send + 'static,
    A: Send + 'static,
{
    Box::pin(AnswerStream {
        requests,
        answer,
        later: None,
        draining: draining.clone(),
        drain_begins: Box::pin(draining.clone().cancelled_owned()),
        deadline: deadline.map(|instant| Box::pin(tokio::time::sleep_until(instant.into()))),
        burst: 0,
        drained: 0,
        ended: false,
    })
}

impl<Q, A, F> Stream for AnswerStream<Q, A, F>
where
    F: FnMut(Q) -> Answer<A> + Unpin,
{
    type Item = Result<A, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(later) = &mut this.later {
            let Poll::Ready(answer) = later.as_mut().poll(context) else { return Poll::Pending };
            this.later = None;
            // It had a burst's worth of time.
            this.burst = BURST;
            return Poll::Ready(Some(Ok(answer)));
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
            Poll::Ready(Some(Ok(request))) => match (this.answer)(request) {
                Answer::Now(answer) => {
                    this.burst += 1;
                    Poll::Ready(Some(Ok(answer)))
                }
                Answer::Later(later) => {
                    this.later = Some(later);
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            },
            Poll::Ready(Some(Err(error))) => {
                this.ended = true;
                // Of a request that was refused while it was read: it has its reason already.
                let error = if error.details().is_empty() { status::of_wire(error) } else { error };
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

impl<Q, A, F> AnswerStream<Q, A, F> {
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
