//! Files that come over several connections.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use ev_models_core::manifest::FileEntry;
use fs_err::{File, OpenOptions};

use super::{Staged, StagedCounts, Swept, content::Content};
use crate::{Collected, RegistryError, StagedLimits, lock::FileLock};

const LOCK: &str = "lock";
/// Bytes read at once of what others have written.
const CHUNK_BYTES: usize = 1 << 20;
/// A file that nobody has written to for so long makes room for others, the one written to longest ago first.
const IDLE: Duration = Duration::from_secs(600);

/// Where files lie that have not come whole, as `<digest in hex>.<size>`: what they shall be is their name.
///
/// Several processes may use one folder. A file is written, renamed and removed only under its own lock, and by whoever
/// finds it still in its place then.
#[derive(Debug, Clone)]
pub struct Partials {
    folder: PathBuf,
    limits: StagedLimits,
    counts: Arc<StagedCounts>,
}

/// A file that comes over several connections, some of them perhaps at one time.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: FileEntry,
    seen: Option<Seen>,
}

/// What a partial file holds that has been read or written here.
#[derive(Debug)]
struct Seen {
    inode: (u64, u64),
    content: Content,
}

/// How far a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Come {
    /// To this byte; bytes that were sent from further on were not taken.
    To(u64),
    /// It is not there: it was stored, or removed.
    Gone,
}

/// A file of the folder.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    size: u64,
    received: u64,
    written_at_ms: i64,
}

// === impl Partials ===

impl Partials {
    /// Opens the folder, made where there is none.
    pub(super) fn open(folder: PathBuf, limits: StagedLimits) -> Result<Partials, RegistryError> {
        fs_err::create_dir_all(&folder).map_err(|error| RegistryError::unwritable(&folder, error))?;
        Ok(Partials { folder, limits, counts: Arc::default() })
    }

    /// What lies, as it was last looked at, and what became of others.
    pub(crate) fn counts(&self) -> &Arc<StagedCounts> {
        &self.counts
    }

    /// Looks at what lies.
    pub(crate) fn count(&self) -> Result<(), RegistryError> {
        let found = self.list()?;
        let bytes = found.iter().map(|found| found.size).fold(0, u64::saturating_add);
        self.counts.lie(found.len() as u64, bytes);
        Ok(())
    }

    /// A file that has begun or may begin.
    pub(crate) fn partial(&self, file: &FileEntry) -> Partial {
        let path = self.folder.join(format!("{}.{}", file.sha256.hex(), file.size));
        Partial { path, file: file.clone(), seen: None }
    }

    /// Begins those of some files that have not, if there is room for all of them.
    pub(crate) fn begin(&self, files: &[FileEntry], now_ms: i64) -> Result<(), RegistryError> {
        let _lock = FileLock::acquire(&self.folder.join(LOCK))?;
        let mut found = self.list()?;
        let paths: BTreeSet<PathBuf> = found.iter().map(|found| found.path.clone()).collect();
        let mut new: Vec<Partial> = files.iter().map(|file| self.partial(file)).collect();
        new.retain(|partial| !paths.contains(&partial.path));
        new.sort_by(|a, b| a.path.cmp(&b.path));
        new.dedup_by(|a, b| a.path == b.path);
        let mut bytes = new.iter().map(|partial| partial.file.size).fold(0, u64::saturating_add);
        bytes = found.iter().map(|found| found.size).fold(bytes, u64::saturating_add);
        let mut count = found.len() + new.len();
        let StagedLimits { max_bytes, max_files } = self.limits;
        let idle_before_ms = now_ms.saturating_sub(millis(IDLE));
        let ours: BTreeSet<PathBuf> = files.iter().map(|file| self.partial(file).path).collect();
        let is_resumed = found.iter().any(|found| found.received > 0 && ours.contains(&found.path));
        found.retain(|found| found.written_at_ms < idle_before_ms && !ours.contains(&found.path));
        found.sort_by_key(|found| std::cmp::Reverse(found.written_at_ms));
        while bytes > max_bytes || count > max_files {
            let Some(oldest) = found.pop() else {
                let (what, max) = if bytes > max_bytes { ("bytes", max_bytes) } else { ("files", max_files as u64) };
                return Err(RegistryError::StagingFull { what, max });
            };
            if remove_idle(&oldest.path)? {
                tracing::info!(size_bytes = oldest.size, "a file of an upload that has stopped made room for another");
                self.counts.count_swept(Swept::Displaced);
                bytes = bytes.saturating_sub(oldest.size);
                count -= 1;
            }
        }
        for partial in new {
            let created = OpenOptions::new().write(true).create_new(true).open(&partial.path);
            created.map_err(|error| RegistryError::unwritable(&partial.path, error))?;
        }
        if is_resumed {
            self.counts.count_resumed();
        }
        self.counts.lie(count as u64, bytes);
        Ok(())
    }

    /// Removes files that nobody has written to since.
    pub(crate) fn sweep(&self, before_ms: i64) -> Result<Collected, RegistryError> {
        let _lock = FileLock::acquire(&self.folder.join(LOCK))?;
        let mut swept = Collected::default();
        for found in self.list()?.into_iter().filter(|found| found.written_at_ms < before_ms) {
            if remove_idle(&found.path)? {
                self.counts.count_swept(Swept::GivenUp);
                swept.files += 1;
                swept.bytes += found.size;
            }
        }
        Ok(swept)
    }

