//! Readings to a server, by hand.

use ev_proto::ev::telemetry::v1::{
    PublishRequest, PublishResponse, StreamRequest, StreamResponse, telemetry_ingest_client::TelemetryIngestClient,
};
use futures_core::Stream;
use tonic::{Request, transport::Channel};

use crate::{Client, Error, Replies, client::Repeat};

/// Takes in readings. It listens on an address of its own: `http://127.0.0.1:50052` unless configured otherwise.
///
/// A [`crate::Gateway`] does what a sender of a stream has to do: credit, acknowledgements, resuming.
#[derive(Debug, Clone)]
pub struct TelemetryIngest {
    client: Client,
    inner: TelemetryIngestClient<Channel>,
}

// === impl TelemetryIngest ===

impl TelemetryIngest {
    pub(crate) fn new(client: Client) -> TelemetryIngest {
        let size = client.config().message_size();
        let inner = TelemetryIngestClient::new(client.channel())
            .max_decoding_message_size(size)
            .max_encoding_message_size(size);
        TelemetryIngest { client, inner }
    }

    /// Sends a few batches, and returns when they are durable. Repeated as the retry policy says: the server drops
    /// batches whose number it has.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the request is refused or the deadline passes, [`Error::Unreachable`]. What was not taken
    /// in of a request that is not refused is part of the answer.
    pub async fn publish(&self, request: PublishRequest) -> Result<PublishResponse, Error> {
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.publish(request).await }
            })
            .await
    }

    /// Opens a stream with messages of your own; no deadline, no retries. The first message is `open`, and no more
    /// batches may follow than the server has given credit for.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the stream is refused, [`Error::Unreachable`]; later errors come from the replies.
    pub async fn stream(
        &self,
        requests: impl Stream<Item = StreamRequest> + Send + 'static,
    ) -> Result<Replies<StreamResponse>, Error> {
        let mut inner = self.inner.clone();
        let response = inner.stream(Request::new(requests)).await.map_err(|status| self.client.error(status))?;
        Ok(Replies::new(self.client.clone(), response.into_inner()))
    }
}
