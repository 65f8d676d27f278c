//! Files on their way into the store.

use std::{
    io::{Read, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use ev_models_core::{Digest, manifest::FileEntry};
use fs_err::File;
use sha2::{Digest as _, Sha256};

use crate::{RegistryError, blocking::blocking, lock::FileLock};

const LOCK: &str = "lock";
const OPENING: &str = "open.lock";
/// Bytes read at once from a file that is imported: large enough that the disk is the limit, not the calls.
const CHUNK_BYTES: usize = 1 << 20;

/// One handle's own folder for temporary files, `<store>/staging/<number>`.
///
/// Its lock is held while the handle lives, so whoever opens the store can tell a folder in use from one whose process died.
#[derive(Debug)]
pub(super) struct Area {
    folder: PathBuf,
    opening: PathBuf,
    next: AtomicU64,
    _lock: FileLock,
}

/// A file that is being taken: its bytes go to a temporary file, which is removed unless it is finished and committed.
#[derive(Debug)]
pub struct Staging {
    open: Option<Open>,
}

/// A file that was taken whole and is safe on disk, but not readable yet. Dropping it removes it.
#[derive(Debug)]
pub struct Staged {
    digest: Digest,
    size: u64,
    temporary: Temporary,
}

#[derive(Debug)]
struct Open {
    name: String,
    file: File,
    hasher: Sha256,
    size: u64,
    max_bytes: u64,
    temporary: Temporary,
}

#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    moved: bool,
    // Keeps the folder until its last file is gone.
    _area: Arc<Area>,
}

// === impl Area ===

impl Area {
    /// Removes the folders of processes that died, and makes one for this handle.
    pub(super) fn open(staging: &Path) -> Result<Area, RegistryError> {
        // Held for the rest of this function: nobody else looks at a folder between its making and its locking.
        let opening = staging.join(OPENING);
        let _opening = FileLock::acquire(&opening)?;
        let entries =
            fs_err::read_dir(staging).map_err(|error| RegistryError::storage("list staging")(error.into()))?;
        let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        for folder in folders {
            let lock = folder.join(LOCK);
            if !lock.exists() || FileLock::try_acquire(&lock).is_some() {
                tracing::info!(folder = %folder.display(), "removing files of an import that was cut off");
                fs_err::remove_dir_all(&folder).map_err(|error| RegistryError::unwritable(&folder, error))?;
            }
        }
        for number in 0u64.. {
            let folder = staging.join(number.to_string());
            match fs_err::create_dir(&folder) {
                Ok(()) => {
                    let lock = FileLock::acquire(&folder.join(LOCK))?;
                    return Ok(Area { folder, opening, next: AtomicU64::new(0), _lock: lock });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(RegistryError::unwritable(&folder, error)),
            }
        }
        unreachable!("a directory holds fewer than 2^64 folders")
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // Under the lock, lest the number be given to another between the removal of the folder's files and its own.
        // What stays behind is removed by the next one who opens the store.
        let _opening = FileLock::acquire(&self.opening);
        let _ = fs_err::remove_dir_all(&self.folder);
    }
}

// === impl Staging ===

impl Staging {
    /// Makes a temporary file.
    pub(super) fn create(area: &Arc<Area>, name: &str, max_bytes: u64) -> Result<Staging, RegistryError> {
        let path = area.folder.join(area.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = File::create_new(&path).map_err(|error| RegistryError::unwritable(&path, error))?;
        let temporary = Temporary { path, moved: false, _area: area.clone() };
        let open = Open { name: name.to_owned(), file, hasher: Sha256::new(), size: 0, max_bytes, temporary };
        Ok(Staging { open: Some(open) })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`RegistryError::TooLarge`] and [`RegistryError::Storage`]; then, the file takes nothing more.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the file takes nothing more.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), RegistryError> {
        let mut open = self.open.take().ok_or(RegistryError::UploadFailed)?;
        let open = blocking(move || {
            open.write(&bytes)?;
            Ok(open)
        });
        self.open = Some(open.await?);
        Ok(())
    }

    /// Takes everything a reader gives.
    ///
    /// # Errors
    ///
    /// As [`Staging::write`].
    pub async fn write_all_of(&mut self, mut reader: impl Read + Send + 'static) -> Result<(), RegistryError> {
        let mut open = self.open.take().ok_or(RegistryError::UploadFailed)?;
        let open = blocking(move || {
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let count = match reader.read(&mut buffer) {
                    Ok(0) => return Ok(open),
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(RegistryError::storage(format!("read `{}`", open.name))(error.into())),
                };
                open.write(&buffer[..count])?;
            }
        });
        self.open = Some(open.await?);
        Ok(())
    }

    /// Ends the file: it is read-only and safe on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Storage`], and [`RegistryError::UploadFailed`] when an earlier write failed.
    pub async fn finish(self) -> Result<Staged, RegistryError> {
        let open = self.open.ok_or(RegistryError::UploadFailed)?;
        blocking(move || open.finish()).await
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.size)
    }
}

// === impl Staged ===

impl Staged {
    /// Digest of its bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// As an entry of a manifest's `[[files]]`.
    #[must_use]
    pub fn entry(&self, path: impl Into<String>) -> FileEntry {
        FileEntry { path: path.into(), sha256: self.digest, size: self.size }
    }

    /// Moves it to its place, replacing what is there in one step.
    pub(super) fn move_to(mut self, place: &Path) -> Result<(), RegistryError> {
        fs_err::rename(&self.temporary.path, place)
            .map_err(|error| RegistryError::storage("move a file into the store")(error.into()))?;
        self.temporary.moved = true;
        Ok(())
    }
}

// === impl Open ===

impl Open {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RegistryError> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > self.max_bytes {
            let what = format!("`{}`", self.name);
            return Err(RegistryError::TooLarge { what, max_bytes: self.max_bytes });
        }
        self.file.write_all(bytes).map_err(|error| self.failed(error))?;
        self.hasher.update(bytes);
        self.size = size;
        Ok(())
    }

    fn finish(self) -> Result<Staged, RegistryError> {
        let mut permissions = self.file.metadata().map_err(|error| self.failed(error))?.permissions();
        permissions.set_readonly(true);
        self.file.set_permissions(permissions).map_err(|error| self.failed(error))?;
        self.file.sync_all().map_err(|error| self.failed(error))?;
        let digest = digest_of(self.hasher);
        Ok(Staged { digest, size: self.size, temporary: self.temporary })
    }

    fn failed(&self, error: std::io::Error) -> RegistryError {
        RegistryError::storage(format!("store `{}`", self.name))(error.into())
    }
}

// === impl Temporary ===

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.moved {
            // What stays behind is removed with the folder.
            let _ = fs_err::remove_file(&self.path);
        }
    }
}

fn digest_of(hasher: Sha256) -> Digest {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in hasher.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text.parse().expect("64 hex digits were written")
}
