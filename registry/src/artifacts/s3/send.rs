//! Files on their way to the store.

use std::{io::Read as _, path::PathBuf, sync::Arc};

use bytes::Bytes;
use ev_models_core::Digest;
use fs_err::File;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
};

use super::bucket::Bucket;
use crate::{RegistryError, Staged, artifacts::content::digest_of, blocking::blocking};

/// Bytes of a part of a large file. S3 takes 10,000 of them, 80 GiB, and none but the last below 5 MiB.
const PART_BYTES: usize = 8 << 20;
/// Parts of one file that are sent at one time.
const CONCURRENT_PARTS: usize = 4;

/// A staged file in parts, its digest found as it is read.
struct Source {
    sending: Arc<Semaphore>,
    path: PathBuf,
    expected: Digest,
    open: Option<(File, Sha256)>,
}

/// Bytes in memory, as few of them as there are permits.
struct Part {
    bytes: Bytes,
    permit: OwnedSemaphorePermit,
}

// === impl Bucket ===

impl Bucket {
    /// Sends a file that is safe on the local disk. A large one goes in parts, and is there with the last of them.
    pub(super) async fn send(&self, staged: &Staged) -> Result<(), RegistryError> {
        let (path, expected) = (staged.path().to_owned(), staged.digest());
        let mut source = Source { sending: self.sending.clone(), path, expected, open: None };
        let first = source.next().await?;
        let object = self.object(&expected);
        if first.bytes.len() < PART_BYTES {
            source.check()?;
            let sent = self.store.put(&object, PutPayload::from(first.bytes)).await;
            return sent.map(drop).map_err(|error| self.failed("send a file", error));
        }
        let begun = self.store.put_multipart(&object).await;
        let mut upload = begun.map_err(|error| self.failed("begin to send a file", error))?;
        let sent = self.send_parts(&mut *upload, &mut source, first).await;
        if sent.is_err() {
            // What stays behind is not readable, and goes by the bucket's own rule for uploads that have not ended.
            let _ = upload.abort().await;
        }
        sent
    }

    async fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        source: &mut Source,
        first: Part,
    ) -> Result<(), RegistryError> {
        let failed = |error| self.failed("send a part of a file", error);
        let mut sending: JoinSet<Result<(), object_store::Error>> = JoinSet::new();
        let mut next = Some(first);
        while let Some(Part { bytes, permit }) = next {
            while sending.len() >= CONCURRENT_PARTS
                && let Some(sent) = sending.join_next().await
            {
                joined(sent)?.map_err(failed)?;
            }
            let part = upload.put_part(PutPayload::from(bytes));
            sending.spawn(async move {
                let sent = part.await;
                drop(permit);
                sent
            });
            next = Some(source.next().await?).filter(|part| !part.bytes.is_empty());
        }
        while let Some(sent) = sending.join_next().await {
            joined(sent)?.map_err(failed)?;
        }
        // Before anybody can read it.
        source.check()?;
        upload.complete().await.map(drop).map_err(|error| self.failed("end a file", error))
    }
}

// === impl Source ===

impl Source {
    /// The next part; a short one is the last, and an empty one is none.
    async fn next(&mut self) -> Result<Part, RegistryError> {
        let permit = self.sending.clone().acquire_owned().await.map_err(|_| RegistryError::ShuttingDown)?;
        let (open, path) = (self.open.take(), self.path.clone());
        let (open, bytes) = blocking(move || {
            let failed = |error: std::io::Error| RegistryError::storage("read a staged file")(error.into());
            let (mut file, mut hasher) = match open {
                Some(open) => open,
                None => (File::open(path).map_err(failed)?, Sha256::new()),
            };
            let mut bytes = Vec::new();
            (&mut file).take(PART_BYTES as u64).read_to_end(&mut bytes).map_err(failed)?;
            hasher.update(&bytes);
            Ok(((file, hasher), Bytes::from(bytes)))
        })
        .await?;
        self.open = Some(open);
        Ok(Part { bytes, permit })
    }

    /// Refuses a file that changed since it was staged.
    fn check(&self) -> Result<(), RegistryError> {
        let found = self.open.as_ref().map_or(self.expected, |(_, hasher)| digest_of(hasher));
        if found == self.expected {
            return Ok(());
        }
        Err(RegistryError::Corrupt { file: self.path.display().to_string(), expected: self.expected, found })
    }
}

/// What a task came to; a panic goes on here.
fn joined<T>(task: Result<T, JoinError>) -> Result<T, RegistryError> {
    task.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => RegistryError::ShuttingDown,
    })
}
