//! What a gateway is told: messages as bytes, many to a frame.
//!
//! An acknowledgement is some forty bytes. tonic takes each from a queue, by way of a message with texts of its own; here
//! those of a burst are written one behind the other and sent as one piece.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use ev_proto::ev::telemetry::v1::{Durability, StreamResponse, stream_response::Message};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Frame;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::{Status, body::Body};

/// Pieces that wait for a gateway to read them; while they wait, nothing more is read from it.
const PIECES_MAX: usize = 4;
/// A piece is sent when it has so many bytes, at the latest.
const PIECE_BYTES: usize = 16 * 1024;
/// Before every message: that it is not compressed, and its length.
const HEAD: usize = 5;

/// Where answers are written.
pub(super) struct Answers {
    piece: BytesMut,
    sender: mpsc::Sender<Piece>,
}

/// The gateway is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// What is sent at once.
enum Piece {
    Messages(Bytes),
    /// The last one.
    Ended(Status),
}

/// The body of the response.
struct Sent {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

/// The response of a stream, and where its messages are written.
pub(super) fn answers() -> (Answers, Response<Body>) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let mut response = Response::new(Body::new(Sent { pieces, ended: false }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    (Answers { piece: BytesMut::new(), sender }, response)
}

// === impl Answers ===

impl Answers {
    /// Writes a message; it is sent with the next piece.
    pub(super) fn write(&mut self, message: Message) {
        let response = StreamResponse { message: Some(message) };
        let length = response.encoded_len();
        self.head(length);
        self.piece.reserve(length);
        // It fails only where there is no room.
        let _ = response.encode(&mut self.piece);
    }

    /// Writes an acknowledgement.
    pub(super) fn acknowledge(&mut self, vehicle: &str, sequence: u64, durability: Durability, is_duplicate: bool) {
        /// Keys of `StreamResponse.ack`, and of the fields of an `Ack`.
        const ACK: u8 = 2 << 3 | 2;
        const VEHICLE_ID: u8 = 1 << 3 | 2;
        const SEQUENCE: u8 = 2 << 3;
        const DURABILITY: u8 = 3 << 3;
        const IS_DUPLICATE: u8 = 4 << 3;
        // A vehicle's id has 64 bytes at most, so that every length here is one byte.
        let vehicle = &vehicle.as_bytes()[..vehicle.len().min(64)];
        let mut number = [0; 10];
        let number = varint(sequence, &mut number);
        let inner = 2 + vehicle.len() + 1 + number.len() + 2 + if is_duplicate { 2 } else { 0 };
        self.head(2 + inner);
        let short = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
        let piece = &mut self.piece;
        piece.reserve(2 + inner);
        piece.put_slice(&[ACK, short(inner), VEHICLE_ID, short(vehicle.len())]);
        piece.put_slice(vehicle);
        piece.put_u8(SEQUENCE);
        piece.put_slice(number);
        piece.put_slice(&[DURABILITY, u8::try_from(i32::from(durability)).unwrap_or_default()]);
        if is_duplicate {
            piece.put_slice(&[IS_DUPLICATE, 1]);
        }
    }

    /// Whether there is enough for a piece.
    pub(super) fn is_full(&self) -> bool {
        self.piece.len() >= PIECE_BYTES
    }

    /// Sends what was written. Waits while the gateway does not read.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, nothing was sent, and what was written is lost.
    pub(super) async fn send(&mut self) -> Result<(), Gone> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Piece::Messages(self.piece.split().freeze());
        match self.sender.try_send(piece) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(piece) | mpsc::error::TrySendError::Closed(piece)) => {
                self.sender.send(piece).await.map_err(|_| Gone)
            }
        }
    }

    /// Sends what was written, and why the stream ends.
    pub(super) async fn end(mut self, status: Status) {
        if self.send().await.is_ok() {
            let _ = self.sender.send(Piece::Ended(status)).await;
        }
    }

    /// Waits until nobody reads any more.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let sender = self.sender.clone();
        async move { sender.closed().await }
    }

    /// What was written and not sent; nothing is left.
    #[cfg(test)]
    pub(super) fn written(&mut self) -> Vec<Option<Message>> {
        let mut left = &self.piece.split()[..];
        let mut messages = Vec::new();
        while let Some((head, rest)) = left.split_first_chunk::<HEAD>() {
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let (message, rest) = rest.split_at(length);
            messages.push(StreamResponse::decode(message).expect("a message").message);
            left = rest;
        }
        messages
    }

    fn head(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        self.piece.reserve(HEAD);
        self.piece.put_u8(0);
        self.piece.put_slice(&length);
    }
}

fn varint(mut value: u64, bytes: &mut [u8; 10]) -> &[u8] {
    let mut length = 0;
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes[length] = if value == 0 { low } else { low | 0x80 };
        length += 1;
        if value == 0 {
            return &bytes[..length];
        }
    }
}

// === impl Sent ===

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let status = match ready!(self.pieces.poll_recv(context)) {
            Some(Piece::Messages(messages)) => return Poll::Ready(Some(Ok(Frame::data(messages)))),
            Some(Piece::Ended(status)) => status,
            None => Status::new(tonic::Code::Ok, ""),
        };
        self.ended = true;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            // Its words are no header.
            trailers.insert("grpc-status", HeaderValue::from(i32::from(status.code())));
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use ev_proto::ev::telemetry::v1::{Ack, Credit};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_acknowledgement_is_what_prost_writes(
            vehicle_id in "[a-z0-9]{1,64}",
            sequence in 1u64..,
            durability in prop::sample::select(vec![Durability::Received, Durability::Durable, Durability::Applied]),
            is_duplicate: bool,
        ) {
            let (mut answers, _response) = answers();
            answers.acknowledge(&vehicle_id, sequence, durability, is_duplicate);
            let ack = Ack { vehicle_id, sequence, durability: durability.into(), is_duplicate };
            let (mut expected, _response) = super::answers();
            expected.write(Message::Ack(ack));
            prop_assert_eq!(answers.piece, expected.piece);
        }
    }

    #[tokio::test]
    async fn what_was_written_is_sent_before_the_end() {
        use http_body_util::BodyExt as _;

        let (mut answers, response) = answers();
        answers.acknowledge("car", 1, Durability::Durable, false);
        answers.write(Message::Credit(Credit { batches: 3 }));
        answers.end(Status::unavailable("it ends")).await;
        let body = response.into_body().collect().await.expect("a body");
        let trailers = body.trailers().cloned().expect("trailers");
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"14".parse().expect("a header"), &"it%20ends".parse().expect("a header"))
        );
        let (mut sent, _response) = super::answers();
        sent.piece.extend_from_slice(&body.to_bytes());
        assert!(matches!(sent.written()[..], [Some(Message::Ack(_)), Some(Message::Credit(_))]));
    }
}
