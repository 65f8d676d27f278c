//! `[deploy]`.

use std::{collections::BTreeMap, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid};
use crate::deploy::{PolicyLimits, VersionPolicy};

/// `[deploy]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployConfig {
    /// Most versions that policies load, of all models together.
    pub policy_versions_max: usize,
    /// Most bytes of the files of these versions.
    pub policy_size_max: ByteSize,
    /// How often this server says what it serves, beside when that changes.
    #[serde(with = "humantime_serde")]
    pub report_interval: Duration,
    /// How long servers are remembered that say nothing any more.
    #[serde(with = "humantime_serde")]
    pub forget_replicas: Duration,
    /// Where other machines reach this server; empty: its host's name and its gRPC port.
    pub advertised_address: String,
    /// Which versions of a model are loaded beside those that its aliases and rollouts need, by the model's name.
    #[serde(default)]
    pub serve: BTreeMap<String, VersionPolicy>,
}

/// Longest address.
const ADDRESS_BYTES_MAX: usize = 255;

// === impl DeployConfig ===

impl DeployConfig {
    /// What policies may load.
    pub(crate) fn limits(&self) -> PolicyLimits {
        PolicyLimits { versions_max: self.policy_versions_max, size_max_bytes: self.policy_size_max.as_u64() }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let versions = self.policy_versions_max;
        if !(1..=10_000).contains(&versions) {
            return Err(invalid(format!("deploy.policy_versions_max is {versions}, expected 1 to 10000")));
        }
        let interval = self.report_interval;
        if !(Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&interval) {
            return Err(invalid(format!("deploy.report_interval is {interval:?}, expected 100ms to 1h")));
        }
        let forget = self.forget_replicas;
        if forget < interval.saturating_mul(3) || forget > Duration::from_secs(366 * 86_400) {
            let expected = "expected at least three times deploy.report_interval, and at most a year";
            return Err(invalid(format!("deploy.forget_replicas is {forget:?}, {expected}")));
        }
        let address = &self.advertised_address;
        if address.len() > ADDRESS_BYTES_MAX || address.chars().any(char::is_control) {
            let expected = "expected a host and a port, such as evserve-0.evserve:50051";
            return Err(invalid(format!("deploy.advertised_address has {} bytes, {expected}", address.len())));
        }
        Ok(())
    }
}
