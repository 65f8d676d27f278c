//! What is still to be written to the shared store.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ev_domain::VehicleId;
use tokio::sync::Notify;

use crate::ViewId;

/// Views to be written, by vehicle: rows themselves stay in memory, so that many writes of one are one.
#[derive(Debug, Default)]
pub(super) struct Behind {
    state: Mutex<State>,
    added: Notify,
}

#[derive(Debug, Default)]
struct State {
    order: VecDeque<VehicleId>,
    /// A bit for each view.
    dirty: HashMap<VehicleId, u64>,
}

// === impl Behind ===

impl Behind {
    /// Views of a vehicle are to be written.
    pub(super) fn add(&self, vehicle: &VehicleId, views: impl Iterator<Item = ViewId>) {
        let bits = views.fold(0, |bits, view| bits | 1_u64 << (view.index() % 64));
        if bits == 0 {
            return;
        }
        let mut guard = self.state();
        let State { order, dirty } = &mut *guard;
        match dirty.get_mut(vehicle) {
            Some(found) => *found |= bits,
            None => {
                dirty.insert(vehicle.clone(), bits);
                order.push_back(vehicle.clone());
            }
        }
        drop(guard);
        self.added.notify_one();
    }

    /// The vehicles that have waited for longest, with their views.
    pub(super) fn take(&self, max: usize) -> Vec<(VehicleId, Vec<ViewId>)> {
        let mut guard = self.state();
        let State { order, dirty } = &mut *guard;
        let count = max.min(order.len());
        let taken = order.drain(..count).filter_map(|vehicle| {
            let bits = dirty.remove(&vehicle)?;
            let views = (0..64).filter(|bit| bits & 1 << bit != 0).filter_map(ViewId::at).collect();
            Some((vehicle, views))
        });
        taken.collect()
    }

    /// Forgets vehicles of which nothing is held any more, and says how many.
    pub(super) fn retain(&self, is_held: impl Fn(&VehicleId) -> bool) -> usize {
        let mut guard = self.state();
        let State { order, dirty } = &mut *guard;
        let before = order.len();
        order.retain(|vehicle| is_held(vehicle) || dirty.remove(vehicle).is_none());
        before - order.len()
    }

    /// Vehicles that wait.
    pub(super) fn len(&self) -> usize {
        self.state().order.len()
    }

    /// Returns when something was added since it last returned.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
