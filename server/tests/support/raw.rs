//! Bytes on the wire that no generated client would send.

use std::{
    convert::Infallible,
    fmt::Debug,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::{Uri, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Request, Status,
    body::Body,
    client::{Grpc, GrpcService},
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::StdError,
    transport::Channel,
};

/// Sends and receives messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Calls a path with a message and metadata of one's own.
pub(crate) async fn call(
    channel: &Channel,
    path: &'static str,
    message: impl Into<Bytes>,
    metadata: &[(&'static str, &str)],
) -> Result<Bytes, Status> {
    call_over(Grpc::new(channel.clone()), path, message, metadata).await
}

async fn call_over<S>(
    mut grpc: Grpc<S>,
    path: &'static str,
    message: impl Into<Bytes>,
    metadata: &[(&'static str, &str)],
) -> Result<Bytes, Status>
where
    S: GrpcService<Body>,
    S::Error: Debug,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<StdError>,
{
    let mut request = Request::new(message.into());
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().expect("a header value"));
    }
    grpc.ready().await.expect("connected");
    grpc.unary(request, PathAndQuery::from_static(path), RawCodec).await.map(tonic::Response::into_inner)
}

/// The same with a stream of one message, and the first answer.
pub(crate) async fn stream(channel: &Channel, path: &'static str, message: &'static [u8]) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("connected");
    let requests = Request::new(tokio_stream::iter([Bytes::from_static(message)]));
    let mut answers = grpc.streaming(requests, PathAndQuery::from_static(path), RawCodec).await?.into_inner();
    answers.message().await.map(|answer| answer.expect("an answer"))
}

/// A connection without the conveniences of a channel, which would keep the caller's deadlines itself.
#[derive(Clone)]
pub(crate) struct Bare(http2::SendRequest<Body>);

impl Bare {
    pub(crate) async fn connect(address: SocketAddr) -> Bare {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        Bare(sender)
    }

    /// As [`call`].
    pub(crate) async fn call(
        &self,
        path: &'static str,
        message: impl Into<Bytes>,
        metadata: &[(&'static str, &str)],
    ) -> Result<Bytes, Status> {
        call_over(self.grpc(), path, message, metadata).await
    }

    /// Opens a stream with a deadline.
    pub(crate) async fn stream(
        &self,
        path: &'static str,
        requests: impl tokio_stream::Stream<Item = Bytes> + Send + 'static,
        timeout: &str,
    ) -> Result<tonic::Streaming<Bytes>, Status> {
        let mut request = Request::new(requests);
        request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("a header value"));
        let mut grpc = self.grpc();
        grpc.ready().await.expect("connected");
        grpc.streaming(request, PathAndQuery::from_static(path), RawCodec).await.map(tonic::Response::into_inner)
    }

    /// Calls a path with a body in these frames, a pause before each, and gives what the answer has: its message, or its status.
    pub(crate) async fn frames(
        &self,
        path: &'static str,
        frames: Vec<Frame<Bytes>>,
        pause: Duration,
    ) -> Result<Bytes, Status> {
        let frames = tokio_stream::iter(frames).then(move |frame| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(frame)
        });
        let request = http::Request::post(format!("http://evserve{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(StreamBody::new(Box::pin(frames))))
            .expect("a request");
        let (head, body) = self.0.clone().send_request(request).await.expect("an answer").into_parts();
        assert_eq!(head.headers["content-type"], "application/grpc");
        let body = body.collect().await.expect("a body");
        let status = Status::from_header_map(body.trailers().unwrap_or(&head.headers)).expect("a status");
        if status.code() != Code::Ok {
            return Err(status);
        }
        let mut message = body.to_bytes();
        assert_eq!((message.get_u8(), message.get_u32() as usize), (0, message.len()));
        Ok(message)
    }

    fn grpc(&self) -> Grpc<Bare> {
        Grpc::with_origin(self.clone(), Uri::from_static("http://evserve"))
    }
}

impl tower::Service<http::Request<Body>> for Bare {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
