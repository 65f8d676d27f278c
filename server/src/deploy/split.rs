//! Two deployments behind one alias, while a candidate is on its way to production.

use std::sync::Arc;

use ev_rollouts::{Key, Share, Split, StickyKey};

use super::Deployment;

/// Who asks, as far as it decides which version answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asker<'a> {
    /// The server itself, which asks production: what it tells of vehicles must not depend on a rollout.
    Server,
    /// Somebody who calls.
    Caller {
        /// The vehicle that the request names; empty where it names none.
        vehicle: &'a str,
        /// The key that came with the call.
        key: Option<Key>,
    },
}

/// What a rollout asks the deployer for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) model: String,
    /// The version that must be `production` for the split to apply.
    pub(crate) baseline: u32,
    /// The version that is loaded beside it.
    pub(crate) candidate: u32,
    /// What of the requests the candidate gets.
    pub(crate) share: Share,
    pub(crate) split: Split,
    pub(crate) sticky_key: StickyKey,
}

/// A candidate that gets some of the requests for `production`.
pub(crate) struct Canary {
    pub(super) deployment: Arc<Deployment>,
    pub(super) share: Share,
    pub(super) split: Split,
    pub(super) sticky_key: StickyKey,
}

// === impl Canary ===

impl Canary {
    /// Whether the candidate answers.
    #[cold]
    pub(super) fn takes(&self, asker: Asker<'_>) -> bool {
        let Asker::Caller { vehicle, key } = asker else { return false };
        let vehicle = (!vehicle.is_empty()).then(|| Key::of(vehicle.as_bytes()));
        let key = match self.sticky_key {
            StickyKey::Vehicle => vehicle.or(key),
            StickyKey::Call => key,
            StickyKey::None => None,
        };
        match key {
            Some(key) => self.split.takes(key, self.share),
            None => self.split.takes_random(fastrand::u64(..), self.share),
        }
    }
}
