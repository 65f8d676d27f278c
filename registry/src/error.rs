//! Errors of the registry.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use ev_models_core::{Digest, ManifestError};

/// The registry refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No such model, version or alias.
    #[error("{what} does not exist")]
    NotFound {
        /// Such as ``model `ev-range` `` or ``alias `canary` of model `ev-range` ``.
        what: String,
    },
    /// The manifest cannot be read or is not consistent.
    #[error("the manifest is refused")]
    InvalidManifest(#[source] ManifestError),
    /// Not a name an alias may have.
    #[error("`{alias}` is no alias, expected a lower-case letter, then lower-case letters, digits and `-`, at most 63")]
    InvalidAlias {
        /// What was given, shortened.
        alias: String,
    },
    /// Not something the audit log takes.
    #[error("the audit entry is refused: {problem}")]
    InvalidAuditEntry {
        /// What was found and what was expected.
        problem: String,
    },
    /// The page asked for cannot be.
    #[error("the page is refused: {problem}")]
    InvalidPage {
        /// What was found and what was expected.
        problem: String,
    },
    /// A file was given that the manifest does not name.
    #[error("`{file}` is not named by the manifest")]
    UnknownFile {
        /// Path as it was given, shortened.
        file: String,
    },
    /// A file the manifest names was not given.
    #[error("`{file}` is named by the manifest and missing")]
    MissingFile {
        /// Path in the manifest.
        file: String,
    },
    /// More of a file came after it had ended: after another file's pieces, or a second time.
    #[error("`{file}` goes on after it ended; the pieces of a file come in order and together")]
    OutOfOrder {
        /// Path in the manifest.
        file: String,
    },
    /// A link, a device, a directory, or a file that changed while it was read.
    #[error("`{file}` is refused: {problem}")]
    RefusedFile {
        /// Path in the manifest.
        file: String,
        /// What was found.
        problem: String,
    },
    /// What was given is not what the manifest's `[[files]]` says; nothing was stored.
    #[error("`{file}` has the digest {found}, its manifest says {expected}")]
    DigestMismatch {
        /// Path in the manifest.
        file: String,
        /// What the manifest says.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// What was given is not as long as the manifest's `[[files]]` says; nothing was stored.
    #[error("`{file}` has {found} bytes, its manifest says {expected}")]
    SizeMismatch {
        /// Path in the manifest.
        file: String,
        /// Bytes the manifest says.
        expected: u64,
        /// Bytes that came until it was refused.
        found: u64,
    },
    /// More bytes than a limit allows.
    #[error("{what} has more than {max_bytes} bytes")]
    TooLarge {
        /// A file or the whole version.
        what: String,
        /// The limit.
        max_bytes: u64,
    },
    /// More files than a limit allows.
    #[error("the manifest names {found} files, expected at most {max}")]
    TooManyFiles {
        /// Files it names.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Bytes of a file that comes over several connections are not there: ask what has come, and go on from there.
    #[error("bytes {received} to {expected} of `{file}` have not come; ask what has, and go on from there")]
    Gap {
        /// Path in the manifest.
        file: String,
        /// Bytes that have come.
        received: u64,
        /// Bytes that should have.
        expected: u64,
    },
    /// There is no room for more of uploads that have not ended; there will be when some end or are given up.
    #[error("uploads that have not ended hold all of the {max} {what} they may; try again when some have")]
    StagingFull {
        /// `bytes` or `files`.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// The upload failed before: drop it and begin another.
    #[error("the upload has failed before and takes nothing more")]
    UploadFailed,
    /// The alias does not point where the caller expected.
    #[error("alias `{alias}` of model `{model}` points at {}", .found.map_or("nothing".to_owned(), |version| format!("version {version}")))]
    Conflict {
        /// Model name.
        model: String,
        /// Alias.
        alias: String,
        /// The version it points at.
        found: Option<u32>,
    },
    /// The model has a rollout that goes on.
    #[error("model `{model}` has a rollout under way, `{id}`; end it first")]
    RolloutUnderWay {
        /// Model name.
        model: String,
        /// The rollout's id.
        id: String,
    },
    /// The rollout is not where the caller saw it.
    #[error("rollout `{id}` has changed, its revision is {revision}")]
    RolloutMoved {
        /// The rollout's id.
        id: String,
        /// Its revision now.
        revision: u64,
    },
    /// Something refers to the version.
    #[error("version {version} of model `{model}` is in use by {}", by.join(", "))]
    InUse {
        /// Model name.
        model: String,
        /// Version number.
        version: u32,
        /// Such as ``alias `production` `` or `a pin`.
        by: Vec<String>,
    },
    /// A stored file is not what was stored: import the version again, or restore a backup.
    #[error("stored file `{file}` is corrupt: its digest is {found}, expected {expected}")]
    Corrupt {
        /// Path in the manifest, or `manifest`.
        file: String,
        /// What was stored.
        expected: Digest,
        /// What is there.
        found: Digest,
    },
    /// A stored file cannot be what was stored, which shows before all of it is read: import the version again.
    #[error("stored file `{file}` is corrupt: {problem}")]
    Damaged {
        /// Path in the manifest, or `manifest`.
        file: String,
        /// What was found.
        problem: String,
    },
    /// A stored file is gone: import the version again, or restore a backup.
    #[error("stored file `{file}` is gone: nothing has the digest {expected}")]
    Lost {
        /// Path in the manifest, or `manifest`.
        file: String,
        /// What was stored.
        expected: Digest,
    },
    /// The version is not the one that was registered, or the audit log's row of its registration was changed.
    #[error("version {version} of model `{model}` is not what was registered: {problem}")]
    Tampered {
        /// Model name.
        model: String,
        /// Version number.
        version: u32,
        /// What was found.
        problem: String,
    },
    /// The database holds what evserve never writes.
    #[error("the registry's database is malformed: {problem}")]
    Malformed {
        /// Where, and what was found.
        problem: String,
    },
    /// The registry's directory cannot be made or written.
    #[error("cannot write to `{}`, choose a directory this process may write to", path.display())]
    NotWritable {
        /// The directory or the file in it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The disk has no space left. Nothing was registered or changed; the same call succeeds once there is space.
    #[error("cannot {doing}: the disk is full; free some space and try again")]
    DiskFull {
        /// What was being done.
        doing: String,
        /// What the system or the database said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The disk or the database failed; the same call may succeed later.
    #[error("cannot {doing}")]
    Storage {
        /// What was being done.
        doing: String,
        /// What the system or the database said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database does not answer; the same call may succeed later.
    #[error("cannot {doing}: the database does not answer")]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// What the system or the database said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The artifact store takes no requests of ours: no repetition helps, somebody has to correct a setting.
    #[error("the artifact store {url} refuses: {problem}")]
    StoreRefused {
        /// As it was configured.
        url: String,
        /// What to correct.
        problem: String,
        /// What the store said, if it was asked.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The artifact store does not answer; the same call may succeed later.
    #[error("cannot {doing}: the artifact store {url} does not answer")]
    StoreUnreachable {
        /// What was being done.
        doing: String,
        /// As it was configured.
        url: String,
        /// What was tried, and what came of it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The runtime is shutting down.
    #[error("the registry is shutting down")]
    ShuttingDown,
}

// === impl RegistryError ===

impl RegistryError {
    /// Something could not be made at `path`: either it is the wrong place, or the disk failed.
    pub(crate) fn unwritable(path: &Path, error: io::Error) -> RegistryError {
        match error.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotFound => RegistryError::NotWritable { path: path.to_owned(), source: error.into() },
            _ => RegistryError::storage(format!("write to `{}`", path.display()))(error.into()),
        }
    }

    /// Whether the artifact store gave no answer, so that nothing is known of what it holds.
    #[must_use]
    pub fn is_of_store(&self) -> bool {
        matches!(self, RegistryError::StoreRefused { .. } | RegistryError::StoreUnreachable { .. })
    }

    /// A failure of the disk or the database while `doing` something.
    pub(crate) fn storage(doing: impl Into<String>) -> impl FnOnce(Box<dyn Error + Send + Sync>) -> RegistryError {
        let doing = doing.into();
        |source| {
            if is_full(&*source) {
                RegistryError::DiskFull { doing, source }
            } else {
                RegistryError::Storage { doing, source }
            }
        }
    }
}

/// Whether a failure comes from a disk, or a share of one, that has no space left.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let full = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    std::iter::successors(Some(error), |&error| error.source()).any(|error| {
        error.downcast_ref().is_some_and(full) || error.downcast_ref().is_some_and(crate::metadata::is_full)
    })
}

/// A caller's text, short enough for a message.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_space_is_told_from_one_that_failed() {
        let check = |source: Box<dyn Error + Send + Sync>, full: bool| {
            let error = RegistryError::storage("store `a`")(source);
            assert_eq!(matches!(error, RegistryError::DiskFull { .. }), full, "{error:?}");
        };
        check(io::Error::from(io::ErrorKind::StorageFull).into(), true);
        check(io::Error::from(io::ErrorKind::QuotaExceeded).into(), true);
        check(Box::new(sqlx::Error::Io(io::Error::from(io::ErrorKind::StorageFull))), true);
        check(io::Error::from(io::ErrorKind::PermissionDenied).into(), false);
        check(Box::new(sqlx::Error::PoolClosed), false);
        check("the disk is full, says a text".into(), false);
    }
}
