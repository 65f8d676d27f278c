//! Files on their way from the store.

use bytes::{Bytes, BytesMut};
use ev_models_core::manifest::FileEntry;
use futures_util::{StreamExt as _, stream::BoxStream};
use object_store::Error;
use tokio::sync::Mutex;

use super::bucket::Bucket;
use crate::{
    Partials, RegistryError, Staged,
    artifacts::{Come, Partial},
    blocking::blocking,
};

/// Files that come at one time.
const CONCURRENT_DOWNLOADS: usize = 32;
/// Attempts of a download in which not one byte came.
const IDLE_ATTEMPTS_MAX: u32 = 3;
/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Brings files to the local disk. One that was cut off goes on from there, also after a restart.
#[derive(Debug)]
pub(super) struct Downloads {
    pub(super) partials: Partials,
    // By the digest: who waits finds the file in the cache.
    turns: Vec<Mutex<()>>,
}

/// How a download ended.
enum Ended {
    Whole,
    Cut(Option<RegistryError>),
}

// === impl Downloads ===

impl Downloads {
    pub(super) fn new(partials: Partials) -> Downloads {
        Downloads { partials, turns: (0..CONCURRENT_DOWNLOADS).map(|_| Mutex::new(())).collect() }
    }

    /// Waits until nobody else downloads this file.
    pub(super) async fn turn(&self, file: &FileEntry) -> tokio::sync::MutexGuard<'_, ()> {
        let byte = u8::from_str_radix(&file.sha256.hex()[..2], 16).unwrap_or_default();
        self.turns[usize::from(byte) % CONCURRENT_DOWNLOADS].lock().await
    }

    /// A file, verified.
    pub(super) async fn bring(&self, bucket: &Bucket, file: &FileEntry) -> Result<Staged, RegistryError> {
        let had = blocking_come(self.partials.partial(file)).await?;
        match self.attempt(bucket, file).await {
            // What had come before was of another content, perhaps, and is gone now.
            Err(RegistryError::Corrupt { .. } | RegistryError::Damaged { .. }) if had > 0 => {
                self.attempt(bucket, file).await
            }
            brought => brought,
        }
    }

    async fn attempt(&self, bucket: &Bucket, file: &FileEntry) -> Result<Staged, RegistryError> {
        let (mut partial, mut idle) = (self.partials.partial(file), 0);
        loop {
            let (partials, wanted) = (self.partials.clone(), file.clone());
            // Whatever was given up makes room, however lately.
            blocking(move || partials.begin(&[wanted], i64::MAX)).await?;
            let begin = blocking_come(self.partials.partial(file)).await?;
            let (back, ended) = receive(bucket, file, partial, begin).await?;
            partial = back;
            let cause = match ended {
                Ended::Whole => break,
                Ended::Cut(cause) => cause,
            };
            let at = blocking_come(self.partials.partial(file)).await?;
            idle = if at > begin { 0 } else { idle + 1 };
            if idle >= IDLE_ATTEMPTS_MAX {
                return Err(cause.unwrap_or_else(|| bucket.silent(at, file.size)));
            }
            tracing::info!(received_bytes = at, size_bytes = file.size, "a download was cut off; going on with it");
        }
        match blocking(move || partial.finish()).await.map_err(corrupt)? {
            Ok(staged) => Ok(staged),
            // Removed at this moment, to make room for others.
            Err(_) => Err(bucket.silent(0, file.size)),
        }
    }
}

/// Takes what comes from a byte on.
async fn receive(
    bucket: &Bucket,
    file: &FileEntry,
    mut partial: Partial,
    begin: u64,
) -> Result<(Partial, Ended), RegistryError> {
    if begin >= file.size {
        return Ok((partial, Ended::Whole));
    }
    let lost = || RegistryError::Lost { file: file.path.clone(), expected: file.sha256 };
    let got = bucket.get(&file.sha256, begin).await?.ok_or_else(lost)?;
    if got.meta.size != file.size {
        let problem = format!("it has {} bytes, expected {}", got.meta.size, file.size);
        return Err(RegistryError::Damaged { file: file.path.clone(), problem });
    }
    let (mut pieces, mut at) = (got.into_stream(), begin);
    loop {
        let (bytes, end) = gather(&mut pieces).await;
        let count = bytes.len() as u64;
        if count > 0 {
            let written = blocking(move || {
                let come = partial.write(at, &bytes)?;
                Ok((partial, come))
            });
            let come;
            (partial, come) = written.await.map_err(corrupt)?;
            // Removed to make room for others: it begins anew.
            if come == Come::Gone {
                return Ok((partial, Ended::Cut(None)));
            }
            at += count;
        }
        match end {
            None => {}
            Some(Ok(())) if at >= file.size => return Ok((partial, Ended::Whole)),
            Some(Ok(())) => return Ok((partial, Ended::Cut(None))),
            Some(Err(error)) => {
                return Ok((partial, Ended::Cut(Some(bucket.failed("read a stored file", error)))));
            }
        }
    }
}

/// Some of what comes, and how it ended, if it has.
async fn gather(pieces: &mut BoxStream<'static, object_store::Result<Bytes>>) -> (Bytes, Option<Result<(), Error>>) {
    let mut gathered = BytesMut::new();
    while gathered.len() < WRITE_BYTES {
        match pieces.next().await {
            Some(Ok(bytes)) => gathered.extend_from_slice(&bytes),
            Some(Err(error)) => return (gathered.freeze(), Some(Err(error))),
            None => return (gathered.freeze(), Some(Ok(()))),
        }
    }
    (gathered.freeze(), None)
}

async fn blocking_come(partial: Partial) -> Result<u64, RegistryError> {
    blocking(move || {
        Ok(match partial.come()? {
            Come::To(come) => come,
            Come::Gone => 0,
        })
    })
    .await
}

/// What came from the store is told as what is stored.
fn corrupt(error: RegistryError) -> RegistryError {
    match error {
        RegistryError::DigestMismatch { file, expected, found } => RegistryError::Corrupt { file, expected, found },
        RegistryError::RefusedFile { file, problem } => RegistryError::Damaged { file, problem },
        error => error,
    }
}
