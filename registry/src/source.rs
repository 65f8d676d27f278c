//! A model's source directory.

use std::{
    io::{ErrorKind, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use ev_models_core::{Manifest, ManifestError};
use fs_err::File;

use crate::RegistryError;

const MANIFEST: &str = "manifest.toml";

/// Reads `manifest.toml`.
pub(crate) fn read_manifest(dir: &Path) -> Result<String, RegistryError> {
    let file = open(dir, MANIFEST)?
        .ok_or_else(|| RegistryError::NotFound { what: format!("`{}`", dir.join(MANIFEST).display()) })?;
    let mut bytes = Vec::new();
    let read = file.take(Manifest::MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| RegistryError::storage(format!("read `{MANIFEST}`"))(error.into()))?;
    if bytes.len() > Manifest::MAX_BYTES {
        let max_bytes = Manifest::MAX_BYTES;
        return Err(RegistryError::InvalidManifest(ManifestError::TooLarge { bytes: bytes.len(), max_bytes }));
    }
    String::from_utf8(bytes)
        .map_err(|error| RegistryError::InvalidManifest(ManifestError::Syntax { reason: error.to_string() }))
}

/// Opens a regular file inside a directory; none where there is nothing.
///
/// The directory itself may be reached over links, nothing inside it may be one:
/// a link in a model's directory is how a file from elsewhere would be read with the server's rights.
pub(crate) fn open(dir: &Path, file: &str) -> Result<Option<File>, RegistryError> {
    let refused = |problem: &str| RegistryError::RefusedFile { file: file.to_owned(), problem: problem.to_owned() };
    let failed = |error: std::io::Error| RegistryError::storage(format!("read `{file}`"))(error.into());
    let mut place = dir.to_owned();
    let mut parts = file.split('/').peekable();
    while let Some(part) = parts.next() {
        if matches!(part, "" | "." | "..") {
            return Err(refused("it leads out of the model's directory"));
        }
        place.push(part);
        let seen = match fs_err::symlink_metadata(&place) {
            Ok(seen) => seen,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if seen.is_symlink() {
            return Err(refused("it is a symbolic link, or lies behind one"));
        }
        if parts.peek().is_some() {
            continue;
        }
        if !seen.is_file() {
            return Err(refused("it is not a regular file"));
        }
        let opened = File::open(&place).map_err(failed)?;
        let now = opened.metadata().map_err(failed)?;
        if (seen.dev(), seen.ino()) != (now.dev(), now.ino()) {
            return Err(refused("it was replaced while it was opened"));
        }
        return Ok(Some(opened));
    }
    Ok(None)
}
