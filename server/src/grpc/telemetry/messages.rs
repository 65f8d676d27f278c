//! A gateway's messages, read from the frames they come in.
//!
//! Small batches come many to a frame. tonic copies each frame, and asks four layers for each message; here a message is a
//! piece of the frame it lies in, and only what lies in several is put together.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Body as _;
use tonic::{Code, Status, body::Body};

/// Before every message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// What a gateway sends, message by message.
pub(super) struct Messages {
    body: Body,
    /// What has come and was not taken.
    come: Bytes,
    /// The beginning of a message, with its head, the rest of which has not come.
    begun: BytesMut,
    /// Largest message in bytes.
    size_max: usize,
}

// === impl Messages ===

impl Messages {
    pub(super) fn new(body: Body, size_max: usize) -> Messages {
        Messages { body, come: Bytes::new(), begun: BytesMut::new(), size_max }
    }

    /// The next message, or none at the end.
    ///
    /// # Errors
    ///
    /// When what comes is no message, or too large a one, or breaks off. Nothing more can be read then.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Messages::next`].
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.whole()? {
                return Poll::Ready(Ok(Some(message)));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                // Trailers say nothing that a gateway could mean.
                Some(Ok(frame)) => self.come = frame.into_data().unwrap_or_default(),
                // It has gone, and what was whole was taken.
                Some(Err(status)) if status.code() == Code::Cancelled => return Poll::Ready(Ok(None)),
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None if self.begun.is_empty() => return Poll::Ready(Ok(None)),
                None => return Poll::Ready(Err(Status::internal("Unexpected EOF decoding stream."))),
            }
        }
    }

    /// The next message, where all of it has come. Where not, nothing is left but its beginning.
    fn whole(&mut self) -> Result<Option<Bytes>, Status> {
        if self.begun.is_empty()
            && let Some(head) = self.come.first_chunk::<HEAD>()
        {
            let end = HEAD + self.length(*head)?;
            if end <= self.come.len() {
                let mut message = self.come.split_to(end);
                message.advance(HEAD);
                return Ok(Some(message));
            }
        }
        if !self.fill(HEAD) {
            return Ok(None);
        }
        let head = self.begun.first_chunk::<HEAD>().copied().unwrap_or_default();
        let end = HEAD + self.length(head)?;
        self.begun.reserve(end - self.begun.len());
        if !self.fill(end) {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.begun).freeze();
        message.advance(HEAD);
        Ok(Some(message))
    }

    /// Moves what has come to what has begun, as far as this; whether it is there.
    fn fill(&mut self, end: usize) -> bool {
        let missing = end.saturating_sub(self.begun.len()).min(self.come.len());
        self.begun.extend_from_slice(&self.come.split_to(missing));
        self.begun.len() >= end
    }

    /// How long the message is that has this head.
    fn length(&self, head: [u8; HEAD]) -> Result<usize, Status> {
        // In tonic's words, which `status::of_wire` knows.
        let [compressed, length @ ..] = head;
        match compressed {
            0 => {}
            1 => {
                let problem = "received message with compressed-flag but no grpc-encoding was specified";
                return Err(Status::internal(format!("protocol error: {problem}")));
            }
            other => {
                let problem =
                    format!("received message with invalid compression flag: {other} (valid flags are 0 and 1)");
                return Err(Status::internal(format!("protocol error: {problem}, while sending request")));
            }
        }
        let (length, max) = (u32::from_be_bytes(length) as usize, self.size_max);
        if length > max {
            let problem = format!("decoded message length too large: found {length} bytes, the limit is: {max} bytes");
            return Err(Status::out_of_range(format!("Error, {problem}")));
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body::Frame;
    use proptest::prelude::*;

    use super::*;

    struct Pieces(VecDeque<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn read(bytes: &[u8], cuts: &[usize], size_max: usize) -> Result<Vec<Bytes>, Status> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| Bytes::copy_from_slice(&bytes[cut[0]..cut[1]])).collect();
        let mut messages = Messages::new(Body::new(Pieces(pieces)), size_max);
        let mut found = Vec::new();
        let mut context = Context::from_waker(std::task::Waker::noop());
        loop {
            match messages.poll_next(&mut context) {
                Poll::Ready(Ok(Some(message))) => found.push(message),
                Poll::Ready(Ok(None)) => return Ok(found),
                Poll::Ready(Err(status)) => return Err(status),
                Poll::Pending => panic!("pieces are always ready"),
            }
        }
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
        [&[0], &length[..], message].concat()
    }

    proptest! {
        #[test]
        fn messages_are_the_same_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            prop_assert_eq!(read(&bytes, &cuts, 64).expect("whole messages"), messages);
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes: Vec<u8>, cuts: Vec<usize>) {
            let _ = read(&bytes, &cuts, 64);
        }
    }

    #[test]
    fn what_is_no_message_is_refused_wherever_it_is_cut() {
        let check = |bytes: &[u8], code: Code, words: &str| {
            for cut in 0..bytes.len() {
                let status = read(bytes, &[cut], 8).expect_err("refused");
                assert!(status.code() == code && status.message().contains(words), "{status:?}");
            }
        };
        check(&framed(&[0; 9]), Code::OutOfRange, "found 9 bytes, the limit is: 8 bytes");
        check(&[1, 0, 0, 0, 0], Code::Internal, "compressed-flag");
        check(&[7, 0, 0, 0, 0], Code::Internal, "invalid compression flag: 7");
        check(&framed(b"whole")[..9], Code::Internal, "Unexpected EOF");
        check(&[0, 0, 0], Code::Internal, "Unexpected EOF");
    }
}
