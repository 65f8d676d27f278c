//! Health of the server's services, by `grpc.health.v1`.

use tonic::{Request, metadata::MetadataMap, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response, health_client::HealthClient};

use crate::{Client, Error, client::Repeat};

/// Health of the server's services.
#[derive(Debug, Clone)]
pub struct Health {
    client: Client,
    inner: HealthClient<Channel>,
}

/// Whether a service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServingStatus {
    /// It does.
    Serving,
    /// It is known, and does not.
    NotServing,
    /// The server does not know.
    Unknown,
}

// === impl Health ===

impl Health {
    pub(crate) fn new(client: Client) -> Health {
        Health { inner: HealthClient::new(client.channel()), client }
    }

    /// Whether a service answers, by its full name such as `ev.range.v1.RangePrediction`; the whole server for an empty name.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` when the server has no such service, [`Error::Unreachable`].
    pub async fn check(&self, service: impl Into<String>) -> Result<ServingStatus, Error> {
        let answer = self
            .client
            .unary(Repeat::Idempotent, HealthCheckRequest { service: service.into() }, |request| {
                let mut inner = self.inner.clone();
                async move { inner.check(request).await }
            })
            .await?;
        Ok(match answer.status() {
            health_check_response::ServingStatus::Serving => ServingStatus::Serving,
            health_check_response::ServingStatus::NotServing => ServingStatus::NotServing,
            health_check_response::ServingStatus::Unknown | health_check_response::ServingStatus::ServiceUnknown => {
                ServingStatus::Unknown
            }
        })
    }

    /// Asks for the whole server, once, for the sake of the answer's metadata.
    pub(crate) async fn check_for_metadata(&self) -> Result<MetadataMap, Error> {
        let deadline = self.client.config().deadline;
        let mut request = Request::new(HealthCheckRequest::default());
        request.set_timeout(deadline);
        let mut inner = self.inner.clone();
        let answer = tokio::time::timeout(deadline, inner.check(request))
            .await
            .map_err(|_| Error::deadline(deadline))?
            .map_err(|status| self.client.error(status))?;
        Ok(answer.metadata().clone())
    }
}
