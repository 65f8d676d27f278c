//! Unary predictions whose request came as nearly all do: one message, in one frame, and nothing after it.
//!
//! tonic reads every request as a stream of messages: buffers to gather them in, a boxed decoder and a boxed body, and a
//! future of two kilobytes that is moved around them. A message that is there as a whole needs none of it. Whatever came
//! otherwise (in pieces, compressed, too large, not to be decoded, with trailers) goes to tonic from its first byte, so
//! that there is one place where such a request is understood or refused.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::{Body as _, Frame, SizeHint};
use prost::Message;
use tonic::{Status, body::Body};

use super::{
    call::Call,
    dispatch::AnswerFuture,
    predictor::{Predictor, Reply},
    status,
};

static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Before every message: whether it is compressed, and its length.
const HEAD: usize = 5;
/// Room for an answer with its head; answers of single models have 160 to 200 bytes.
const ANSWER_CAPACITY: usize = 256;

/// A request's body, with what was read of it put back.
pub(super) struct Replayed<B: http_body::Body> {
    /// What comes first, in this order. In a box, for hardly any body has it.
    read: Option<Box<[Received<B>; 2]>>,
    body: B,
}

/// What a body gives when it is asked.
type Received<B> = Option<Result<Frame<Bytes>, <B as http_body::Body>::Error>>;

/// An answer of one message.
struct Answer {
    message: Option<Bytes>,
    ended: bool,
}

/// Answers with what `one` makes of the request's only message, or calls `tonic`.
///
/// `size_max` is the largest message in bytes.
#[inline]
pub(super) fn answer<B, Q, A>(
    predictor: Arc<Predictor>,
    size_max: usize,
    mut request: Request<B>,
    one: impl FnOnce(&Arc<Predictor>, &Q, Call) -> Reply<A> + Send + 'static,
    tonic: impl FnOnce(Request<Replayed<B>>) -> AnswerFuture + Send + 'static,
) -> AnswerFuture
where
    B: http_body::Body<Data = Bytes, Error: Send> + Send + Unpin + 'static,
    Q: Message + Default,
    A: Message + 'static,
{
    Box::pin(async move {
        let first = received(request.body_mut()).await;
        let message = first.as_ref().and_then(|first| whole(first.as_ref().ok()?, size_max));
        let second = if message.is_some() { received(request.body_mut()).await } else { None };
        let message =
            message.filter(|_| second.is_none() && !request.headers().keys().any(|name| name == GRPC_ENCODING));
        let Some(message) = message.and_then(|message| Q::decode(message).ok()) else {
            return tonic(request.map(|body| Replayed { read: Some(Box::new([first, second])), body })).await;
        };
        let call = match predictor.call_with(request.extensions(), request.headers()) {
            Ok(call) => call,
            Err(status) => return Ok(status.into_http()),
        };
        let reply = one(&predictor, &message, call);
        drop(message);
        Ok(match reply {
            Reply::Answered(answer) => response(&answer),
            Reply::Refused(error) => status::of_predict(error).into_http(),
            Reply::Queued(later) => match later.await {
                Ok(answer) => response(&answer),
                Err(error) => status::of_predict(error).into_http(),
            },
        })
    })
}

/// The next frame, or none at the end.
async fn received<B: http_body::Body<Data = Bytes> + Unpin>(body: &mut B) -> Received<B> {
    if body.is_end_stream() {
        return None;
    }
    poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}

/// The message of a frame that has it from its first to its last byte, and nothing else.
#[inline]
fn whole(frame: &Frame<Bytes>, size_max: usize) -> Option<Bytes> {
    let data = frame.data_ref()?;
    let (head, message) = data.split_first_chunk::<HEAD>()?;
    let [compressed, length @ ..] = *head;
    let is_whole = u32::from_be_bytes(length) as usize == message.len();
    (compressed == 0 && is_whole && message.len() <= size_max).then(|| data.slice(HEAD..))
}

#[inline]
fn response(answer: &impl Message) -> Response<Body> {
    let mut bytes = BytesMut::with_capacity(ANSWER_CAPACITY);
    bytes.put_bytes(0, HEAD);
    let encoded = answer.encode(&mut bytes).ok().and_then(|()| u32::try_from(bytes.len() - HEAD).ok());
    let Some(length) = encoded else {
        return Status::internal("the answer is larger than a message of gRPC can be").into_http();
    };
    bytes[1..HEAD].copy_from_slice(&length.to_be_bytes());
    let mut response = Response::new(Body::new(Answer { message: Some(bytes.freeze()), ended: false }));
    *response.headers_mut() = only(&CONTENT_TYPE, "application/grpc");
    response
}

/// Headers of one; they have room for more otherwise.
#[inline]
fn only(name: &HeaderName, value: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(1);
    headers.insert(name, HeaderValue::from_static(value));
    headers
}

// === impl Answer ===

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    #[inline]
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::trailers(only(&GRPC_STATUS, "0")))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

// === impl Replayed ===

impl<B: http_body::Body> Replayed<B> {
    /// A body of which nothing was read.
    #[inline]
    pub(super) fn untouched(body: B) -> Replayed<B> {
        Replayed { read: None, body }
    }
}

impl<B> http_body::Body for Replayed<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Received<B>> {
        let this = self.get_mut();
        if let Some(read) = &mut this.read {
            if let Some(frame) = read.iter_mut().find_map(Option::take) {
                return Poll::Ready(Some(frame));
            }
            this.read = None;
        }
        Pin::new(&mut this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.read.as_ref().is_none_or(|read| read.iter().all(Option::is_none)) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.read.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}
