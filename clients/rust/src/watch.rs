//! Predictions of vehicles that send telemetry, as the server renews them.

use ev_proto::ev::{
    battery::v1::{WatchRequest, WatchResponse},
    thermal::v1::{WatchAssessmentsRequest, WatchAssessmentsResponse},
};
use tonic::Request;

use crate::{BatteryHealth, Error, Replies, ThermalRisk};

// === impl BatteryHealth ===

impl BatteryHealth {
    /// Predictions of these vehicles' batteries (of all where none is named) as the server renews them, for as long as
    /// the answer is held: no deadline, no retries. Who reads too slowly misses some, and is told how many.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the request is refused, [`Error::Unreachable`]; later errors come from the replies.
    pub async fn watch(&self, vehicle_ids: Vec<String>) -> Result<Replies<WatchResponse>, Error> {
        let mut inner = self.inner.clone();
        let response = inner.watch(Request::new(WatchRequest { vehicle_ids })).await;
        let response = response.map_err(|status| self.client.error(status))?;
        Ok(Replies::new(self.client.clone(), response.into_inner()))
    }
}

// === impl ThermalRisk ===

impl ThermalRisk {
    /// Assessments of these vehicles' packs, as [`BatteryHealth::watch`].
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the request is refused, [`Error::Unreachable`]; later errors come from the replies.
    pub async fn watch_assessments(
        &self,
        vehicle_ids: Vec<String>,
    ) -> Result<Replies<WatchAssessmentsResponse>, Error> {
        let mut inner = self.inner.clone();
        let response = inner.watch_assessments(Request::new(WatchAssessmentsRequest { vehicle_ids })).await;
        let response = response.map_err(|status| self.client.error(status))?;
        Ok(Replies::new(self.client.clone(), response.into_inner()))
    }
}
