//! Artifacts in a directory.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use ev_models_core::{Digest, manifest::FileEntry};
use fs_err::File;

use super::{ArtifactStore, Staged, Staging, staging::Area};
use crate::{RegistryError, blocking::blocking};

/// Artifacts as read-only files `<root>/sha256/<first two digits>/<digest>`.
///
/// Several processes may use one directory: names are digests, files come by rename and never change afterwards.
#[derive(Debug)]
pub struct DirectoryArtifactStore {
    // `<root>/sha256`.
    files: PathBuf,
    area: Arc<Area>,
}

// === impl DirectoryArtifactStore ===

impl DirectoryArtifactStore {
    /// Opens a store, made where there is none, and removes what imports that were cut off have left.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotWritable`] naming the path, and [`RegistryError::Storage`].
    pub async fn open(root: impl Into<PathBuf>) -> Result<DirectoryArtifactStore, RegistryError> {
        let root = root.into();
        blocking(move || {
            let files = root.join("sha256");
            let staging = root.join("staging");
            for folder in [&files, &staging] {
                fs_err::create_dir_all(folder).map_err(|error| RegistryError::unwritable(folder, error))?;
            }
            sync_folder(&root)?;
            let area = Arc::new(Area::open(&staging)?);
            Ok(DirectoryArtifactStore { files, area })
        })
        .await
    }
}

#[async_trait]
impl ArtifactStore for DirectoryArtifactStore {
    async fn stage(&self, file: &str, max_bytes: u64) -> Result<Staging, RegistryError> {
        let (area, file) = (self.area.clone(), file.to_owned());
        blocking(move || Staging::create(&area, &file, max_bytes)).await
    }

    async fn commit(&self, staged: Vec<Staged>) -> Result<(), RegistryError> {
        let files = self.files.clone();
        blocking(move || commit(&files, staged)).await
    }

    async fn fetch(&self, file: &FileEntry) -> Result<PathBuf, RegistryError> {
        let (place, file) = (place(&self.files, &file.sha256), file.clone());
        blocking(move || {
            let mut reader = open(&place, &file.path, &file.sha256)?;
            let (found, _) = Digest::of_reader(&mut reader)
                .map_err(|error| RegistryError::storage(format!("read stored file `{}`", file.path))(error.into()))?;
            check(&file.path, file.sha256, found)?;
            Ok(place)
        })
        .await
    }

    async fn read(&self, file: &str, digest: &Digest, max_bytes: u64) -> Result<Vec<u8>, RegistryError> {
        let (place, file, digest) = (place(&self.files, digest), file.to_owned(), *digest);
        blocking(move || {
            let mut bytes = Vec::new();
            open(&place, &file, &digest)?
                .take(max_bytes)
                .read_to_end(&mut bytes)
                .map_err(|error| RegistryError::storage(format!("read stored file `{file}`"))(error.into()))?;
            check(&file, digest, Digest::of(&bytes))?;
            Ok(bytes)
        })
        .await
    }
}

/// Moves staged files to their places and makes their names durable.
///
/// The bytes are on disk since they were staged; what remains are the names, so each folder is synced once for all its files.
/// Folders are synced even where a file was there before: whoever moved it there may not have come to that.
fn commit(files: &Path, staged: Vec<Staged>) -> Result<(), RegistryError> {
    let mut folders = BTreeSet::new();
    for staged in staged {
        let place = place(files, &staged.digest());
        let folder = place.parent().unwrap_or(files).to_owned();
        fs_err::create_dir_all(&folder).map_err(|error| RegistryError::unwritable(&folder, error))?;
        if !holds(&place, &staged.digest()) {
            staged.move_to(&place)?;
        }
        folders.insert(folder);
    }
    for folder in &folders {
        sync_folder(folder)?;
    }
    sync_folder(files)
}

fn place(files: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    files.join(&hex[..2]).join(hex)
}

/// Whether a place holds the right bytes; anything else may be replaced.
fn holds(place: &Path, digest: &Digest) -> bool {
    let Ok(mut file) = File::open(place) else { return false };
    Digest::of_reader(&mut file).is_ok_and(|(found, _)| found == *digest)
}

fn open(place: &Path, file: &str, digest: &Digest) -> Result<File, RegistryError> {
    File::open(place).map_err(|error| match error.kind() {
        ErrorKind::NotFound => RegistryError::Lost { file: file.to_owned(), expected: *digest },
        _ => RegistryError::storage(format!("open stored file `{file}`"))(error.into()),
    })
}

fn check(file: &str, expected: Digest, found: Digest) -> Result<(), RegistryError> {
    if found == expected { Ok(()) } else { Err(RegistryError::Corrupt { file: file.to_owned(), expected, found }) }
}

pub(crate) fn sync_folder(folder: &Path) -> Result<(), RegistryError> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(|error| RegistryError::storage(format!("sync `{}`", folder.display()))(error.into()))
}
