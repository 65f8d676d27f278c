//! A version's directory as a stream of pieces, which goes on where one before it was cut off.

use std::{
    collections::BTreeSet,
    io::{self, SeekFrom},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ev_proto::ev::registry::v1::{
    FileChunk, GetUploadRequest, RegisterVersionRequest, UploadFile, UploadStart, register_version_request::Part,
};
use fs_err::tokio as fs;
use futures_core::Stream;
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::oneshot,
};

use crate::Error;

const CHUNK_SIZE_BYTES: usize = 256 << 10;
const MANIFEST: &str = "manifest.toml";
/// The model card, part of the version where there is one.
const CARD: &str = "README.md";

/// What happens to an upload.
#[derive(Debug)]
#[non_exhaustive]
pub enum UploadEvent<'a> {
    /// Another piece was handed to the connection.
    Sent(Progress<'a>),
    /// It goes on where an upload before it was cut off, or the server has some of the files already.
    Resumed {
        /// Bytes that need not be sent again.
        received_bytes: u64,
        /// Bytes of all files.
        total_bytes: u64,
    },
    /// It was cut off, and goes on by itself.
    Interrupted {
        /// Why.
        error: &'a Error,
        /// After so long.
        delay: Duration,
    },
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file being sent, as the manifest has it.
    pub file: &'a str,
    /// Bytes of all files that the server has or that were handed to the connection.
    pub sent_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
}

/// The files of an upload are at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest is not TOML.
    #[error("{} is not TOML", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The manifest names a file outside its directory.
    #[error("the manifest names `{file}`, which is not a path inside its directory")]
    Outside {
        /// As the manifest has it.
        file: String,
    },
    /// A file changed while it was sent.
    #[error("{} changed while it was sent", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// A version's directory, read as it is sent.
#[derive(Debug)]
pub(crate) struct Upload {
    directory: PathBuf,
    manifest: String,
    files: Vec<UploadFile>,
}

/// Whom an upload tells what happens to it.
#[derive(Clone)]
pub(crate) struct Listener(Arc<Mutex<Listening>>);

