//! From what the registry says to what serves: loading, warming, publishing.
//!
//! Only [`Deployer`] publishes; requests read one immutable [`Snapshot`] without a lock.

mod deployer;
mod deployment;
mod model_state;
mod not_loaded;
mod policies;
mod policy;
mod questions;
mod queue;
mod recent;
mod signatures;
mod snapshot;
mod split;
mod stats;
mod vocabulary;
mod warmup;

pub(crate) use deployer::{Deployer, DeployerConfig, Examined};
pub(crate) use policy::PolicyLimits;
pub use policy::{POLICY_VERSIONS_MAX, VersionPolicy};
pub use signatures::TrustedKeyError;
pub(crate) use signatures::{Signatures, Signed};
pub(crate) use snapshot::VersionStatus;

pub(crate) use deployment::{Deployment, enter_core};
pub(crate) use not_loaded::NotLoaded;
pub(crate) use questions::{Answer, Question, Questions};
pub(crate) use queue::{Queue, QueueConfig};
pub(crate) use snapshot::{ModelRoutes, Routes, Snapshot, VersionChoice};
pub(crate) use split::{Asker, Wanted};
pub(crate) use stats::{BatchStats, HISTOGRAM_BUCKETS, Histogram, Stats, Total};
pub(crate) use vocabulary::check_vocabulary;
