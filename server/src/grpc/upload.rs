//! Versions as streams of pieces: those that end with their connection, and those that another connection goes on with.

use ev_models_core::{Digest, Manifest, manifest::FileEntry};
use ev_proto::ev::registry::v1::{
    FileChunk, GetUploadRequest, GetUploadResponse, RegisterVersionRequest, UploadFile, UploadStart, UploadedFile,
    register_version_request::Part,
};
use ev_registry::{Imported, Registry, RegistryError, ResumableUpload, Upload};
use tonic::{Status, Streaming};

use super::{registry::now_ms, status};

/// Largest piece of a file in one message.
const CHUNK_MAX_BYTES: usize = 1024 * 1024;

/// Takes a version in and registers it.
pub(super) async fn take(
    registry: &Registry,
    mut parts: Streaming<RegisterVersionRequest>,
) -> Result<Imported, Status> {
    match parts.message().await?.and_then(|message| message.part) {
        Some(Part::ManifestToml(manifest_toml)) => {
            check(&manifest_toml)?;
            let upload = registry.begin_upload(&manifest_toml).await.map_err(|error| status::of_registry(&error))?;
            whole(upload, parts).await
        }
        Some(Part::Start(UploadStart { manifest_toml, files })) => {
            check(&manifest_toml)?;
            let files = files.into_iter().enumerate().map(|(index, file)| entry("start.files", index, file));
            let files = files.collect::<Result<Vec<_>, Status>>()?;
            let upload = registry.resume_upload(&manifest_toml, files, now_ms()).await;
            resumable(upload.map_err(|error| status::of_registry(&error))?, parts).await
        }
        Some(Part::Chunk(_)) | None => {
            Err(status::invalid("manifest_toml", "MISSING_FIELD", "is missing: the first message carries it"))
        }
    }
}

/// How much of some files is here.
pub(super) async fn received(registry: &Registry, request: GetUploadRequest) -> Result<GetUploadResponse, Status> {
    let GetUploadRequest { files } = request;
    let files = files.into_iter().enumerate().map(|(index, file)| entry("files", index, file));
    let files = files.collect::<Result<Vec<_>, Status>>()?;
    let received = registry.received(&files).await.map_err(|error| status::of_registry(&error))?;
    let received_bytes = received.iter().copied().fold(0, u64::saturating_add);
    let uploaded = |(FileEntry { path, sha256, size: _ }, received_bytes)| UploadedFile {
        path,
        sha256: sha256.to_string(),
        received_bytes,
    };
    Ok(GetUploadResponse { files: files.into_iter().zip(received).map(uploaded).collect(), received_bytes })
}

/// Refuses a manifest that no version can have, before any file has come.
fn check(manifest_toml: &str) -> Result<(), Status> {
    let refused = |error| status::of_registry(&RegistryError::InvalidManifest(error));
    let manifest = Manifest::parse(manifest_toml).map_err(refused)?;
    crate::deploy::check_vocabulary(&manifest).map_err(refused)
}

/// Takes an upload of which nothing is kept when it is cut off.
async fn whole(mut upload: Upload, mut parts: Streaming<RegisterVersionRequest>) -> Result<Imported, Status> {
    while let Some(message) = parts.message().await? {
        let FileChunk { path, data, offset_bytes } = piece(message)?;
        if offset_bytes != 0 {
            let description = format!("is {offset_bytes}, expected none: only uploads that begin with `start` have it");
            return Err(status::invalid("chunk.offset_bytes", "OUT_OF_ORDER", description));
        }
        upload.write(&path, data.into()).await.map_err(|error| status::of_registry(&error))?;
    }
    upload.finish(now_ms()).await.map_err(|error| status::of_registry(&error))
}

/// Takes an upload that another may go on with.
async fn resumable(
    mut upload: ResumableUpload,
    mut parts: Streaming<RegisterVersionRequest>,
) -> Result<Imported, Status> {
    while let Some(message) = parts.message().await? {
        let FileChunk { path, data, offset_bytes } = piece(message)?;
        let written = upload.write(&path, offset_bytes, data.into()).await;
        written.map_err(|error| status::of_registry(&error))?;
    }
    upload.finish(now_ms()).await.map_err(|error| status::of_registry(&error))
}

fn piece(message: RegisterVersionRequest) -> Result<FileChunk, Status> {
    match message.part {
        Some(Part::Chunk(chunk)) if chunk.data.len() <= CHUNK_MAX_BYTES => Ok(chunk),
        Some(Part::Chunk(chunk)) => {
            let description = format!("has {} bytes, expected at most {CHUNK_MAX_BYTES}", chunk.data.len());
            Err(status::invalid("chunk.data", "TOO_LONG", description))
        }
        Some(Part::ManifestToml(_)) => {
            Err(status::invalid("manifest_toml", "OUT_OF_ORDER", "comes once, in the first message"))
        }
        Some(Part::Start(_)) => Err(status::invalid("start", "OUT_OF_ORDER", "comes once, in the first message")),
        None => Err(status::invalid("part", "MISSING_FIELD", "is missing, expected a chunk")),
    }
}

fn entry(list: &str, index: usize, file: UploadFile) -> Result<FileEntry, Status> {
    let UploadFile { path, sha256, size_bytes: size } = file;
    let parsed: Result<Digest, _> = sha256.parse();
    let sha256 = parsed.map_err(|_| {
        let shown: String = sha256.chars().take(80).collect();
        let description = format!("is `{shown}`, expected `sha256:` and 64 hex digits");
        status::invalid(&format!("{list}[{index}].sha256"), "INVALID_DIGEST", description)
    })?;
    Ok(FileEntry { path, sha256, size })
}
