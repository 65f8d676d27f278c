//! A version's directory as a stream of pieces.

use std::{
    collections::BTreeSet,
    io,
    path::{Component, Path, PathBuf},
};

use ev_proto::ev::registry::v1::{FileChunk, RegisterVersionRequest, register_version_request::Part};
use fs_err::tokio as fs;
use futures_core::Stream;
use futures_util::stream;
use tokio::{io::AsyncReadExt as _, sync::oneshot};

const CHUNK_SIZE_BYTES: usize = 256 << 10;
const MANIFEST: &str = "manifest.toml";
/// The model card, part of the version where there is one.
const CARD: &str = "README.md";

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file being sent, as the manifest has it.
    pub file: &'a str,
    /// Bytes of all files handed to the connection.
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
    files: Vec<(String, u64)>,
}

struct Sending<P> {
    upload: Upload,
    progress: P,
    failed: Option<oneshot::Sender<UploadError>>,
    at: At,
    sent_bytes: u64,
}

enum At {
    Manifest,
    /// Before the file of this index.
    File(usize),
    /// In the file of this index, with so many bytes left.
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
            let metadata =
                fs::metadata(&path).await.map_err(|source| UploadError::Unreadable { path: path.clone(), source })?;
            files.push((file, metadata.len()));
        }
        Ok(Upload { directory: directory.to_owned(), manifest, files })
    }

    /// The messages of the upload. After an error they stop without an end, and the error goes to `failed`.
    pub(crate) fn into_stream(
        self,
        progress: impl FnMut(Progress<'_>) + Send + 'static,
        failed: oneshot::Sender<UploadError>,
    ) -> impl Stream<Item = RegisterVersionRequest> + Send + 'static {
        let sending = Sending { upload: self, progress, failed: Some(failed), at: At::Manifest, sent_bytes: 0 };
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

    fn total_bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }
}

// === impl Sending ===

impl<P: FnMut(Progress<'_>)> Sending<P> {
    async fn next(&mut self) -> Result<Option<Part>, UploadError> {
        loop {
            match &mut self.at {
                At::Manifest => {
                    self.at = At::File(0);
                    return Ok(Some(Part::ManifestToml(self.upload.manifest.clone())));
                }
                At::File(index) => {
                    let index = *index;
                    let Some((file, size)) = self.upload.files.get(index) else { return Ok(None) };
                    let path = self.upload.directory.join(file);
                    let opened =
                        fs::File::open(&path).await.map_err(|source| UploadError::Unreadable { path, source })?;
                    let (file, size) = (file.clone(), *size);
                    self.at = At::Inside(index, opened, size);
                    if size == 0 {
                        self.at = At::File(index + 1);
                        return Ok(Some(Part::Chunk(FileChunk { path: file, data: Vec::new() })));
                    }
                }
                At::Inside(index, _, 0) => self.at = At::File(*index + 1),
                At::Inside(..) => return self.chunk().await.map(Some),
            }
        }
    }

    async fn chunk(&mut self) -> Result<Part, UploadError> {
        let At::Inside(index, reader, left_bytes) = &mut self.at else { unreachable!("called inside a file") };
        let file = &self.upload.files[*index].0;
        let path = || self.upload.directory.join(file);
        let mut data = vec![0; CHUNK_SIZE_BYTES];
        let read =
            reader.read(&mut data).await.map_err(|source| UploadError::Unreadable { path: path(), source })? as u64;
        if read == 0 || read > *left_bytes {
            return Err(UploadError::Changed { path: path() });
        }
        data.truncate(usize::try_from(read).expect("at most CHUNK_SIZE_BYTES"));
        *left_bytes -= read;
        self.sent_bytes += read;
        let total_bytes = self.upload.total_bytes();
        (self.progress)(Progress { file, sent_bytes: self.sent_bytes, total_bytes });
        Ok(Part::Chunk(FileChunk { path: file.clone(), data }))
    }
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
    use std::sync::{Arc, Mutex};

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

        let seen = Arc::new(Mutex::new(Vec::new()));
        let (failed, _failure) = oneshot::channel();
        let upload = Upload::open(directory.path()).await.expect("opened");
        let progress = Arc::clone(&seen);
        let parts: Vec<_> = upload
            .into_stream(move |step| progress.lock().expect("lock").push((step.sent_bytes, step.total_bytes)), failed)
            .collect()
            .await;

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
        assert_eq!(seen.lock().expect("lock").last(), Some(&(total, total)));
    }

    #[tokio::test]
    async fn the_model_card_is_sent_where_there_is_one() {
        let directory = directory("[[heads]]\nfile = \"b\"\n");
        for file in ["b", "README.md", "notes.txt"] {
            fs_err::write(directory.path().join(file), file).expect("written");
        }
        let upload = Upload::open(directory.path()).await.expect("opened");
        assert_eq!(upload.files, [("README.md".to_owned(), 9), ("b".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn a_manifest_may_come_from_elsewhere() {
        let directory = directory("this one is not read");
        fs_err::write(directory.path().join("b"), "1").expect("written");
        let manifest = "[[heads]]\nfile = \"b\"\n".to_owned();
        let upload = Upload::with_manifest(directory.path(), manifest.clone()).await.expect("opened");
        assert_eq!((upload.manifest, upload.files), (manifest, vec![("b".to_owned(), 1)]));
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
        let upload = Upload::open(directory.path()).await.expect("opened");
        fs_err::write(directory.path().join("b"), b"").expect("written");

        let (failed, failure) = oneshot::channel();
        let mut stream = std::pin::pin!(upload.into_stream(|_| (), failed));
        assert!(stream.next().await.is_some(), "the manifest");
        tokio::select! {
            _ = stream.next() => panic!("the stream went on"),
            error = failure => assert!(matches!(error, Ok(UploadError::Changed { .. }))),
        }
    }
}
