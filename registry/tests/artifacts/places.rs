//! Where artifacts are kept, and how a test breaks them there.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use ev_models_core::Digest;
use ev_registry::{
    ArtifactStore, DirectoryArtifactStore, Limits, Registry, S3ArtifactStore, S3Options, SqliteMetadataStore,
    StagedLimits,
};
use futures_util::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, aws::AmazonS3Builder, path::Path as ObjectPath};

pub(crate) const NOW_MS: i64 = 1_767_225_600_000;
/// More than any test keeps.
pub(crate) const CACHE_BYTES: u64 = 1 << 30;
const SERVER: &str = "EVSERVE_TEST_S3";
const BUCKET: &str = "evserve-test";

/// A store of some kind, empty.
#[async_trait]
pub(crate) trait Place: Sized + Send + Sync {
    /// None, with a printed reason, where there is no server for it.
    fn empty() -> Option<Self>;
    /// Opens another handle, as another process on another machine would.
    async fn open(&self) -> Arc<dyn ArtifactStore>;
    /// A registry over such a handle, and a database that all of them share.
    async fn registry(&self) -> Registry {
        let metadata = SqliteMetadataStore::open(&self.directory().join("registry.db")).await.unwrap();
        Registry::with_stores(self.open().await, Arc::new(metadata), Limits::default())
    }
    /// What is stored, past the store.
    async fn stored(&self) -> BTreeSet<Digest>;
    /// Puts other bytes in a stored file's place; none: deletes it.
    async fn damage(&self, digest: &Digest, bytes: Option<&[u8]>);
    fn directory(&self) -> PathBuf;
}

pub(crate) struct Directory(tempfile::TempDir);

/// A prefix of its own in the bucket of the server.
pub(crate) struct S3 {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) bucket: object_store::aws::AmazonS3,
    pub(crate) prefix: String,
}

/// What a process is told of the server.
pub(crate) fn settings(endpoint: Option<&str>) -> Vec<(String, String)> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let settings = [
        ("aws_endpoint_url", endpoint.map_or_else(|| variable(SERVER), str::to_owned)),
        ("aws_access_key_id", variable("EVSERVE_TEST_S3_ACCESS_KEY_ID")),
        ("aws_secret_access_key", variable("EVSERVE_TEST_S3_SECRET_ACCESS_KEY")),
        ("aws_region", "us-east-1".to_owned()),
    ];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

// === impl Directory ===

impl Directory {
    fn place(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.0.path().join("artifacts/sha256").join(&hex[..2]).join(hex)
    }
}

#[async_trait]
impl Place for Directory {
    fn empty() -> Option<Directory> {
        Some(Directory(tempfile::tempdir().unwrap()))
    }

    async fn open(&self) -> Arc<dyn ArtifactStore> {
        let root = self.0.path().join("artifacts");
        Arc::new(DirectoryArtifactStore::open(root, StagedLimits::default()).await.unwrap())
    }

    async fn stored(&self) -> BTreeSet<Digest> {
        let folders = fs_err::read_dir(self.0.path().join("artifacts/sha256")).unwrap().flatten();
        let files = folders.flat_map(|folder| fs_err::read_dir(folder.path()).unwrap().flatten());
        files.map(|file| format!("sha256:{}", file.file_name().to_str().unwrap()).parse().unwrap()).collect()
    }

    async fn damage(&self, digest: &Digest, bytes: Option<&[u8]>) {
        fs_err::remove_file(self.place(digest)).unwrap();
        if let Some(bytes) = bytes {
            fs_err::write(self.place(digest), bytes).unwrap();
        }
    }

    fn directory(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

// === impl S3 ===

impl S3 {
    pub(crate) fn options(&self, endpoint: Option<&str>) -> S3Options {
        let url = format!("s3://{BUCKET}/{}", self.prefix);
        S3Options { url, settings: settings(endpoint), cache_max_bytes: CACHE_BYTES }
    }

    /// A handle with a cache of this name, which asks this endpoint.
    pub(crate) async fn open_with(&self, cache: &str, options: &S3Options) -> S3ArtifactStore {
        S3ArtifactStore::open(options, self.dir.path().join(cache), StagedLimits::default()).await.unwrap()
    }

    pub(crate) fn object(&self, digest: &Digest) -> ObjectPath {
        let hex = digest.hex();
        ObjectPath::from(format!("{}/sha256/{}/{hex}", self.prefix, &hex[..2]))
    }
}

#[async_trait]
impl Place for S3 {
    fn empty() -> Option<S3> {
        if std::env::var_os(SERVER).is_none() {
            println!("skipped: {SERVER} names no S3 server");
            return None;
        }
        let mut builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_allow_http(true);
        for (name, value) in settings(None) {
            builder = builder.with_config(name.parse().unwrap(), value);
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let bucket = builder.build().unwrap();
        let prefix = format!("test/{:016x}", fastrand::u64(..));
        Some(S3 { dir: tempfile::tempdir().unwrap(), bucket, prefix })
    }

    async fn open(&self) -> Arc<dyn ArtifactStore> {
        let cache = format!("cache-{:016x}", fastrand::u64(..));
        Arc::new(self.open_with(&cache, &self.options(None)).await)
    }

    async fn stored(&self) -> BTreeSet<Digest> {
        let prefix = ObjectPath::from(self.prefix.as_str());
        let objects: Vec<_> = self.bucket.list(Some(&prefix)).try_collect().await.unwrap();
        let name = |object: &object_store::ObjectMeta| format!("sha256:{}", object.location.filename().unwrap());
        objects.iter().map(|object| name(object).parse().unwrap()).collect()
    }

    async fn damage(&self, digest: &Digest, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => drop(self.bucket.put(&self.object(digest), bytes.to_vec().into()).await.unwrap()),
            None => self.bucket.delete(&self.object(digest)).await.unwrap(),
        }
    }

    fn directory(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

/// A model `name` with the head `model.ubj`.
pub(crate) fn manifest(name: &str) -> String {
    format!(
        r#"
        [model]
        name = "{name}"
        task = "generic"
        description = "Adds one."
        backend = "forest"
        license = "Apache-2.0"
        [[inputs]]
        name = "x"
        dtype = "FP32"
        [[heads]]
        name = "point"
        file = "model.ubj"
        [[outputs]]
        name = "y"
        kind = "prediction"
        "#
    )
}

/// Bytes that begin as no pickle and no archive does; quick to make, also in a debug build.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let block: Vec<u8> = b"model".iter().copied().chain((5..4096).map(|_| random.u8(..))).collect();
    let mut noise = Vec::with_capacity(bytes);
    for number in 0.. {
        let rest = bytes - noise.len();
        if rest == 0 {
            break;
        }
        noise.extend_from_slice(&block[..rest.min(block.len())]);
        // No two blocks are one.
        if let Some(place) = noise.get_mut(number * 4096 + 8..number * 4096 + 16) {
            place.copy_from_slice(&number.to_le_bytes());
        }
    }
    noise
}
