//! Alerts: what somebody must know of a vehicle.

use ev_proto::ev::thermal::v1::{
    AcknowledgeAlertRequest, AcknowledgeAlertResponse, AlertFilter, ListAlertsRequest, ListAlertsResponse,
    WatchAlertsRequest, WatchAlertsResponse,
};
use tonic::Request;

use crate::{Error, Replies, ThermalRisk, client::Repeat, telemetry::paged};

// === impl ThermalRisk ===

impl ThermalRisk {
    paged! {
        /// Open and recent alerts, newest first.
        list_alerts(ListAlertsRequest) -> ListAlertsResponse
    }

    /// Alerts that are open, and then whatever happens to any, for as long as the answer is held: no deadline, no
    /// retries. Who reads too slowly misses events, and is told how many. `state` and `acknowledged` of the filter are
    /// not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the request is refused, [`Error::Unreachable`]; later errors come from the replies.
    pub async fn watch_alerts(&self, filter: AlertFilter) -> Result<Replies<WatchAlertsResponse>, Error> {
        let mut inner = self.inner.clone();
        let request = WatchAlertsRequest { filter: Some(filter) };
        let response = inner.watch_alerts(Request::new(request)).await.map_err(|status| self.client.error(status))?;
        Ok(Replies::new(self.client.clone(), response.into_inner()))
    }

    /// Says that somebody knows of an alert. One that was acknowledged before stays as it was, and is the answer.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown alert, or `INVALID_ARGUMENT`; [`Error::Unreachable`].
    pub async fn acknowledge_alert(&self, request: AcknowledgeAlertRequest) -> Result<AcknowledgeAlertResponse, Error> {
        // Once: an alert that rose meanwhile needs somebody who knows that, not a repetition.
        self.client
            .unary(Repeat::Once, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.acknowledge_alert(request).await }
            })
            .await
    }
}
