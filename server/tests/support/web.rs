//! A gRPC-Web client written by hand: frames, base64, and nothing that hides what came.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Status;

use super::refusal::Refusal;

/// How messages and trailers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Binary,
    Text,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct WebAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) messages: Vec<Bytes>,
    /// Of the body's last frame; none in an answer that has no body.
    pub(crate) trailers: Option<HeaderMap>,
}

/// One connection.
pub(crate) enum WebClient {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Encoding {
    pub(crate) const BOTH: [Encoding; 2] = [Encoding::Binary, Encoding::Text];

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Encoding::Binary => "application/grpc-web+proto",
            Encoding::Text => "application/grpc-web-text+proto",
        }
    }

    /// A request's body.
    pub(crate) fn encode(self, messages: &[Bytes]) -> Bytes {
        let mut frames = Vec::new();
        for message in messages {
            frames.push(0);
            frames.extend_from_slice(&u32::try_from(message.len()).expect("small").to_be_bytes());
            frames.extend_from_slice(message);
        }
        match self {
            Encoding::Binary => frames.into(),
            Encoding::Text => STANDARD.encode(frames).into(),
        }
    }

    fn decode(self, body: &[u8]) -> Vec<u8> {
        match self {
            Encoding::Binary => body.to_vec(),
            // Pieces are padded each on its own: four letters are a unit.
            Encoding::Text => body.chunks(4).flat_map(|unit| STANDARD.decode(unit).expect("base64")).collect(),
        }
    }
}

// === impl WebClient ===

impl WebClient {
    pub(crate) async fn connect(address: SocketAddr) -> WebClient {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        WebClient::Http1(sender)
    }

    pub(crate) async fn connect_http2(address: SocketAddr) -> WebClient {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        WebClient::Http2(sender)
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            WebClient::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            WebClient::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// A request with a method, a path, a body and headers.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Request<Full<Bytes>> {
        let uri = match self {
            WebClient::Http1(_) => path.to_owned(),
            WebClient::Http2(_) => format!("http://evserve{path}"),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if matches!(self, WebClient::Http1(_)) {
            request = request.header("host", "evserve");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body)).expect("a request")
    }

    /// Calls a method as a browser's library does, and waits for the end of the answer.
    pub(crate) async fn call(
        &mut self,
        encoding: Encoding,
        path: &str,
        messages: &[Bytes],
        headers: &[(&str, &str)],
    ) -> WebAnswer {
        let mut all = vec![("content-type", encoding.content_type()), ("accept", encoding.content_type())];
        all.extend(headers);
        let request = self.request("POST", path, encoding.encode(messages), &all);
        let response = self.send(request).await.expect("answered");
        WebAnswer::of(response, encoding).await
    }
}

// === impl WebAnswer ===

impl WebAnswer {
    pub(crate) async fn of(response: Response<Incoming>, encoding: Encoding) -> WebAnswer {
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("the whole body").to_bytes();
        let body = encoding.decode(&body);
        let (mut messages, mut trailers) = (Vec::new(), None);
        let mut rest = &body[..];
        while let Some((frame, after)) = rest.split_at_checked(5) {
            assert!(trailers.is_none(), "trailers come last");
            let length = u32::from_be_bytes(frame[1..].try_into().expect("four bytes")) as usize;
            let (data, after) = after.split_at(length);
            match frame[0] {
                0 => messages.push(Bytes::copy_from_slice(data)),
                0x80 => trailers = Some(parse_trailers(data)),
                flag => panic!("a frame with flag {flag}"),
            }
            rest = after;
        }
        assert!(rest.is_empty(), "a frame was cut off");
        WebAnswer { status: head.status, headers: head.headers, messages, trailers }
    }

    /// The one message of a call that went well.
    #[track_caller]
    pub(crate) fn message<M: Message + Default>(&self) -> M {
        assert_eq!(self.grpc_status().code(), tonic::Code::Ok, "{self:?}");
        let [message] = &self.messages[..] else { panic!("one message, not {self:?}") };
        M::decode(message.clone()).expect("a message")
    }

    /// Where a client finds how the call ended: in the trailers, or in the head of an answer without a body.
    #[track_caller]
    pub(crate) fn grpc_status(&self) -> Status {
        assert_eq!(self.status, StatusCode::OK);
        let found = self.trailers.as_ref().unwrap_or(&self.headers);
        Status::from_header_map(found).unwrap_or_else(|| panic!("no grpc-status in {self:?}"))
    }

    #[track_caller]
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::from(self.grpc_status())
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

fn parse_trailers(block: &[u8]) -> HeaderMap {
    let text = std::str::from_utf8(block).expect("text");
    let lines = text.split_terminator("\r\n").map(|line| {
        let (name, value) = line.split_once(':').expect("a name and a value");
        assert_eq!(name, name.to_ascii_lowercase(), "names are in lower case");
        (HeaderName::try_from(name).expect("a name"), HeaderValue::from_str(value.trim()).expect("a value"))
    });
    lines.collect()
}
