//! A photo's file, read within bounds.

use std::{
    io,
    path::{Path, PathBuf},
};

use fs_err::tokio as fs;
use tokio::io::{AsyncRead, AsyncReadExt as _, stdin};

use crate::{failure::Failure, models::size_text};

const STANDARD_INPUT: &str = "-";

/// The type the API has for a photo's bytes.
type Bytes = prost::bytes::Bytes;

/// A photo in memory.
#[derive(Debug)]
pub(super) struct Photo {
    pub(super) name: String,
    pub(super) bytes: Bytes,
}

/// What a photo is called in answers and errors.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new(STANDARD_INPUT) { "standard input".to_owned() } else { path.display().to_string() }
}

/// Standard input can be read once.
pub(super) fn check_standard_input(paths: &[PathBuf]) -> Result<(), Failure> {
    if paths.iter().filter(|path| **path == Path::new(STANDARD_INPUT)).count() > 1 {
        return Err(Failure::usage("`-` stands twice, and standard input can be read once", &[]));
    }
    Ok(())
}

// === impl Photo ===

impl Photo {
    /// Reads a file, or standard input.
    ///
    /// # Errors
    ///
    /// There is none, it is a directory or empty, or larger than a photo may be: at once where its size is known.
    pub(super) async fn read(path: &Path, size_max_bytes: usize) -> Result<Photo, Failure> {
        let name = name(path);
        let bytes = if path == Path::new(STANDARD_INPUT) {
            read(stdin(), size_max_bytes).await.map_err(Failure::Input)?
        } else {
            let metadata = fs::metadata(path).await.map_err(|error| unreadable(path, error))?;
            if metadata.is_dir() {
                let all = path.join("*.jpg");
                return Err(Failure::usage(
                    format!("{name} is a directory"),
                    &[&format!("name the photos in it: evctl predict image {}", all.display())],
                ));
            }
            if metadata.len() > size_max_bytes as u64 {
                return Err(too_large(&name, &format!("has {}", size_text(metadata.len())), size_max_bytes));
            }
            let file = fs::File::open(path).await.map_err(|error| unreadable(path, error))?;
            read(file, size_max_bytes).await.map_err(Failure::Input)?
        };
        match bytes.len() {
            0 => Err(Failure::usage(
                format!("{name} is empty"),
                &["a photo is a JPEG, PNG or WebP file; was it copied or downloaded to its end?"],
            )),
            size if size > size_max_bytes => Err(too_large(&name, "is larger", size_max_bytes)),
            _ => Ok(Photo { name, bytes: bytes.into() }),
        }
    }
}

/// As many bytes as a photo may have, and one more where there are more.
async fn read(source: impl AsyncRead + Unpin, size_max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(size_max_bytes as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::usage(
            format!("there is no file {}", path.display()),
            &["correct the path; a * that is within quotes is not filled in"],
        ),
        _ => Failure::Input(error),
    }
}

fn too_large(name: &str, size: &str, size_max_bytes: usize) -> Failure {
    Failure::usage(
        format!("{name} {size}; a photo may have at most {}", size_text(size_max_bytes as u64)),
        &[
            "make it smaller, such as with ImageMagick: magick PHOTO -resize 2048x2048 -quality 90 smaller.jpg",
            "nothing is lost by that: models look at a few hundred pixels a side",
        ],
    )
}
