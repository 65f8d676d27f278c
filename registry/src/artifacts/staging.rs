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

use super::content::Content;
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

/// A file that was taken whole and is safe on disk, but not readable yet. Dropping it removes it, but for one that came
/// over several connections.
#[derive(Debug)]
pub struct Staged {
    digest: Digest,
    size: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Temporary(Temporary),
    /// A file that came over several connections, under its lock: nobody else moves or removes it.
    Partial(PathBuf, File),
}

#[derive(Debug)]
struct Open {
    name: String,
    file: File,
    content: Content,
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
        let open = Open { name: name.to_owned(), file, content: Content::new(name), max_bytes, temporary };
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
        self.open.as_ref().map_or(0, |open| open.content.size())
    }
}

// === impl Staged ===

impl Staged {
    /// A file that came over several connections, verified, synced and locked.
    pub(super) fn of_partial(file: &FileEntry, path: PathBuf, locked: File) -> Staged {
        Staged { digest: file.sha256, size: file.size, place: Place::Partial(path, locked) }
    }

    /// Digest of its bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where its bytes lie until it is committed.
    pub(super) fn path(&self) -> &Path {
        match &self.place {
            Place::Temporary(temporary) => &temporary.path,
            Place::Partial(path, _) => path,
        }
    }

    /// As an entry of a manifest's `[[files]]`.
    #[must_use]
    pub fn entry(&self, path: impl Into<String>) -> FileEntry {
        FileEntry { path: path.into(), sha256: self.digest, size: self.size }
    }

    /// Moves it to its place, replacing what is there in one step.
    pub(super) fn move_to(self, place: &Path) -> Result<(), RegistryError> {
        let failed = |error: std::io::Error| RegistryError::storage("move a file into the store")(error.into());
        match self.place {
            Place::Temporary(mut temporary) => {
                fs_err::rename(&temporary.path, place).map_err(failed)?;
                temporary.moved = true;
            }
            Place::Partial(path, file) => {
                fs_err::rename(path, place).map_err(failed)?;
                // Only now: what is cut off before this must be writable for the next connection.
                read_only(&file).map_err(failed)?;
            }
        }
        Ok(())
    }
}

// === impl Open ===

impl Open {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RegistryError> {
        if self.content.size().saturating_add(bytes.len() as u64) > self.max_bytes {
            let what = format!("`{}`", self.name);
            return Err(RegistryError::TooLarge { what, max_bytes: self.max_bytes });
        }
        // Looked at before it is written: what is refused takes no room.
        self.content.update(bytes)?;
        self.file.write_all(bytes).map_err(|error| self.failed(error))
    }

    fn finish(self) -> Result<Staged, RegistryError> {
        read_only(&self.file).map_err(|error| self.failed(error))?;
        self.file.sync_all().map_err(|error| self.failed(error))?;
        let (digest, size) = (self.content.digest(), self.content.size());
        Ok(Staged { digest, size, place: Place::Temporary(self.temporary) })
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

fn read_only(file: &File) -> std::io::Result<()> {
    let mut permissions = file.metadata()?.permissions();
    permissions.set_readonly(true);
    file.set_permissions(permissions)
}
