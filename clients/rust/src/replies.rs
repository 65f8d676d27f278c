//! Answers of a stream.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tonic::Streaming;

use crate::{Client, Error};

/// Answers of a stream in the order of its requests; dropping it ends the stream.
pub struct Replies<T> {
    client: Client,
    streaming: Streaming<T>,
}

// === impl Replies ===

impl<T> Replies<T> {
    pub(crate) fn new(client: Client, streaming: Streaming<T>) -> Replies<T> {
        Replies { client, streaming }
    }

    /// The next answer; `None` when the server has answered every request and the requests have ended.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] when the connection is lost, [`Error::Call`] when the server ended the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no answer.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        self.streaming.message().await.map_err(|status| self.client.error(status))
    }
}

impl<T> Stream for Replies<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        let this = self.get_mut();
        Pin::new(&mut this.streaming)
            .poll_next(context)
            .map(|next| next.map(|reply| reply.map_err(|status| this.client.error(status))))
    }
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("endpoint", &self.client.endpoint()).finish_non_exhaustive()
    }
}
