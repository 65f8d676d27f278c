//! Outcomes: what came of predictions, and how right they were.

use ev_proto::ev::outcomes::v1::{
    CompareRequest, CompareResponse, ReportRequest, ReportResponse, outcomes_client::OutcomesClient,
};
use tonic::transport::Channel;

use crate::{Client, Error, client::Repeat};

/// Reports what came of predictions, and compares.
#[derive(Debug, Clone)]
pub struct Outcomes {
    client: Client,
    inner: OutcomesClient<Channel>,
}

// === impl Outcomes ===

impl Outcomes {
    pub(crate) fn new(client: Client) -> Outcomes {
        let size = client.config().message_size();
        let inner =
            OutcomesClient::new(client.channel()).max_decoding_message_size(size).max_encoding_message_size(size);
        Outcomes { client, inner }
    }

    /// Says what came of predictions, up to 10,000 at a time. Reporting the same again changes nothing, so it is retried.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `INVALID_ARGUMENT` for a request that is wrong as a whole, [`Error::Unreachable`]. What
    /// became of each outcome is in the answer.
    pub async fn report(&self, request: ReportRequest) -> Result<ReportResponse, Error> {
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.report(request).await }
            })
            .await
    }

    /// How right the versions of a model were.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` where no prediction of the model was logged; [`Error::Unreachable`].
    pub async fn compare(&self, request: CompareRequest) -> Result<CompareResponse, Error> {
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.compare(request).await }
            })
            .await
    }
}
