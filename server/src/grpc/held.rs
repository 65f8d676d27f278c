//! A bound on what large requests hold, over all connections.
//!
//! HTTP/2's windows bound what has arrived and was not read; a message that is read is gathered whole before a service
//! sees it, and connections times calls times the largest message is more than any machine has.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, StdError},
};

use super::status;

/// A call that holds no more than this is not counted: there are few of them for each connection's windows.
const UNCOUNTED: usize = 64 * 1024;

/// What requests hold, and may hold, together.
#[derive(Debug)]
pub(crate) struct MessageMemory {
    held: AtomicUsize,
    max: usize,
    /// Longest pause inside a message that is counted.
    silence_max: Duration,
}

/// What one call holds; given back when the call and its body are done.
#[derive(Debug)]
struct Holding {
    memory: Arc<MessageMemory>,
    /// What is counted of this call.
    counted: AtomicUsize,
}

/// When a call gives back what its messages hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// With the answer: it has one message.
    Answered,
    /// With the next one: the service has taken the messages before into its queues, which have bounds of their own.
    NextMessage,
}

/// A request's messages, counted.
pub(super) struct Held<B> {
    body: B,
    holding: Arc<Holding>,
    until: Until,
    framing: Framing,
    /// Bytes held.
    held: usize,
    /// Runs while the rest of a message is waited for.
    silence: Option<Pin<Box<Sleep>>>,
}

/// Where messages end: each is a byte, a length of four bytes, and so many bytes.
#[derive(Debug, Default)]
struct Framing {
    head: [u8; 5],
    head_len: usize,
    /// Bytes of the message that have not come.
    left: usize,
    /// Bytes of the message that have.
    begun: usize,
}

// === impl MessageMemory ===

impl MessageMemory {
    pub(crate) fn new(max: usize, silence_max: Duration) -> Arc<MessageMemory> {
        Arc::new(MessageMemory { held: AtomicUsize::new(0), max, silence_max })
    }

    /// Bytes that are counted now.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Calls a service with a request whose messages are counted.
    pub(super) fn count<B, F>(
        self: &Arc<Self>,
        request: Request<B>,
        until: Until,
        call: impl FnOnce(Request<Held<B>>) -> F,
    ) -> BoxFuture<Response<Body>, Infallible>
    where
        F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let holding = Arc::new(Holding { memory: Arc::clone(self), counted: AtomicUsize::new(0) });
        let answered = call(request.map(|body| Held::new(body, &holding, until)));
        Box::pin(async move {
            let answered = answered.await;
            // Of a stream the body has it as well.
            drop(holding);
            answered
        })
    }
}

// === impl Holding ===

impl Holding {
    /// Counts `held` bytes for this call; false when that is too many with all others.
    fn set(&self, held: usize) -> bool {
        let held = if held > UNCOUNTED { held } else { 0 };
        let before = self.counted.load(Ordering::Relaxed);
        let all = &self.memory.held;
        if held <= before {
            all.fetch_sub(before - held, Ordering::Relaxed);
        } else {
            let more = held - before;
            let fits = |all: usize| all.checked_add(more).filter(|all| *all <= self.memory.max);
            if all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
                return false;
            }
        }
        self.counted.store(held, Ordering::Relaxed);
        true
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.set(0);
    }
}

// === impl Held ===

impl<B> http_body::Body for Held<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = self.get_mut();
        if this.until == Until::NextMessage && this.held > this.framing.begun {
            this.held = this.framing.begun;
            this.holding.set(this.held);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else { return this.wait(context) };
        this.silence = None;
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into)?;
        if let Some(data) = frame.data_ref() {
            this.framing.pass(data);
            this.held = this.held.saturating_add(data.len());
            // Small calls pay for the comparison.
            if this.held > UNCOUNTED && !this.holding.set(this.held) {
                return Poll::Ready(Some(Err(refused(status::memory_full(this.holding.memory.max)))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Held<B> {
    fn new(body: B, holding: &Arc<Holding>, until: Until) -> Held<B> {
        let holding = Arc::clone(holding);
        Held { body, holding, until, framing: Framing::default(), held: 0, silence: None }
    }

    /// Waits for the rest of a message, but not for ever where it takes others' room.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        if self.held <= UNCOUNTED || self.framing.begun == 0 {
            return Poll::Pending;
        }
        let max = self.holding.memory.silence_max;
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + max)));
        match silence.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(refused(status::silent(max))))),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn refused(status: Status) -> StdError {
    Box::new(status)
}

