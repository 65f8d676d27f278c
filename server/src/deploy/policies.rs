//! Which policy holds for each model: the one that somebody set, else the configured one.

use std::collections::BTreeMap;

use ev_registry::{PolicyRecord, References, RegistryError};

use super::{Deployer, VersionPolicy};

impl Deployer {
    /// Which versions of a model are loaded beside those that are needed, and whether the configuration says so.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when the registry cannot be read.
    pub(crate) async fn policy(&self, model: &str) -> Result<(VersionPolicy, bool), RegistryError> {
        let mut set = self.set_policies().await?;
        Ok(match set.remove(model) {
            Some(policy) => (policy, false),
            None => (self.config.serve.0.get(model).cloned().unwrap_or_default(), true),
        })
    }

    /// Versions that policies name by number.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when the registry cannot be read.
    pub(crate) async fn references(&self) -> Result<References, RegistryError> {
        let mut policies = self.config.serve.0.clone();
        policies.extend(self.set_policies().await?);
        let mut references = References::new();
        for (model, policy) in policies {
            let VersionPolicy::Versions(versions) = policy else { continue };
            for version in versions {
                references.entry((model.clone(), version)).or_default().push("the model's version policy".to_owned());
            }
        }
        Ok(references)
    }

    /// Policies that somebody set. One that another release of evserve wrote in a way of its own is told and left out.
    pub(super) async fn set_policies(&self) -> Result<BTreeMap<String, VersionPolicy>, RegistryError> {
        let mut policies = BTreeMap::new();
        for PolicyRecord { model, document, .. } in self.registry.fleet().policies().await? {
            match document.parse() {
                Ok(policy) => drop(policies.insert(model, policy)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(model, error, "a version policy cannot be read, and the configured one holds");
                }
            }
        }
        Ok(policies)
    }
}
