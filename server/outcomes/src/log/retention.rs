//! Files that are too old, or too many.

use std::{
    io,
    path::{Path, PathBuf},
};

/// What is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kept {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// A file of predictions.
#[derive(Debug)]
struct Found {
    since_us: i64,
    bytes: u64,
    path: PathBuf,
}

/// What files begun and not ended are called.
pub(super) const PARTIAL: &str = "partial";
/// What whole ones are called.
pub(super) const WHOLE: &str = "parquet";

/// Removes files whose predictions are from before a time, the oldest beyond a size, and what an earlier process began
/// and did not end. Others' files are left alone.
pub(super) fn forget_files(directory: &Path, before_us: i64, bytes_max: u64) -> io::Result<Kept> {
    let mut found = Vec::new();
    for model in fs_err::read_dir(directory)? {
        let model = model?;
        if !model.file_type()?.is_dir() {
            continue;
        }
        for file in fs_err::read_dir(model.path())? {
            let path = file?.path();
            match (path.extension().and_then(|it| it.to_str()), since_us(&path)) {
                (Some(PARTIAL), Some(_)) => fs_err::remove_file(&path)?,
                (Some(WHOLE), Some(since_us)) => {
                    found.push(Found { since_us, bytes: fs_err::metadata(&path)?.len(), path });
                }
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.since_us.cmp(&b.since_us).then_with(|| a.path.cmp(&b.path)));
    let mut kept = Kept { files: found.len() as u64, bytes: found.iter().map(|file| file.bytes).sum() };
    for Found { since_us, bytes, path } in found {
        if since_us >= before_us && kept.bytes <= bytes_max {
            break;
        }
        fs_err::remove_file(path)?;
        kept.files -= 1;
        kept.bytes -= bytes;
    }
    Ok(kept)
}

/// The time in a file's name, which is that of its first prediction.
fn since_us(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    let (_, rest) = name.split_once("-since-")?;
    rest.split_once('-')?.0.parse::<i64>().ok()?.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_and_the_oldest_of_too_many_go_and_others_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        let model = directory.path().join("ev-range");
        fs_err::create_dir(&model).expect("made");
        let put = |name: &str| fs_err::write(model.join(name), [0; 100]).expect("written");
        for name in ["v1-since-100-1.parquet", "v1-since-200-2.parquet", "v2-since-300-3.parquet"] {
            put(name);
        }
        put("v2-since-400-4.partial");
        put("notes.parquet");
        let left = || {
            let names = fs_err::read_dir(&model).expect("read").map(|file| file.expect("a file").file_name());
            let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
            names.sort();
            names.join(" ")
        };
        let forget = |before_s: i64, bytes_max: u64| {
            let Kept { files, bytes } =
                forget_files(directory.path(), before_s * 1_000_000, bytes_max).expect("forgotten");
            (files, bytes)
        };
        assert_eq!(forget(200, 1_000), (2, 200));
        assert_eq!(left(), "notes.parquet v1-since-200-2.parquet v2-since-300-3.parquet");
        assert_eq!(forget(0, 199), (1, 100));
        assert_eq!(left(), "notes.parquet v2-since-300-3.parquet");
        assert_eq!(forget(0, 0), (0, 0));
        assert_eq!(left(), "notes.parquet");
    }
}
