//! Where the registry is kept, and whom it trusts.

use std::{fmt, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use ev_registry::{Artifacts, Limits, PostgresOptions, S3Options, StagedLimits};
use serde::{Deserialize, Serialize};

use super::{ConfigError, DatabaseUrl, invalid};

/// How AWS's own variables begin, which say where S3 is and who asks.
const AWS_PREFIX: &str = "AWS_";

/// `[registry]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// PostgreSQL; empty: SQLite in the data directory.
    pub database_url: DatabaseUrl,
    /// Connections to that database.
    pub database_connections_max: u32,
    /// How long a start waits for that database.
    #[serde(with = "humantime_serde")]
    pub database_wait: Duration,
    /// Where model files are kept; empty: in the data directory.
    pub artifacts_directory: PathBuf,
    /// An object store where model files are kept instead; empty: in a directory.
    pub artifacts_url: String,
    /// Bytes of it that are kept in the data directory.
    pub artifacts_cache_max: ByteSize,
    /// How it is reached, by the environment.
    #[serde(skip)]
    pub aws: AwsVariables,
    /// Versions of each model that are kept beside those something refers to; 0: all.
    pub keep_versions: usize,
    /// How long a file stays that no version names.
    #[serde(with = "humantime_serde")]
    pub keep_unnamed_files: Duration,
    /// Bytes that may lie of uploads which have not ended.
    pub staged_max: ByteSize,
    /// Files of such uploads.
    pub staged_files_max: usize,
    /// How long a file of such an upload stays that nobody goes on with.
    #[serde(with = "humantime_serde")]
    pub keep_staged: Duration,
    /// What becomes of versions that no trusted key has signed.
    pub signatures: SignaturePolicy,
    /// Public keys whose signatures count: base64, or files with PEM.
    pub trusted_keys: Vec<String>,
}

/// AWS's variables of the environment, by their names in lower case. They are never shown: some are secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct AwsVariables(Vec<(String, String)>);

/// What becomes of versions that no trusted key has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignaturePolicy {
    /// They are loaded, and nobody looks.
    #[default]
    Off,
    /// They are loaded, and the log says so.
    Warn,
    /// They are not loaded.
    Require,
}

// === impl RegistryConfig ===

impl RegistryConfig {
    /// The database, where one is configured.
    pub(crate) fn database(&self) -> Option<PostgresOptions> {
        let RegistryConfig { database_url: url, database_connections_max, database_wait, .. } = self;
        (!url.is_empty()).then(|| PostgresOptions {
            connections_max: *database_connections_max,
            open_wait: *database_wait,
            ..PostgresOptions::new(url.reveal())
        })
    }

    /// Where files are kept.
    pub(crate) fn artifacts(&self) -> Artifacts {
        let (url, directory) = (self.artifacts_url.clone(), &self.artifacts_directory);
        if !url.is_empty() {
            let cache_max_bytes = self.artifacts_cache_max.as_u64();
            return Artifacts::S3(S3Options { url, settings: self.aws.0.clone(), cache_max_bytes });
        }
        if directory.as_os_str().is_empty() { Artifacts::Local } else { Artifacts::Directory(directory.clone()) }
    }

    /// What may lie of uploads that have not ended.
    pub(crate) fn staged(&self) -> StagedLimits {
        StagedLimits { max_bytes: self.staged_max.as_u64(), max_files: self.staged_files_max }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let url = &self.database_url;
        if self.database().is_some_and(|database| !url.is_postgres() || database.check().is_err()) {
            let expected = "postgres://user:password@host:port/database, or nothing for SQLite in data.directory";
            return Err(invalid(format!("registry.database_url is `{url}`, expected {expected}")));
        }
        if let Artifacts::S3(options) = self.artifacts() {
            if let Err(expected) = options.check() {
                let url = DatabaseUrl::masked(&self.artifacts_url);
                return Err(invalid(format!("registry.artifacts_url is `{url}`, {expected}")));
            }
            if !self.artifacts_directory.as_os_str().is_empty() {
                let expected = "expected nothing beside registry.artifacts_url: files are kept in one of them";
                let directory = self.artifacts_directory.display();
                return Err(invalid(format!("registry.artifacts_directory is `{directory}`, {expected}")));
            }
        }
        let (cache, least) = (self.artifacts_cache_max, ByteSize(Limits::MAX_TOTAL_BYTES));
        if cache < least {
            let expected = format!("expected at least {least}, the largest version");
            return Err(invalid(format!("registry.artifacts_cache_max is {cache}, {expected}")));
        }
        let connections = self.database_connections_max;
        if !(2..=1_000).contains(&connections) {
            let expected = "expected 2 to 1000";
            return Err(invalid(format!("registry.database_connections_max is {connections}, {expected}")));
        }
        let wait = self.database_wait;
        if wait > Duration::from_secs(3_600) {
            return Err(invalid(format!("registry.database_wait is {wait:?}, expected at most 1h")));
        }
        let age = self.keep_unnamed_files;
        if age < Duration::from_secs(3_600) || age > Duration::from_secs(100 * 366 * 86_400) {
            let expected = "expected 1h, longer than any upload takes, to 100 years";
            return Err(invalid(format!("registry.keep_unnamed_files is {age:?}, {expected}")));
        }
        let (staged, least) = (self.staged_max, ByteSize(Limits::MAX_TOTAL_BYTES));
        if staged < least {
            let expected = format!("expected at least {least}, the largest version");
            return Err(invalid(format!("registry.staged_max is {staged}, {expected}")));
        }
        let files = self.staged_files_max;
        if !(Limits::MAX_FILES..=100_000).contains(&files) {
            let expected = format!("expected {}, the most files of a version, to 100000", Limits::MAX_FILES);
            return Err(invalid(format!("registry.staged_files_max is {files}, {expected}")));
        }
        let age = self.keep_staged;
        if age < Duration::from_secs(600) || age > Duration::from_secs(366 * 86_400) {
            return Err(invalid(format!("registry.keep_staged is {age:?}, expected 10m to a year")));
        }
        Ok(())
    }
}

// === impl AwsVariables ===

impl AwsVariables {
    /// What of an environment is AWS's.
    pub(super) fn of<'a>(environment: impl Iterator<Item = &'a (String, String)>) -> AwsVariables {
        let ours = environment.filter(|(name, value)| name.starts_with(AWS_PREFIX) && !value.is_empty());
        AwsVariables(ours.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect())
    }
}

impl fmt::Debug for AwsVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
