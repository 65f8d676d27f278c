//! Unary predictions whose request came as nearly all do: one message, and nothing after it.
//!
//! tonic reads every request as a stream of messages: buffers to gather them in, a boxed decoder and a boxed body, and a
//! future of two kilobytes that is moved around them. One message needs none of it: what came in one frame is read where
//! it lies, and what came in several is gathered once. Whatever came otherwise (compressed, too large, not to be decoded,
//! with trailers) goes to tonic from its first byte, so that there is one place where such a request is understood or
//! refused.

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
    read: Option<Read<B>>,
    body: B,
}

/// What was read of a body.
type Read<B> = Box<[Received<B>; 2]>;

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
    one: impl FnOnce(&Arc<Predictor>, &mut Q, Call) -> Reply<A> + Send + 'static,
    tonic: impl FnOnce(Request<Replayed<B>>) -> AnswerFuture + Send + 'static,
) -> AnswerFuture
where
    B: http_body::Body<Data = Bytes, Error: Send> + Send + Unpin + 'static,
    Q: Message + Default,
    A: Message + 'static,
{
    Box::pin(async move {
        if request.headers().keys().any(|name| name == GRPC_ENCODING) {
            return tonic(request.map(Replayed::untouched)).await;
        }
        let framed = match framed(request.body_mut(), size_max).await {
            Ok(framed) => framed,
            Err(read) => return tonic(request.map(|body| Replayed { read: Some(read), body })).await,
        };
        let Ok(mut message) = Q::decode(framed.slice(HEAD..)) else {
            let read = Some(Box::new([Some(Ok(Frame::data(framed))), None]));
            return tonic(request.map(|body| Replayed { read, body })).await;
        };
        drop(framed);
        let call = match predictor.call_with(request.extensions(), request.headers()) {
            Ok(call) => call,
            Err(status) => return Ok(status.into_http()),
        };
        let reply = one(&predictor, &mut message, call);
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

/// The only message of a request with its head, or what was read until it was seen not to be one.
#[inline]
async fn framed<B>(body: &mut B, size_max: usize) -> Result<Bytes, Read<B>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let begun = match received(body).await.map(|first| first.map(Frame::into_data)) {
        Some(Ok(Ok(data))) => data,
        Some(Ok(Err(trailers))) => return Err(Box::new([Some(Ok(trailers)), None])),
        Some(Err(error)) => return Err(Box::new([Some(Err(error)), None])),
        None => return Err(Box::new([None, None])),
    };
    let Some(length) = announced(&begun, size_max) else {
        return Err(Box::new([Some(Ok(Frame::data(begun))), None]));
    };
    // Boxed: every call has room for this future, and hardly any needs it.
    let framed = if begun.len() < length { Box::pin(gathered(body, &begun, length)).await? } else { begun };
    let after = if framed.len() == length { received(body).await } else { None };
    if framed.len() == length && after.is_none() {
        return Ok(framed);
    }
    Err(Box::new([Some(Ok(Frame::data(framed))), after]))
}

/// A message that comes in pieces, the first of which is there.
async fn gathered<B>(body: &mut B, begun: &[u8], length: usize) -> Result<Bytes, Read<B>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut bytes = BytesMut::with_capacity(length);
    bytes.extend_from_slice(begun);
    while bytes.len() < length {
        let next = received(body).await;
        match next.as_ref().and_then(|next| next.as_ref().ok()?.data_ref()) {
            Some(piece) if piece.len() <= length - bytes.len() => bytes.extend_from_slice(piece),
            _ => return Err(Box::new([Some(Ok(Frame::data(bytes.freeze()))), next])),
        }
    }
    Ok(bytes.freeze())
}

/// The next frame that says something, or none at the end. tonic's clients end a request with a frame of nothing.
#[inline]
async fn received<B: http_body::Body<Data = Bytes> + Unpin>(body: &mut B) -> Received<B> {
    loop {
        if body.is_end_stream() {
            return None;
        }
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        let is_nothing = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
        if !matches!(&frame, Some(Ok(frame)) if is_nothing(frame)) {
            return frame;
        }
    }
}

/// Bytes of a message with its head, of which this is the beginning; none of one that is compressed or too large.
#[inline]
fn announced(begun: &[u8], size_max: usize) -> Option<usize> {
    let [compressed, length @ ..] = *begun.first_chunk::<HEAD>()?;
    let length = u32::from_be_bytes(length) as usize;
    (compressed == 0 && length <= size_max).then_some(HEAD + length)
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
