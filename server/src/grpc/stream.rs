//! Bidirectional prediction: each request is answered as it comes, in order, inline or through its model's queue.

use std::{
    collections::VecDeque,
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
/// Messages of a stream that are read before the first of them is answered, where they come together: a model takes less
/// time for a row of a batch than for one alone, and beyond this many there is little more to gain.
pub(super) const RUN_MAX: usize = 16;
/// Answers in the making of one stream: enough to fill batches, few enough that no stream fills a queue alone.
/// A client that sends more is not read until the first of them has been answered.
const QUEUED_MAX: usize = 32;
/// Messages still answered after draining began: everything a client had sent by then, unless it never stops.
const DRAINED_MAX: u32 = 4096;

/// Answers of a stream, boxed as tonic's generated traits want it.
pub(super) type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// What answering a message takes.
pub(super) enum Answer<A> {
    /// It is answered.
    Now(A),
    /// Work that pauses for other requests of this core, such as a batch.
    Later(Making<A>),
    /// It is in a queue and goes on by itself; messages after it may be read meanwhile.
    Queued(Making<A>),
}

/// An answer in the making.
type Making<A> = Pin<Box<dyn Future<Output = A> + Send>>;

struct AnswerStream<Q, A, F> {
    requests: Streaming<Q>,
    /// Takes the messages of a run and adds their answers, in their order.
    answer: F,
    run_max: usize,
    /// Messages of a run that is being read; empty otherwise.
    run: Vec<Q>,
    /// Answers that are not given yet, in the order of their messages. At most [`QUEUED_MAX`] and a run, and behind an
    /// [`Answer::Later`] there is none.
    ahead: VecDeque<Answer<A>>,
    /// How the stream ends when the last of them is given.
    end: Option<Option<Status>>,
    draining: CancellationToken,
    drain_begins: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Option<Pin<Box<Sleep>>>,
    burst: u32,
    drained: u32,
    ended: bool,
}

/// Answers `requests` in order until the client ends, the deadline passes, or the server drains.
pub(super) fn answers<Q, A>(
    requests: Streaming<Q>,
    draining: &CancellationToken,
    deadline: Option<Instant>,
    mut answer: impl FnMut(Q) -> Answer<A> + Send + Unpin + 'static,
) -> Answers<A>
where
    Q: Send + Unpin + 'static,
    A: Send + Unpin + 'static,
{
    let one = move |run: &mut Vec<Q>, ahead: &mut VecDeque<Answer<A>>| ahead.extend(run.drain(..).map(&mut answer));
    Box::pin(AnswerStream::new(requests, draining, deadline, 1, one))
}

/// The same, for messages that are cheaper answered together: `answer` takes up to `run_max` that came together and adds
/// their answers in their order. None may be an [`Answer::Later`].
pub(super) fn answers_in_runs<Q, A>(
    requests: Streaming<Q>,
    draining: &CancellationToken,
    deadline: Option<Instant>,
    run_max: usize,
    answer: impl FnMut(&mut Vec<Q>, &mut VecDeque<Answer<A>>) + Send + Unpin + 'static,
) -> Answers<A>
where
    Q: Send + Unpin + 'static,
    A: Send + Unpin + 'static,
{
    Box::pin(AnswerStream::new(requests, draining, deadline, run_max, answer))
}

impl<Q, A, F> Stream for AnswerStream<Q, A, F>
where
    Q: Unpin,
    A: Unpin,
    F: FnMut(&mut Vec<Q>, &mut VecDeque<Answer<A>>) + Unpin,
{
    type Item = Result<A, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(answer) = this.made() {
            return Poll::Ready(Some(Ok(answer)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        if !this.ahead.is_empty() || this.end.is_some() {
            return this.poll_behind(context);
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
        this.read_run(context);
        if !this.run.is_empty() {
            (this.answer)(&mut this.run, &mut this.ahead);
            return match this.made() {
                Some(answer) => Poll::Ready(Some(Ok(answer))),
                None => this.poll_behind(context),
            };
        }
        if let Some(end) = this.end.take() {
            this.ended = true;
            return Poll::Ready(end.map(Err));
        }
        this.burst = 0;
        let idle = this.drain_begins.as_mut().poll(context).is_ready();
        let error = if idle { Some(PredictError::ShuttingDown) } else { this.expired(context) };
        let Some(error) = error else { return Poll::Pending };
        this.ended = true;
        Poll::Ready(Some(Err(status::of_predict(error))))
    }
}

/// The end of a stream whose requests cannot be read.
fn refused(error: Status) -> Status {
    // Of a request that was refused while it was read: it has its reason already.
    if error.details().is_empty() { status::of_wire(error, "") } else { error }
}

// === impl AnswerStream ===

impl<Q, A, F> AnswerStream<Q, A, F>
where
    F: FnMut(&mut Vec<Q>, &mut VecDeque<Answer<A>>),
{
    /// Gives the first of the answers in the making, and reads one message more.
    #[cold]
    fn poll_behind(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<A, Status>>> {
        if self.burst >= BURST {
            self.burst = 0;
            if let Some(error) = self.over(context) {
                self.ended = true;
                self.ahead.clear();
                return Poll::Ready(Some(Err(status::of_predict(error))));
            }
        }
        self.read_ahead(context);
        let answer = match self.ahead.front_mut() {
            None => {
                self.ended = true;
                return Poll::Ready(self.end.take().flatten().map(Err));
            }
            Some(Answer::Now(_)) => return Poll::Ready(self.made().map(Ok)),
            Some(Answer::Later(making)) => {
                let Poll::Ready(answer) = making.as_mut().poll(context) else { return Poll::Pending };
                // It had a burst's worth of time.
                self.burst = BURST;
                answer
            }
            Some(Answer::Queued(making)) => {
                let Poll::Ready(answer) = making.as_mut().poll(context) else { return Poll::Pending };
                self.burst += 1;
                answer
            }
        };
        self.ahead.pop_front();
        Poll::Ready(Some(Ok(answer)))
    }

    /// Reads a message, where it may be answered before those that came earlier have been. One at a time: to assemble
    /// a row may take as long as to answer a cheap one.
    fn read_ahead(&mut self, context: &mut Context<'_>) {
        let waits = matches!(self.ahead.back(), Some(Answer::Later(_)));
        if waits || self.end.is_some() || self.ahead.len() >= QUEUED_MAX {
            return;
        }
        match Pin::new(&mut self.requests).poll_next(context) {
            Poll::Ready(Some(Ok(request))) => {
                self.run.push(request);
                (self.answer)(&mut self.run, &mut self.ahead);
                context.waker().wake_by_ref();
            }
            Poll::Ready(Some(Err(error))) => self.end = Some(Some(refused(error))),
            Poll::Ready(None) => self.end = Some(None),
            Poll::Pending => {}
        }
    }
}

impl<Q, A, F> AnswerStream<Q, A, F> {
    fn new(
        requests: Streaming<Q>,
        draining: &CancellationToken,
        deadline: Option<Instant>,
        run_max: usize,
        answer: F,
    ) -> AnswerStream<Q, A, F> {
        AnswerStream {
            requests,
            answer,
            run_max,
            run: Vec::new(),
            ahead: VecDeque::new(),
            end: None,
            draining: draining.clone(),
            drain_begins: Box::pin(draining.clone().cancelled_owned()),
            deadline: deadline.map(|instant| Box::pin(tokio::time::sleep_until(instant.into()))),
            burst: 0,
            drained: 0,
            ended: false,
        }
    }

    /// The first answer, where it is made.
    #[inline]
    fn made(&mut self) -> Option<A> {
        match self.ahead.pop_front() {
            Some(Answer::Now(answer)) => {
                self.burst += 1;
                Some(answer)
            }
            Some(making) => {
                self.ahead.push_front(making);
                None
            }
            None => None,
        }
    }

    /// Reads what has come, up to a run's worth.
    #[inline]
    fn read_run(&mut self, context: &mut Context<'_>) {
        while self.run.len() < self.run_max {
            match Pin::new(&mut self.requests).poll_next(context) {
                Poll::Ready(Some(Ok(request))) => self.run.push(request),
                Poll::Ready(Some(Err(error))) => {
                    self.end = Some(Some(refused(error)));
                    return;
                }
                Poll::Ready(None) => {
                    self.end = Some(None);
                    return;
                }
                Poll::Pending => return,
            }
        }
    }

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
