//! Where a registry lies and what it takes.

use std::path::PathBuf;

use crate::{PostgresOptions, S3Options};

/// Where a registry lies and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Its directory; made when it does not exist.
    pub directory: PathBuf,
    /// Where models, versions and aliases are kept; none: in SQLite, in the directory.
    pub database: Option<PostgresOptions>,
    /// Where files are kept.
    pub artifacts: Artifacts,
    /// What one version may hold.
    pub limits: Limits,
    /// What may lie of uploads that have not ended.
    pub staged: StagedLimits,
}

/// Where files are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Artifacts {
    /// In `artifacts` in the registry's directory.
    Local,
    /// In a directory, which several registries may share.
    Directory(PathBuf),
    /// In an object store, which several registries may share, and in `cache` in the registry's directory.
    S3(S3Options),
}

/// What may lie of uploads that have not ended, and that come over several connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagedLimits {
    /// Bytes of all files together, those counted that have yet to come.
    pub max_bytes: u64,
    /// Number of files.
    pub max_files: usize,
}

/// What one version may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub max_file_bytes: u64,
    /// Bytes of all files together.
    pub max_total_bytes: u64,
    /// Number of files.
    pub max_files: usize,
}

// === impl RegistryConfig ===

impl RegistryConfig {
    /// A registry in this directory, with the default limits.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> RegistryConfig {
        RegistryConfig {
            directory: directory.into(),
            database: None,
            artifacts: Artifacts::Local,
            limits: Limits::default(),
            staged: StagedLimits::default(),
        }
    }
}

// === impl Limits ===

impl Limits {
    /// 512 MiB: an order of magnitude above the largest image model that is bundled or converted.
    pub const MAX_FILE_BYTES: u64 = 512 << 20;
    /// 2 GiB: the most that one upload may take of the disk before it is checked.
    pub const MAX_TOTAL_BYTES: u64 = 2 << 30;
    /// A model per cell family or maker, each with two heads, stays far below.
    pub const MAX_FILES: usize = 256;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_file_bytes: Self::MAX_FILE_BYTES,
            max_total_bytes: Self::MAX_TOTAL_BYTES,
            max_files: Self::MAX_FILES,
        }
    }
}

// === impl StagedLimits ===

impl StagedLimits {
    /// 8 GiB: four of the largest versions.
    pub const MAX_BYTES: u64 = 8 << 30;
    /// Eight of the versions with the most files.
    pub const MAX_FILES: usize = 2048;
}

impl Default for StagedLimits {
    fn default() -> StagedLimits {
        StagedLimits { max_bytes: Self::MAX_BYTES, max_files: Self::MAX_FILES }
    }
}