type Listening = dyn FnMut(UploadEvent<'_>) + Send;

/// Which bytes of an upload's files are sent.
#[derive(Debug, Clone)]
pub(crate) enum Rest {
    /// All, to a server that keeps nothing of an upload that is cut off.
    All,
    /// Those that it does not have: of each file, it has so many.
    After(Vec<u64>),
}

struct Sending {
    upload: Arc<Upload>,
    rest: Rest,
    listener: Listener,
    failed: Option<oneshot::Sender<UploadError>>,
    at: At,
    sent_bytes: u64,
}

enum At {
    Manifest,
    /// Before the file of this index.
    File(usize),
    /// In the file of this index, at this byte.
    Inside(usize, fs::File, u64),
}

// === impl Upload ===

impl Upload {
    pub(crate) async fn open(directory: &Path) -> Result<Upload, UploadError> {
        let path = directory.join(MANIFEST);
        let manifest =
            fs::read_to_string(&path).await.map_err(|source| UploadError::Unreadable { path: path.clone(), source })?;
        Upload::with_manifest(directory, manifest).await
    }

    /// The files of a directory that a manifest names, wherever it comes from.
    pub(crate) async fn with_manifest(directory: &Path, manifest: String) -> Result<Upload, UploadError> {
        let table = manifest
            .parse::<toml::Table>()
            .map_err(|source| UploadError::Manifest { path: directory.join(MANIFEST), source: Box::new(source) })?;
        let mut files = Vec::new();
        let mut names = named_files(&table);
        if fs::metadata(directory.join(CARD)).await.is_ok_and(|card| card.is_file()) {
            names.insert(CARD.to_owned());
        }
        for file in names {
            if !is_inside(&file) {
                return Err(UploadError::Outside { file });
            }
            let path = directory.join(&file);
            let (sha256, size_bytes) = digest_of(path.clone())
                .await
                .map_err(|source| UploadError::Unreadable { path: path.clone(), source })?;
            files.push(UploadFile { path: file, sha256, size_bytes });
        }
        Ok(Upload { directory: directory.to_owned(), manifest, files })
    }

    /// What a server is asked that may have some of it.
    pub(crate) fn question(&self) -> GetUploadRequest {
        GetUploadRequest { files: self.files.clone() }
    }

    /// The messages of the upload. After an error they stop without an end, and the error goes to `failed`.
    pub(crate) fn stream(
        self: &Arc<Upload>,
        rest: Rest,
        listener: Listener,
        failed: oneshot::Sender<UploadError>,
    ) -> impl Stream<Item = RegisterVersionRequest> + Send + 'static {
        let sent_bytes = rest.received_bytes();
        let upload = Arc::clone(self);
        let sending = Sending { upload, rest, listener, failed: Some(failed), at: At::Manifest, sent_bytes };
        stream::unfold(sending, |mut sending| async move {
            match sending.next().await {
                Ok(part) => part.map(|part| (RegisterVersionRequest { part: Some(part) }, sending)),
                Err(error) => {
                    if let Some(failed) = sending.failed.take() {
                        // The receiver is gone only when the call is.
                        let _ = failed.send(error);
                    }
                    std::future::pending().await
                }
            }
        })
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

// === impl Listener ===

impl Listener {
    pub(crate) fn new(listener: impl FnMut(UploadEvent<'_>) + Send + 'static) -> Listener {
        Listener(Arc::new(Mutex::new(listener)))
    }

    pub(crate) fn tell(&self, event: UploadEvent<'_>) {
        let mut listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listener(event);
    }
}

// === impl Rest ===

impl Rest {
    pub(crate) fn received_bytes(&self) -> u64 {
        match self {
            Rest::All => 0,
            Rest::After(received) => received.iter().sum(),
        }
    }

    /// Where the file of this index goes on.
    fn of(&self, index: usize) -> u64 {
        match self {
            Rest::All => 0,
            Rest::After(received) => received.get(index).copied().unwrap_or(0),
        }
    }
}

// === impl Sending ===

impl Sending {
    async fn next(&mut self) -> Result<Option<Part>, UploadError> {
        loop {
            match &mut self.at {
                At::Manifest => {
                    self.at = At::File(0);
                    let (manifest_toml, files) = (self.upload.manifest.clone(), self.upload.files.clone());
                    return Ok(Some(match self.rest {
                        Rest::All => Part::ManifestToml(manifest_toml),
                        Rest::After(_) => Part::Start(UploadStart { manifest_toml, files }),
                    }));
                }
                At::File(index) => {
                    let index = *index;
                    let Some(file) = self.upload.files.get(index) else { return Ok(None) };
                    let offset_bytes = self.rest.of(index);
                    if matches!(self.rest, Rest::After(_)) && offset_bytes >= file.size_bytes {
                        self.at = At::File(index + 1);
                        continue;
                    }
                    let path = self.upload.directory.join(&file.path);
                    let unreadable = |source| UploadError::Unreadable { path: path.clone(), source };
                    let mut opened = fs::File::open(&path).await.map_err(unreadable)?;
                    if offset_bytes > 0 {
                        opened.seek(SeekFrom::Start(offset_bytes)).await.map_err(unreadable)?;
                    }
                    if file.size_bytes == 0 {
                        self.at = At::File(index + 1);
                        return Ok(Some(Part::Chunk(FileChunk { path: file.path.clone(), ..FileChunk::default() })));
                    }
                    self.at = At::Inside(index, opened, offset_bytes);
                }
                At::Inside(index, _, at) if *at == self.upload.files[*index].size_bytes => {
                    self.at = At::File(*index + 1);
                }
                At::Inside(..) => return self.chunk().await.map(Some),
            }
        }
    }

    async fn chunk(&mut self) -> Result<Part, UploadError> {
        let At::Inside(index, reader, at) = &mut self.at else { unreachable!("called inside a file") };
        let UploadFile { path: file, size_bytes, .. } = &self.upload.files[*index];
        let path = || self.upload.directory.join(file);
        let mut data = vec![0; CHUNK_SIZE_BYTES];
        let read =
            reader.read(&mut data).await.map_err(|source| UploadError::Unreadable { path: path(), source })? as u64;
        if read == 0 || read > *size_bytes - *at {
            return Err(UploadError::Changed { path: path() });
        }
        data.truncate(usize::try_from(read).expect("at most CHUNK_SIZE_BYTES"));
        // Without the first message that announces it, a place in the file means nothing to a server.
        let offset_bytes = if matches!(self.rest, Rest::All) { 0 } else { *at };
        *at += read;
        self.sent_bytes += read;
        let total_bytes = self.upload.total_bytes();
        self.listener.tell(UploadEvent::Sent(Progress { file, sent_bytes: self.sent_bytes, total_bytes }));
        Ok(Part::Chunk(FileChunk { path: file.clone(), data, offset_bytes }))
    }
}

/// A file's digest and size; the work is done where it may block.
async fn digest_of(path: PathBuf) -> io::Result<(String, u64)> {
    let digest = tokio::task::spawn_blocking(move || {
        let (mut file, mut hasher) = (fs_err::File::open(path)?, Sha256::new());
        let size = io::copy(&mut file, &mut hasher)?;
        Ok((format!("sha256:{:x}", hasher.finalize()), size))
    });
    digest.await.map_err(io::Error::other)?
}

/// Files a manifest names: of heads, of variants' heads, of the preprocessing, of the golden requests, and those it lists.
fn named_files(manifest: &toml::Table) -> BTreeSet<String> {
    let tables = |table: &toml::Table, key: &str| {
        table
            .get(key)
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.as_table().cloned())
            .collect::<Vec<_>>()
    };
    let mut heads = tables(manifest, "heads");
    for variant in tables(manifest, "variants") {
        heads.extend(tables(&variant, "heads"));
    }
    let golden = manifest.get("golden").and_then(toml::Value::as_table);
    let of_heads = heads.iter().chain(golden).filter_map(|table| table.get("file"));
    let preprocessing = manifest.get("preprocessing").and_then(|table| table.get("hugging_face"));
    let listed = tables(manifest, "files");
    let listed = listed.iter().filter_map(|table| table.get("path"));
    of_heads.chain(preprocessing).chain(listed).filter_map(|file| file.as_str().map(str::to_owned)).collect()
}

fn is_inside(file: &str) -> bool {
    !file.is_empty() && Path::new(file).components().all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    const TOML: &str = r#"
        [[heads]]
        name = "point"
        file = "model.ubj"
        [preprocessing]
        hugging_face = "preprocessor_config.json"
        [golden]
        file = "golden.json"
        [[variants]]
        value = "x"
        [[variants.heads]]
        file = "sub/x.ubj"
        [[files]]
        path = "model.ubj"
    "#;

    fn directory(manifest: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        fs_err::write(directory.path().join(MANIFEST), manifest).expect("written");
        directory
    }

    /// What is sent, and what is told of it: bytes sent, of how many.
    async fn sent(upload: &Arc<Upload>, rest: Rest) -> (Vec<RegisterVersionRequest>, Vec<(u64, u64)>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (failed, _failure) = oneshot::channel();
        let told = Arc::clone(&seen);
        let listener = Listener::new(move |event| {
            let UploadEvent::Sent(Progress { sent_bytes, total_bytes, .. }) = event else { panic!("{event:?}") };
            told.lock().expect("lock").push((sent_bytes, total_bytes));
        });
        let parts = upload.stream(rest, listener, failed).collect().await;
        let seen = seen.lock().expect("lock").clone();
        (parts, seen)
    }

    fn names(upload: &Upload) -> Vec<(&str, u64)> {
        upload.files.iter().map(|file| (file.path.as_str(), file.size_bytes)).collect()
    }

    #[test]
    fn files_are_those_the_manifest_names() {
        let files = named_files(&TOML.parse().expect("TOML"));
        assert_eq!(
            files.into_iter().collect::<Vec<_>>(),
            ["golden.json", "model.ubj", "preprocessor_config.json", "sub/x.ubj"]
        );
    }

    #[test]
    fn paths_stay_inside() {
        for (file, inside) in [
            ("model.ubj", true),
            ("a/b", true),
            ("../x", false),
            ("/etc/hosts", false),
            ("a/../../b", false),
            ("", false),
        ] {
            assert_eq!(is_inside(file), inside, "{file}");
        }
    }

    #[tokio::test]
    async fn pieces_come_in_order_and_are_counted() {
        let directory = directory("[[heads]]\nfile = \"b\"\n[golden]\nfile = \"a\"\n");
        let long = vec![7u8; CHUNK_SIZE_BYTES + 5];
        fs_err::write(directory.path().join("b"), &long).expect("written");
        fs_err::write(directory.path().join("a"), b"").expect("written");

        let upload = Arc::new(Upload::open(directory.path()).await.expect("opened"));
        let (parts, seen) = sent(&upload, Rest::All).await;

        let mut sent = Vec::new();
        let mut paths = Vec::new();
        for request in &parts[1..] {
            let Some(Part::Chunk(chunk)) = &request.part else { panic!("a chunk") };
            paths.push(chunk.path.as_str());
            sent.extend_from_slice(&chunk.data);
        }
        assert!(matches!(&parts[0].part, Some(Part::ManifestToml(_))));
        assert_eq!((paths[0], paths[paths.len() - 1]), ("a", "b"));
        assert_eq!(sent, long);
        let total = long.len() as u64;
        assert_eq!(seen.last(), Some(&(total, total)));
    }

    #[tokio::test]
    async fn what_the_server_has_is_not_sent_again() {
        let directory = directory("[[heads]]\nfile = \"b\"\n[golden]\nfile = \"a\"\n[[files]]\npath = \"c\"\n");
        let long: Vec<u8> = (0..CHUNK_SIZE_BYTES + 5).map(|byte| u8::try_from(byte % 251).expect("small")).collect();
        fs_err::write(directory.path().join("a"), "whole").expect("written");
        fs_err::write(directory.path().join("b"), &long).expect("written");
        fs_err::write(directory.path().join("c"), "").expect("written");
        let upload = Arc::new(Upload::open(directory.path()).await.expect("opened"));
        let question = upload.question();
        let total = long.len() as u64 + 5;
        let check = async |received: [u64; 3], expected: &[(&str, u64, usize)]| {
            let (parts, seen) = sent(&upload, Rest::After(received.to_vec())).await;
            let Some(Part::Start(start)) = &parts[0].part else { panic!("the start") };
            assert_eq!(start.files, question.files);
            let mut pieces = Vec::new();
            for request in &parts[1..] {
                let Some(Part::Chunk(chunk)) = &request.part else { panic!("a chunk") };
                let at = usize::try_from(chunk.offset_bytes).expect("small");
                assert!(chunk.path != "b" || chunk.data == long[at..at + chunk.data.len()]);
                pieces.push((chunk.path.as_str(), chunk.offset_bytes, chunk.data.len()));
            }
            assert_eq!(pieces, expected, "{received:?}");
            assert!(seen.is_empty() || seen.last() == Some(&(total, total)), "{seen:?}");
        };
        let size = long.len() as u64;
        check([5, size, 0], &[]).await;
        check([5, 3, 0], &[("b", 3, CHUNK_SIZE_BYTES), ("b", 3 + CHUNK_SIZE_BYTES as u64, 2)]).await;
        check([2, size - 1, 0], &[("a", 2, 3), ("b", size - 1, 1)]).await;
    }

    #[tokio::test]
    async fn digests_are_those_of_the_bytes() {
        let directory = directory("[[heads]]\nfile = \"b\"\n");
        fs_err::write(directory.path().join("b"), "abc").expect("written");
        let upload = Upload::open(directory.path()).await.expect("opened");
        // FIPS 180-2, appendix B.1.
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((upload.files[0].sha256.as_str(), upload.total_bytes()), (digest, 3));
    }

    #[tokio::test]
    async fn the_model_card_is_sent_where_there_is_one() {
        let directory = directory("[[heads]]\nfile = \"b\"\n");
        for file in ["b", "README.md", "notes.txt"] {
            fs_err::write(directory.path().join(file), file).expect("written");
        }
        let upload = Upload::open(directory.path()).await.expect("opened");
        assert_eq!(names(&upload), [("README.md", 9), ("b", 1)]);
    }

    #[tokio::test]
    async fn a_manifest_may_come_from_elsewhere() {
        let directory = directory("this one is not read");
        fs_err::write(directory.path().join("b"), "1").expect("written");
        let manifest = "[[heads]]\nfile = \"b\"\n".to_owned();
        let upload = Upload::with_manifest(directory.path(), manifest.clone()).await.expect("opened");
        assert_eq!((&upload.manifest, names(&upload)), (&manifest, vec![("b", 1)]));
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_named() {
        let missing = directory("[[heads]]\nfile = \"model.ubj\"\n");
        let error = Upload::open(missing.path()).await.expect_err("missing file");
        assert!(error.to_string().ends_with("model.ubj"), "{error}");

        let outside = directory("[[heads]]\nfile = \"../secret\"\n");
        assert!(matches!(Upload::open(outside.path()).await, Err(UploadError::Outside { .. })));

        let garbled = directory("[[heads");
        assert!(matches!(Upload::open(garbled.path()).await, Err(UploadError::Manifest { .. })));
    }

    #[tokio::test]
    async fn a_file_that_shrinks_stops_the_upload_without_an_end() {
        let directory = directory("[[heads]]\nfile = \"b\"\n");
        fs_err::write(directory.path().join("b"), vec![1u8; 100]).expect("written");
        let upload = Arc::new(Upload::open(directory.path()).await.expect("opened"));
        fs_err::write(directory.path().join("b"), b"").expect("written");

        let (failed, failure) = oneshot::channel();
        let mut stream = std::pin::pin!(upload.stream(Rest::All, Listener::new(|_| ()), failed));
        assert!(stream.next().await.is_some(), "the manifest");
        tokio::select! {
            _ = stream.next() => panic!("the stream went on"),
            error = failure => assert!(matches!(error, Ok(UploadError::Changed { .. }))),
        }
    }
}