    fn list(&self) -> Result<Vec<Found>, RegistryError> {
        let entries = fs_err::read_dir(&self.folder)
            .map_err(|error| RegistryError::storage("list staged files")(error.into()))?;
        // What has another name is not ours, and what is gone meanwhile takes no room.
        let found = |path: PathBuf| {
            let (_, size) = path.file_name()?.to_str()?.split_once('.')?;
            let (size, seen) = (size.parse().ok()?, fs_err::metadata(&path).ok()?);
            let since = seen.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            Some(Found { path, size, received: seen.len(), written_at_ms: millis(since) })
        };
        Ok(entries.flatten().filter_map(|entry| found(entry.path())).collect())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Removes a file unless somebody works on it at this moment.
fn remove_idle(path: &Path) -> Result<bool, RegistryError> {
    let Some(_lock) = FileLock::try_acquire(path) else { return Ok(false) };
    match fs_err::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(RegistryError::storage("delete a staged file")(error.into())),
    }
}

// === impl Partial ===

impl Partial {
    /// How far it has come.
    pub(crate) fn come(&self) -> Result<Come, RegistryError> {
        match fs_err::metadata(&self.path) {
            Ok(seen) => Ok(Come::To(seen.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Come::Gone),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Takes bytes that lie at `offset`, those of them that have not come before.
    ///
    /// The last one verifies the digest, and removes a file that is another.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<Come, RegistryError> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.file.size {
            let (file, expected) = (self.file.path.clone(), self.file.size);
            return Err(RegistryError::SizeMismatch { file, expected, found: end });
        }
        let Some(mut file) = self.lock()? else { return Ok(Come::Gone) };
        let come = self.catch_up(&mut file)?;
        if offset > come {
            return Ok(Come::To(come));
        }
        let known = usize::try_from(come - offset).unwrap_or(usize::MAX).min(bytes.len());
        let fresh = &bytes[known..];
        if !fresh.is_empty() {
            // Looked at before it is written: what is refused takes no room.
            self.take(fresh)?;
            if let Err(error) = file.write_all(fresh) {
                self.seen = None;
                return Err(self.failed(error));
            }
        }
        let come = come + fresh.len() as u64;
        if come == self.file.size {
            self.check()?;
        }
        Ok(Come::To(come))
    }

    /// The whole file, safe on disk and ready to be stored, or how far it has come.
    ///
    /// Nobody else touches it until what is returned is committed or dropped; dropped, it stays.
    pub(crate) fn finish(mut self) -> Result<Result<Staged, Come>, RegistryError> {
        let Some(mut file) = self.lock()? else { return Ok(Err(Come::Gone)) };
        let come = self.catch_up(&mut file)?;
        if come < self.file.size {
            return Ok(Err(Come::To(come)));
        }
        self.check()?;
        file.sync_all().map_err(|error| self.failed(error))?;
        Ok(Ok(Staged::of_partial(&self.file, self.path, file)))
    }

    /// The file under its lock; none where it is not in its place.
    fn lock(&self) -> Result<Option<File>, RegistryError> {
        loop {
            let file = match OpenOptions::new().read(true).append(true).open(&self.path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(self.failed(error)),
            };
            file.lock().map_err(|error| self.failed(error))?;
            // It may have been stored or removed between the opening and the lock, and another begun.
            let ours = file.metadata().map_err(|error| self.failed(error))?;
            match fs_err::metadata(&self.path) {
                Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => return Ok(Some(file)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Reads what others, or connections before, have written. The file is locked.
    fn catch_up(&mut self, file: &mut File) -> Result<u64, RegistryError> {
        let now = file.metadata().map_err(|error| self.failed(error))?;
        let inode = (now.dev(), now.ino());
        if self.seen.as_ref().is_none_or(|seen| seen.inode != inode || seen.content.size() > now.len()) {
            self.seen = Some(Seen { inode, content: Content::new(&self.file.path) });
        }
        let mut at = self.seen.as_ref().map_or(0, |seen| seen.content.size());
        if at < now.len() {
            file.seek(SeekFrom::Start(at)).map_err(|error| self.failed(error))?;
            let left = usize::try_from(now.len() - at).unwrap_or(usize::MAX);
            let mut buffer = vec![0; CHUNK_BYTES.min(left)];
            while at < now.len() {
                let count = match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(self.failed(error)),
                };
                self.take(&buffer[..count])?;
                at += count as u64;
            }
        }
        if at > self.file.size {
            // Nothing here writes that much.
            self.refuse();
            return Err(self.mismatch());
        }
        Ok(at)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), RegistryError> {
        let taken = match &mut self.seen {
            Some(seen) => seen.content.update(bytes),
            None => Err(RegistryError::UploadFailed),
        };
        if taken.is_err() {
            self.refuse();
        }
        taken
    }

    /// Refuses a file that came whole and is another. The file is locked.
    fn check(&mut self) -> Result<(), RegistryError> {
        let found = self.seen.as_ref().map(|seen| seen.content.digest());
        if found == Some(self.file.sha256) {
            return Ok(());
        }
        let mismatch = self.mismatch();
        self.refuse();
        Err(mismatch)
    }

    fn mismatch(&self) -> RegistryError {
        let FileEntry { path, sha256: expected, .. } = self.file.clone();
        let found = self.seen.as_ref().map_or(expected, |seen| seen.content.digest());
        RegistryError::DigestMismatch { file: path, expected, found }
    }

    /// Removes what can never become the file: the next one who sends it begins anew. The file is locked.
    fn refuse(&mut self) {
        self.seen = None;
        // What stays behind is found to be wrong again.
        let _ = fs_err::remove_file(&self.path);
    }

    fn failed(&self, error: std::io::Error) -> RegistryError {
        RegistryError::storage(format!("store `{}`", self.file.path))(error.into())
    }
}
