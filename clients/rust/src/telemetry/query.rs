//! Questions about what was taken in.

use ev_proto::ev::telemetry::v1::{
    AggregateRequest, AggregateResponse, GetLatestRequest, GetLatestResponse, ListGapsRequest, ListGapsResponse,
    ListRejectedRequest, ListRejectedResponse, ListVehiclesRequest, ListVehiclesResponse, QueryRequest, QueryResponse,
    WatchRequest, WatchResponse, telemetry_query_client::TelemetryQueryClient,
};
use tonic::{Request, transport::Channel};

use super::pages::paged;
use crate::{Client, Error, Replies, client::Repeat};

/// Answers questions about what was taken in, on the server's main address.
#[derive(Debug, Clone)]
pub struct TelemetryQuery {
    client: Client,
    inner: TelemetryQueryClient<Channel>,
}

// === impl TelemetryQuery ===

impl TelemetryQuery {
    pub(crate) fn new(client: Client) -> TelemetryQuery {
        let size = client.config().message_size();
        let inner =
            TelemetryQueryClient::new(client.channel()).max_decoding_message_size(size).max_encoding_message_size(size);
        TelemetryQuery { client, inner }
    }

    paged! {
        /// The vehicles that readings were taken in of, by id.
        list_vehicles(ListVehiclesRequest) -> ListVehiclesResponse
    }

    paged! {
        /// Readings of a vehicle in a span of time, in order of their time.
        query(QueryRequest) -> QueryResponse
    }

    paged! {
        /// Count, mean, least, greatest and last value by minute, hour or day.
        aggregate(AggregateRequest) -> AggregateResponse
    }

    paged! {
        /// The batches of a vehicle that never came, by who should have sent them.
        list_gaps(ListGapsRequest) -> ListGapsResponse
    }

    paged! {
        /// The readings that were refused last, the latest first, and how many this server refused for each reason.
        list_rejected(ListRejectedRequest) -> ListRejectedResponse
    }

    /// The latest value of each signal of a vehicle; of all signals it ever sent where `signals` is empty.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown vehicle, [`Error::Unreachable`].
    pub async fn latest(&self, vehicle: &str, signals: &[String]) -> Result<GetLatestResponse, Error> {
        let request = GetLatestRequest { vehicle_id: vehicle.to_owned(), signals: signals.to_vec() };
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.get_latest(request).await }
            })
            .await
    }

    /// Readings as they are taken in, for as long as the answer is held: no deadline, no retries. Who reads too slowly
    /// misses some, and is told how many.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the request is refused, [`Error::Unreachable`]; later errors come from the replies.
    pub async fn watch(&self, request: WatchRequest) -> Result<Replies<WatchResponse>, Error> {
        let mut inner = self.inner.clone();
        let response = inner.watch(Request::new(request)).await.map_err(|status| self.client.error(status))?;
        Ok(Replies::new(self.client.clone(), response.into_inner()))
    }
}
