//! Which stream is a gateway's: the one that was opened last.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ev_domain::VehicleId;
use tokio_util::sync::CancellationToken;

/// The streams that are open, by gateway. There are no more than streams.
#[derive(Debug, Default)]
pub(super) struct Gateways(Mutex<HashMap<VehicleId, CancellationToken>>);

/// A gateway's place; given up when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    gateways: Arc<Gateways>,
    gateway: VehicleId,
    /// Cancelled when another stream of the gateway was opened.
    pub(super) superseded: CancellationToken,
}

// === impl Gateways ===

impl Gateways {
    /// Ends the stream that has the gateway's place, and takes it.
    pub(super) fn take(self: &Arc<Gateways>, gateway: VehicleId) -> Place {
        let superseded = CancellationToken::new();
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = streams.insert(gateway.clone(), superseded.clone()) {
            before.cancel();
        }
        Place { gateways: Arc::clone(self), gateway, superseded }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        // Who was superseded has no place to give up.
        if !self.superseded.is_cancelled() {
            self.gateways.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.gateway);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stream_has_the_place() {
        let gateways = Arc::new(Gateways::default());
        let id = || VehicleId::new("depot-7").expect("an id");
        let first = gateways.take(id());
        let second = gateways.take(id());
        assert!(first.superseded.is_cancelled() && !second.superseded.is_cancelled());
        drop(first);
        assert_eq!(gateways.len(), 1);
        drop(second);
        assert_eq!(gateways.len(), 0);
    }
}
