//! One model while a snapshot is being made: what the registry says of it, and what of that is loaded.

use std::{collections::BTreeMap, sync::Arc};

use ev_registry::VersionRecord;
use ev_rollouts::Share;

use super::{
    Deployment, ModelRoutes, VersionPolicy, VersionStatus, Wanted, deployer::State, policy::Allowance, split::Canary,
};

/// One model while a snapshot is being made.
pub(super) struct ModelState {
    pub(super) name: String,
    aliases: BTreeMap<String, u32>,
    versions: BTreeMap<u32, VersionStatus>,
    deployments: BTreeMap<u32, Arc<Deployment>>,
    /// What a rollout of the model wants.
    wanted: Option<Wanted>,
    /// Versions that are needed or asked for, are not loaded, have not failed, and whose files can be had.
    pub(super) loading: Vec<VersionRecord>,
    /// What is published now.
    before: Option<Arc<ModelRoutes>>,
}

// === impl ModelState ===

impl ModelState {
    /// Of a model's versions, newest first. What only `policy` asks for is taken of what is left to policies.
    pub(super) fn new(
        name: &str,
        versions: Vec<VersionRecord>,
        current: Option<&Arc<ModelRoutes>>,
        known: &State,
        (policy, allowance): (&VersionPolicy, &mut Allowance),
    ) -> ModelState {
        let wanted = known.wanted.iter().find(|wanted| wanted.model == name).cloned();
        let mut state = ModelState {
            name: name.to_owned(),
            aliases: BTreeMap::new(),
            versions: BTreeMap::new(),
            deployments: BTreeMap::new(),
            wanted,
            loading: Vec::new(),
            before: current.cloned(),
        };
        for (newer, record) in versions.into_iter().enumerate() {
            for alias in &record.aliases {
                state.aliases.insert(alias.clone(), record.version);
            }
            let of = (name.to_owned(), record.version);
            let served = current.and_then(|current| current.deployments.get(&record.version));
            let is_candidate = state.wanted.as_ref().is_some_and(|wanted| wanted.candidate == record.version);
            let is_needed = is_candidate || !record.aliases.is_empty();
            let is_asked_for = policy.asks_for(record.version, newer);
            let room = if is_needed || !is_asked_for { Ok(()) } else { allowance.take(record.size_bytes) };
            let status = match (served.or_else(|| known.loaded.get(&of)), known.failed.get(&of)) {
                _ if !is_needed && !is_asked_for => VersionStatus::Registered,
                _ if room.is_err() => VersionStatus::LeftOut(room.err().unwrap_or_default()),
                (Some(deployment), _) => {
                    state.deployments.insert(record.version, Arc::clone(deployment));
                    VersionStatus::Ready
                }
                (None, Some(reason)) => VersionStatus::Failed(reason.clone()),
                (None, None) => VersionStatus::Loading,
            };
            let version = record.version;
            if status == VersionStatus::Loading && !known.unfetched.contains(&of) {
                state.loading.push(record);
            }
            state.versions.insert(version, status);
        }
        state
    }

    pub(super) fn routes(&self) -> ModelRoutes {
        // Moved elsewhere, the alias is not the rollout's to share any more.
        let is_baseline = |wanted: &&Wanted| self.aliases.get(super::snapshot::PRODUCTION) == Some(&wanted.baseline);
        let wanted = self.wanted.as_ref().filter(is_baseline);
        let canary = wanted.filter(|wanted| wanted.share > Share::NONE).and_then(|wanted| {
            let deployment = Arc::clone(self.deployments.get(&wanted.candidate)?);
            let Wanted { share, split, sticky_key, .. } = *wanted;
            Some(Canary { deployment, share, split, sticky_key })
        });
        let (mut aliases, mut versions, mut deployments) =
            (self.aliases.clone(), self.versions.clone(), self.deployments.clone());
        for (alias, version) in &mut aliases {
            if let Some(served) = self.served_until_loaded(alias, *version) {
                *version = served.version;
                versions.insert(served.version, VersionStatus::Ready);
                deployments.insert(served.version, Arc::clone(served));
            }
        }
        let production = aliases.get(super::snapshot::PRODUCTION);
        let production = production.and_then(|version| deployments.get(version)).cloned();
        ModelRoutes { name: self.name.clone(), aliases, versions, deployments, production, canary }
    }

    /// What an alias's callers are answered by while the version it has moved to is loaded: what answered them before.
    fn served_until_loaded(&self, alias: &str, version: u32) -> Option<&Arc<Deployment>> {
        if self.versions.get(&version) != Some(&VersionStatus::Loading) {
            return None;
        }
        let before = self.before.as_ref()?;
        before.deployments.get(before.aliases.get(alias)?)
    }
}
