//! Where the registry is kept, and whom it trusts.

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use ev_registry::{Limits, PostgresOptions, StagedLimits};
use serde::{Deserialize, Serialize};

use super::{ConfigError, DatabaseUrl, invalid};

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

    /// Where files are kept, if not in the data directory.
    pub(crate) fn artifacts(&self) -> Option<PathBuf> {
        let directory = &self.artifacts_directory;
        (!directory.as_os_str().is_empty()).then(|| directory.clone())
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
