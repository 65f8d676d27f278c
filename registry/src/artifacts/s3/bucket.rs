//! The objects of a store, by digest.

use std::sync::Arc;

use ev_models_core::Digest;
use futures_util::TryStreamExt as _;
use object_store::{
    Error, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt as _, path::Path as ObjectPath,
};
use tokio::sync::Semaphore;

use super::S3Options;
use crate::{RegistryError, StoredFile};

/// Pieces of files that are in memory on their way to the store, of all uploads together: 64 MiB.
const SENDING_MAX: usize = 8;

/// Objects `<prefix>/sha256/<first two digits>/<digest>`.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) store: Arc<dyn ObjectStore>,
    /// A permit for every piece that is in memory.
    pub(super) sending: Arc<Semaphore>,
    // As operators wrote it: for messages.
    url: String,
    prefix: ObjectPath,
}

// === impl Bucket ===

impl Bucket {
    pub(super) fn new(options: &S3Options) -> Result<Bucket, RegistryError> {
        let (store, prefix) = options.connect()?;
        Ok(Bucket { store, sending: Arc::new(Semaphore::new(SENDING_MAX)), url: options.url.clone(), prefix })
    }

    pub(super) fn object(&self, digest: &Digest) -> ObjectPath {
        let hex = digest.hex();
        self.prefix.clone().join("sha256").join(&hex[..2]).join(hex)
    }

    /// Objects whose digest begins with a byte.
    pub(super) async fn list(&self, first_byte: u8) -> Result<Vec<StoredFile>, RegistryError> {
        let folder = self.prefix.clone().join("sha256").join(format!("{first_byte:02x}"));
        let listed: Result<Vec<ObjectMeta>, Error> = self.store.list(Some(&folder)).try_collect().await;
        let listed = listed.map_err(|error| self.failed("list stored files", error))?;
        // What has another name than a digest is not ours.
        Ok(listed.iter().filter_map(stored).collect())
    }

    pub(super) async fn head(&self, digest: &Digest) -> Result<Option<ObjectMeta>, RegistryError> {
        match self.store.head(&self.object(digest)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("look for a stored file", error)),
        }
    }

    /// An object from a byte on; none where there is no such object.
    pub(super) async fn get(&self, digest: &Digest, from: u64) -> Result<Option<GetResult>, RegistryError> {
        let range = (from > 0).then_some(GetRange::Offset(from));
        match self.store.get_opts(&self.object(digest), GetOptions { range, ..GetOptions::default() }).await {
            Ok(got) => Ok(Some(got)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read a stored file", error)),
        }
    }

    /// Deletes an object that is as it was listed; false where it is not.
    pub(super) async fn remove(&self, file: &StoredFile) -> Result<bool, RegistryError> {
        // A listing tells milliseconds, a question about one object seconds.
        let same = |now: ObjectMeta| {
            now.size == file.size && now.last_modified.timestamp() == file.stored_at_ms.div_euclid(1000)
        };
        if !self.head(&file.digest).await?.is_some_and(same) {
            return Ok(false);
        }
        match self.store.delete(&self.object(&file.digest)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(self.failed("delete a stored file", error)),
        }
    }

    /// A download that comes to no end.
    pub(super) fn silent(&self, received: u64, size: u64) -> RegistryError {
        let (doing, url) = ("read a stored file".to_owned(), self.url.clone());
        let source = format!("no more than {received} of {size} bytes come").into();
        RegistryError::StoreUnreachable { doing, url, source }
    }

    /// What is wrong, by what an operator does about it.
    pub(super) fn failed(&self, doing: &str, error: Error) -> RegistryError {
        let url = self.url.clone();
        let Some(problem) = refusal(&error) else {
            return RegistryError::StoreUnreachable { doing: doing.to_owned(), url, source: error.into() };
        };
        RegistryError::StoreRefused { url, problem: problem.to_owned(), source: Some(error.into()) }
    }
}

/// What no repetition helps against. Of requests that are about no single object, the library tells it by words only.
fn refusal(error: &Error) -> Option<&'static str> {
    const BUCKET: &str = "there is no such bucket; create it, or correct `registry.artifacts_url`";
    const CREDENTIALS: &str =
        "the credentials are not taken; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and what they may do there";
    const REGION: &str = "the bucket is in another region; correct AWS_REGION";
    const WORDS: &[(&str, &str)] = &[
        ("<Code>NoSuchBucket<", BUCKET),
        ("<Code>ExpiredToken<", CREDENTIALS),
        ("<Code>InvalidToken<", CREDENTIALS),
        ("<Code>AuthorizationHeaderMalformed<", REGION),
        ("incorrectly configured region", REGION),
        ("status code: 401 ", CREDENTIALS),
        ("status code: 403 ", CREDENTIALS),
    ];
    match error {
        Error::NotFound { .. } => Some(BUCKET),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Some(CREDENTIALS),
        error => {
            let text = error.to_string();
            WORDS.iter().find(|(word, _)| text.contains(word)).map(|(_, problem)| *problem)
        }
    }
}

fn stored(meta: &ObjectMeta) -> Option<StoredFile> {
    let digest = format!("sha256:{}", meta.location.filename()?).parse().ok()?;
    Some(StoredFile { digest, size: meta.size, stored_at_ms: meta.last_modified.timestamp_millis() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_repetition_helps_against_is_told_from_an_outage() {
        let check = |error: Error, expected: Option<&str>| {
            let found = refusal(&error);
            assert_eq!(found.is_some(), expected.is_some(), "{error}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{error}: {found:?}");
        };
        let generic = |text: &str| Error::Generic { store: "S3", source: text.to_owned().into() };
        let path = || "sha256".to_owned();
        check(Error::NotFound { path: path(), source: "404".into() }, Some("no such bucket"));
        check(Error::PermissionDenied { path: path(), source: "403".into() }, Some("AWS_ACCESS_KEY_ID"));
        check(Error::Unauthenticated { path: path(), source: "401".into() }, Some("AWS_ACCESS_KEY_ID"));
        check(generic("status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>"), Some("no such bucket"));
        check(generic("status code: 403 Forbidden: "), Some("AWS_ACCESS_KEY_ID"));
        check(generic("400 Bad Request: <Error><Code>ExpiredToken</Code></Error>"), Some("AWS_ACCESS_KEY_ID"));
        let redirect = "Received redirect without LOCATION, this normally indicates an incorrectly configured region";
        check(generic(redirect), Some("AWS_REGION"));
        check(generic("400: <Error><Code>AuthorizationHeaderMalformed</Code></Error>"), Some("AWS_REGION"));
        check(generic("connection refused"), None);
        check(generic("503: <Error><Code>SlowDown</Code></Error>"), None);
    }
}
