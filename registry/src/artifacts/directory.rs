//! Artifacts in a directory.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use ev_models_core::{Digest, manifest::FileEntry};
use fs_err::File;

use super::{ArtifactStore, Located, Partials, Staged, Staging, StoredFile, staging::Area};
use crate::{RegistryError, StagedLimits, blocking::blocking};

/// Artifacts as read-only files `<root>/sha256/<first two digits>/<digest>`.
///
/// Several processes may use one directory: names are digests, files come by rename and never change afterwards.
#[derive(Debug)]
pub struct DirectoryArtifactStore {
    // `<root>/sha256`.
    files: PathBuf,
    area: Arc<Area>,
    partials: Partials,
}

// === impl DirectoryArtifactStore ===

impl DirectoryArtifactStore {
    /// Opens a store, made where there is none, and removes what imports that were cut off have left.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotWritable`] naming the path, and [`RegistryError::Storage`].
    pub async fn open(root: impl Into<PathBuf>, staged: StagedLimits) -> Result<DirectoryArtifactStore, RegistryError> {
        let root = root.into();
        blocking(move || {
            let files = root.join("sha256");
            let staging = root.join("staging");
            for folder in [&files, &staging] {
                fs_err::create_dir_all(folder).map_err(|error| RegistryError::unwritable(folder, error))?;
            }
            let partials = Partials::open(root.join("partial"), staged)?;
            sync_folder(&root)?;
            let area = Arc::new(Area::open(&staging)?);
            Ok(DirectoryArtifactStore { files, area, partials })
        })
        .await
    }

    /// Makes a file as new, if it is there.
    pub(super) async fn touch(&self, digest: &Digest) -> Result<(), RegistryError> {
        let place = place(&self.files, digest);
        blocking(move || {
            let touched = File::open(place).and_then(|file| file.file().set_modified(SystemTime::now()));
            match touched {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(RegistryError::storage("look for a stored file")(error.into()))
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// Deletes a file, whatever it holds, if it is there, and tells whether it was.
    pub(super) async fn forget(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let place = place(&self.files, digest);
        blocking(move || match fs_err::remove_file(place) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(RegistryError::storage("delete a stored file")(error.into())),
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

    fn partials(&self) -> &Partials {
        &self.partials
    }

    async fn commit(&self, staged: Vec<Staged>) -> Result<(), RegistryError> {
        let files = self.files.clone();
        blocking(move || commit(&files, staged)).await
    }

    async fn fetch(&self, file: &FileEntry) -> Result<PathBuf, RegistryError> {
        let located = self.locate(file).await?;
        blocking(move || located.verify()).await
    }

    async fn locate(&self, file: &FileEntry) -> Result<Located, RegistryError> {
        Ok(Located::new(place(&self.files, &file.sha256), file.clone()))
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

    async fn verify(&self, file: &str, digest: &Digest) -> Result<u64, RegistryError> {
        let (place, file, digest) = (place(&self.files, digest), file.to_owned(), *digest);
        blocking(move || verify(&place, &file, &digest)).await
    }

    async fn holds(&self, file: &FileEntry) -> Result<bool, RegistryError> {
        Ok(self.fetch(file).await.is_ok())
    }

    async fn has(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let place = place(&self.files, digest);
        blocking(move || match fs_err::metadata(&place) {
            Ok(metadata) => Ok(metadata.is_file()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(RegistryError::storage("look for a stored file")(error.into())),
        })
        .await
    }

    async fn list(&self, first_byte: u8) -> Result<Vec<StoredFile>, RegistryError> {
        let folder = self.files.join(format!("{first_byte:02x}"));
        blocking(move || {
            let entries = match fs_err::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(RegistryError::storage("list stored files")(error.into())),
            };
            // What has another name than a digest is not ours.
            let digest = |place: &Path| format!("sha256:{}", place.file_name()?.to_str()?).parse().ok();
            let file = |place: PathBuf| Some((digest(&place)?, fs_err::metadata(&place).ok()?));
            let files = entries.flatten().filter_map(|entry| file(entry.path())).filter(|(_, seen)| seen.is_file());
            Ok(files.map(|(digest, seen)| stored(digest, &seen)).collect())
        })
        .await
    }

    async fn remove(&self, files: &[StoredFile]) -> Result<BTreeSet<Digest>, RegistryError> {
        let (root, files) = (self.files.clone(), files.to_vec());
        blocking(move || {
            let mut removed = BTreeSet::new();
            for file in files {
                let place = place(&root, &file.digest);
                if fs_err::metadata(&place).is_ok_and(|seen| stored(file.digest, &seen) == file) {
                    fs_err::remove_file(&place)
                        .map_err(|error| RegistryError::storage("delete a stored file")(error.into()))?;
                    removed.insert(file.digest);
                }
            }
            Ok(removed)
        })
        .await
    }
}

fn stored(digest: Digest, seen: &std::fs::Metadata) -> StoredFile {
    let since = seen.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    StoredFile { digest, size: seen.len(), stored_at_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX) }
}

/// Moves staged files to their places and makes their names durable.
///
/// The bytes are on disk since they were staged; what remains are the names, so each folder is synced once for all its files.
fn commit(files: &Path, staged: Vec<Staged>) -> Result<(), RegistryError> {
    let mut folders = BTreeSet::new();
    for staged in staged {
        let place = place(files, &staged.digest());
        let folder = place.parent().unwrap_or(files).to_owned();
        fs_err::create_dir_all(&folder).map_err(|error| RegistryError::unwritable(&folder, error))?;
        // Whatever is there: these bytes are the right ones, and a collector of garbage sees that they are new.
        staged.move_to(&place)?;
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

fn open(place: &Path, file: &str, digest: &Digest) -> Result<File, RegistryError> {
    File::open(place).map_err(|error| match error.kind() {
        ErrorKind::NotFound => RegistryError::Lost { file: file.to_owned(), expected: *digest },
        _ => RegistryError::storage(format!("open stored file `{file}`"))(error.into()),
    })
}

/// Reads a file whole, and tells how many bytes it has.
pub(super) fn verify(place: &Path, file: &str, expected: &Digest) -> Result<u64, RegistryError> {
    let mut reader = open(place, file, expected)?;
    let (found, size) = Digest::of_reader(&mut reader)
        .map_err(|error| RegistryError::storage(format!("read stored file `{file}`"))(error.into()))?;
    check(file, *expected, found)?;
    Ok(size)
}

fn check(file: &str, expected: Digest, found: Digest) -> Result<(), RegistryError> {
    if found == expected { Ok(()) } else { Err(RegistryError::Corrupt { file: file.to_owned(), expected, found }) }
}

pub(crate) fn sync_folder(folder: &Path) -> Result<(), RegistryError> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(|error| RegistryError::storage(format!("sync `{}`", folder.display()))(error.into()))
}