// === impl Framing ===

impl Framing {
    /// Looks at what has come.
    fn pass(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.left == 0 {
                let taken = data.len().min(self.head.len() - self.head_len);
                self.head[self.head_len..self.head_len + taken].copy_from_slice(&data[..taken]);
                self.head_len += taken;
                self.begun += taken;
                data = &data[taken..];
                if self.head_len < self.head.len() {
                    return;
                }
                let [_, length @ ..] = self.head;
                self.left = u32::from_be_bytes(length) as usize;
                self.head_len = 0;
            }
            let taken = data.len().min(self.left);
            self.left -= taken;
            self.begun += taken;
            data = &data[taken..];
            if self.left == 0 {
                self.begun = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::stream;
    use http_body::Body as _;
    use http_body_util::StreamBody;

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        [&[0][..], &u32::try_from(length).expect("short").to_be_bytes(), &vec![7; length]].concat()
    }

    #[test]
    fn messages_end_where_their_lengths_say() {
        let bytes = [message(3), message(0), message(300), message(1)].concat();
        for piece in [1, 2, 3, 7, 64, 1000] {
            let mut framing = Framing::default();
            bytes.chunks(piece).for_each(|piece| framing.pass(piece));
            assert_eq!((framing.begun, framing.left, framing.head_len), (0, 0, 0), "in pieces of {piece}");
            framing.pass(&message(9)[..8]);
            assert_eq!((framing.begun, framing.left), (8, 6));
        }
    }

    type Pieces = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

    fn call(memory: &Arc<MessageMemory>, pieces: Vec<Vec<u8>>, until: Until) -> (Held<Pieces>, Arc<Holding>) {
        let frames: Vec<_> = pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from(piece)))).collect();
        let holding = Arc::new(Holding { memory: Arc::clone(memory), counted: AtomicUsize::new(0) });
        (Held::new(StreamBody::new(stream::iter(frames)), &holding, until), holding)
    }

    /// Reads a frame; true when there was one, false at the end.
    fn read(body: &mut Held<Pieces>) -> Result<bool, Status> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(_))) => Ok(true),
            Poll::Ready(None) => Ok(false),
            Poll::Ready(Some(Err(error))) => Err(*error.downcast().expect("a status")),
            Poll::Pending => panic!("everything is there"),
        }
    }

    const KIB: usize = 1024;

    #[test]
    fn a_single_request_is_counted_until_it_is_answered() {
        let memory = MessageMemory::new(300 * KIB, Duration::from_secs(1));
        let (mut body, _small) = call(&memory, vec![message(60 * KIB)], Until::Answered);
        assert!(read(&mut body).expect("there is room"));
        assert_eq!(memory.held(), 0, "not counted");

        let (mut body, first) = call(&memory, vec![message(200 * KIB)], Until::Answered);
        while read(&mut body).expect("there is room") {}
        drop(body);
        assert_eq!(memory.held(), 200 * KIB + 5, "it is still being answered");
        let (mut body, other) = call(&memory, vec![message(99 * KIB), message(2 * KIB)], Until::Answered);
        assert!(read(&mut body).expect("there is room"));
        let refused = read(&mut body).expect_err("there is none");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        drop(first);
        assert!(memory.held() < 100 * KIB);
        drop((other, body));
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_stream_is_counted_message_by_message() {
        let memory = MessageMemory::new(300 * KIB, Duration::from_secs(1));
        // Three messages and a half, in pieces that do not end where they do.
        let bytes = [message(200 * KIB), message(200 * KIB), message(200 * KIB), message(200 * KIB)].concat();
        let pieces = bytes[..700 * KIB].chunks(100 * KIB).map(<[u8]>::to_vec).collect();
        let (mut body, held) = call(&memory, pieces, Until::NextMessage);
        drop(held);
        while read(&mut body).expect("there is room for each") {}
        assert_eq!(memory.held(), 100 * KIB - 15, "the half");
        drop(body);
        assert_eq!(memory.held(), 0);
    }
}
