//! Rollouts: a new version's way to production.

use ev_proto::ev::registry::v1::{
    Rollout, RolloutPlan, RolloutsAbortRequest, RolloutsGetRequest, RolloutsListRequest, RolloutsListResponse,
    RolloutsPauseRequest, RolloutsPromoteRequest, RolloutsResumeRequest, RolloutsRollbackRequest, RolloutsStartRequest,
    RolloutsWatchRequest, RolloutsWatchResponse, rollouts_client::RolloutsClient,
};
use tonic::{Request, transport::Channel};

use crate::{Client, Error, Replies, client::Repeat};

/// Starts, watches and ends rollouts.
#[derive(Debug, Clone)]
pub struct Rollouts {
    client: Client,
    inner: RolloutsClient<Channel>,
}

// === impl Rollouts ===

impl Rollouts {
    pub(crate) fn new(client: Client) -> Rollouts {
        let size = client.config().message_size();
        let inner =
            RolloutsClient::new(client.channel()).max_decoding_message_size(size).max_encoding_message_size(size);
        Rollouts { client, inner }
    }

    /// Starts to bring a registered version to `production`; without a plan, by the server's own.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `INVALID_ARGUMENT` for a plan that is none, `NOT_FOUND` for a version that does not exist, or
    /// `FAILED_PRECONDITION` where the model has a rollout under way; [`Error::Unreachable`].
    pub async fn start(&self, model: &str, version: u32, plan: Option<RolloutPlan>) -> Result<Rollout, Error> {
        let request = RolloutsStartRequest { model: model.to_owned(), version, plan };
        let response = self
            .client
            .unary(Repeat::Once, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.start(request).await }
            })
            .await?;
        Ok(response.rollout.unwrap_or_default())
    }

    /// Where a rollout is. `rollout` is its id, or its model's name.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND`, [`Error::Unreachable`].
    pub async fn get(&self, rollout: &str) -> Result<Rollout, Error> {
        let request = RolloutsGetRequest { rollout: rollout.to_owned() };
        let response = self
            .client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.get(request).await }
            })
            .await?;
        Ok(response.rollout.unwrap_or_default())
    }

    /// A page of rollouts, newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Call`], [`Error::Unreachable`].
    pub async fn list(&self, request: RolloutsListRequest) -> Result<RolloutsListResponse, Error> {
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.list(request).await }
            })
            .await
    }

    /// Has a rollout stay where it is; guards go on. `rollout` is its id, or its model's name.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND`, or `FAILED_PRECONDITION` where it is past that; [`Error::Unreachable`].
    pub async fn pause(&self, rollout: &str, reason: &str) -> Result<Rollout, Error> {
        let request = RolloutsPauseRequest { rollout: rollout.to_owned(), reason: reason.to_owned() };
        let response = self
            .client
            .unary(Repeat::Once, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.pause(request).await }
            })
            .await?;
        Ok(response.rollout.unwrap_or_default())
    }

    /// Has a paused rollout go on. `rollout` is its id, or its model's name.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND`, or `FAILED_PRECONDITION` where it is past that; [`Error::Unreachable`].
    pub async fn resume(&self, rollout: &str, reason: &str) -> Result<Rollout, Error> {
        let request = RolloutsResumeRequest { rollout: rollout.to_owned(), reason: reason.to_owned() };
        let response = self
            .client
            .unary(Repeat::Once, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.resume(request).await }
            })
            .await?;
        Ok(response.rollout.unwrap_or_default())
    }

    /// Makes the candidate `production` now. `rollout` is its id, or its model's name.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND`, or `FAILED_PRECONDITION` where it is past that; [`Error::Unreachable`].
    pub async fn promote(&self, rollout: &str, reason: &str) -> Result<Rollout, Error> {
        let request = RolloutsPromoteRequest { rollout: rollout.to_owned(), reason: reason.to_owned() };
        let response = self
            .client
            .unary(Repeat::Once, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.promote(request).await }
            })
            .await?;
        Ok(response.rollout.unwrap_or_default())
    }

    /// Ends a rollout; `production` stays what it was. `rollout` is its id, or its model's name.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND`, or `FAILED_PRECONDITION` where it is past that; [`Error::Unreachable`].
    pub async fn abort(&self, rollout: &str, reason: &str) -> Result<Rollout, Error> {
        let request = RolloutsAbortRequest { rollout: rollout.to_owned(), reason: reason.to_owned() };
        let response = self
            .client
            .unary(Repeat::Once, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.abort(request).await }
            })
            .await?;
        Ok(response.rollout.unwrap_or_default())
    }

    /// Takes a candidate back, also after it was promoted. `rollout` is its id, or its model's name.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND`, or `FAILED_PRECONDITION` where it is past that; [`Error::Unreachable`].
    pub async fn rollback(&self, rollout: &str, reason: &str) -> Result<Rollout, Error> {
        let request = RolloutsRollbackRequest { rollout: rollout.to_owned(), reason: reason.to_owned() };
        let response = self
            .client
            .unary(Repeat::Once, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.rollback(request).await }
            })
            .await?;
        Ok(response.rollout.unwrap_or_default())
    }

    /// Where a rollout is, now and whenever that changes, until it is over. `rollout` is its id, or its model's name.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND`, [`Error::Unreachable`].
    pub async fn watch(&self, rollout: &str) -> Result<Replies<RolloutsWatchResponse>, Error> {
        let mut inner = self.inner.clone();
        let request = RolloutsWatchRequest { rollout: rollout.to_owned() };
        let response = inner.watch(Request::new(request)).await.map_err(|status| self.client.error(status))?;
        Ok(Replies::new(self.client.clone(), response.into_inner()))
    }
}
