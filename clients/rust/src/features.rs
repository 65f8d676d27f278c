//! Features: what is known of a vehicle now.

use ev_proto::ev::features::v1::{
    GetFeaturesRequest, GetFeaturesResponse, PutFeaturesRequest, PutFeaturesResponse,
    feature_store_client::FeatureStoreClient,
};
use tonic::transport::Channel;

use crate::{Client, Error, client::Repeat};

/// Reads and writes the features of vehicles.
#[derive(Debug, Clone)]
pub struct FeatureStore {
    client: Client,
    inner: FeatureStoreClient<Channel>,
}

// === impl FeatureStore ===

impl FeatureStore {
    pub(crate) fn new(client: Client) -> FeatureStore {
        let size = client.config().message_size();
        let inner =
            FeatureStoreClient::new(client.channel()).max_decoding_message_size(size).max_encoding_message_size(size);
        FeatureStore { client, inner }
    }

    /// The features of a vehicle, each with its age and status; of all views where `views` is empty. A vehicle that
    /// nothing is known of has features that are missing.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `INVALID_ARGUMENT` for an unknown view, [`Error::Unreachable`].
    pub async fn get(&self, vehicle: &str, views: &[String]) -> Result<GetFeaturesResponse, Error> {
        let request = GetFeaturesRequest { vehicle_id: vehicle.to_owned(), views: views.to_vec() };
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.get_features(request).await }
            })
            .await
    }

    /// Writes features of a view that is declared to be written from outside; its others stay as they are.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `INVALID_ARGUMENT`, or `UNAVAILABLE` where the shared store does not answer;
    /// [`Error::Unreachable`].
    pub async fn put(&self, request: PutFeaturesRequest) -> Result<PutFeaturesResponse, Error> {
        // Without a time of its own, a repetition could take the place of what somebody else wrote meanwhile.
        let repeat = if request.event_time.is_some() { Repeat::Idempotent } else { Repeat::Once };
        self.client
            .unary(repeat, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.put_features(request).await }
            })
            .await
    }
}
