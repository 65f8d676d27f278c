//! What a file's bytes are, as they come: their digest, and whether they are of a kind that is never taken.

use ev_models_core::Digest;
use sha2::{Digest as _, Sha256};

use crate::RegistryError;

/// Bytes at a file's beginning that are looked at: a tar archive shows itself at byte 257.
const HEAD_BYTES: usize = 512;
/// Bytes that tell a safetensors file from others.
const TELLING_BYTES: usize = 9;
/// Longest header of a safetensors file that is believed: the format's own limit.
const SAFETENSORS_HEADER_MAX_BYTES: u64 = 100_000_000;
const PICKLE: &str = "it is a pickle (joblib's are too), which runs arbitrary code when it is loaded; save XGBoost \
                      models as .ubj or .json, others as ONNX";

/// Kinds of files in which others are packed, by how they begin.
const PACKED: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "a ZIP archive (PyTorch's .pt files are)"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"PK\x07\x08", "a ZIP archive"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"ZF\x30\x78", "a compressed joblib file"),
    (b"\x78\x01", "zlib"),
    (b"\x78\x5e", "zlib"),
    (b"\x78\x9c", "zlib"),
    (b"\x78\xda", "zlib"),
];

/// The bytes of a file so far.
#[derive(Debug)]
pub(super) struct Content {
    name: String,
    hasher: Sha256,
    head: Vec<u8>,
    size: u64,
}

// === impl Content ===

impl Content {
    /// A file of which nothing has come.
    pub(super) fn new(name: &str) -> Content {
        Content { name: name.to_owned(), hasher: Sha256::new(), head: Vec::new(), size: 0 }
    }

    /// Takes the next bytes; refuses a file that turns out to be a pickle or an archive.
    pub(super) fn update(&mut self, bytes: &[u8]) -> Result<(), RegistryError> {
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(bytes.len());
        if wanted > 0 {
            self.head.extend_from_slice(&bytes[..wanted]);
            check(&self.name, &self.head)?;
        }
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Digest of what has come.
    pub(super) fn digest(&self) -> Digest {
        digest_of(&self.hasher)
    }
}

/// Digest of what a hasher has taken so far.
pub(super) fn digest_of(hasher: &Sha256) -> Digest {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in hasher.clone().finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text.parse().expect("64 hex digits were written")
}

/// Refuses a file that begins as a pickle or an archive does, whatever its name says.
pub(crate) fn check(name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let refused = |problem: String| Err(RegistryError::RefusedFile { file: name.to_owned(), problem });
    // With fewer bytes, the length of a safetensors file's header cannot be told from the beginning of something else; and
    // no pickle or archive of so few holds a model.
    if head.len() < TELLING_BYTES || is_safetensors(head) {
        return Ok(());
    }
    // A model card is text, which may begin as it likes.
    let is_card = name.ends_with(".md");
    if is_pickle(head) || !is_card && is_text_pickle(head) {
        return refused(PICKLE.to_owned());
    }
    let tar = (head.get(257..262) == Some(b"ustar")).then_some("a tar archive");
    let mut packed = PACKED.iter().copied().filter(|(begin, _)| !(is_card && begin.is_ascii() && begin.len() < 3));
    let packed = packed.find(|(begin, _)| head.starts_with(begin)).map(|(_, kind)| kind);
    match tar.or(packed) {
        Some(kind) => refused(format!("it is {kind}; a version is the files themselves, nothing is unpacked")),
        None => Ok(()),
    }
}

/// The length of a header, then a JSON object: what may look like anything else by the length's first bytes.
fn is_safetensors(head: &[u8]) -> bool {
    let length = head.first_chunk().map(|length| u64::from_le_bytes(*length));
    length.is_some_and(|length| length <= SAFETENSORS_HEADER_MAX_BYTES) && head.get(8) == Some(&b'{')
}

/// Protocols 2 to 5.
fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..])
}

/// Protocols 0 and 1: an empty container and its number in the memo, or a module and a name, each on a line.
fn is_text_pickle(head: &[u8]) -> bool {
    let global = |text: &[u8]| {
        let mut lines = text.split(|byte| *byte == b'\n');
        let name = |line: Option<&[u8]>| {
            line.is_some_and(|line| {
                let letters = line.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(byte));
                letters && line.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
            })
        };
        // What follows a name is `(`, `q`, `p` or another opcode, on a line that has begun.
        name(lines.next())
            && name(lines.next())
            && lines.next().is_some_and(|rest| b"(qpR}]".contains(rest.first().unwrap_or(&0)))
    };
    match head {
        [b'(', b'd' | b'l' | b't' | b']' | b'}', b'p', ..] | [b'}' | b']' | b')', b'q' | b'r' | b'p', ..] => true,
        [b'(', b'c' | b'i', rest @ ..] | [b'c', rest @ ..] => global(rest),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickles_and_archives_are_told_by_their_bytes() {
        let tar = [vec![b'm'; 257], b"ustar\x0000".to_vec()].concat();
        let safetensors = |length: u64| [&length.to_le_bytes()[..], b"{\"a\":1}"].concat();
        let check = |bytes: &[u8], refused: Option<&str>| {
            // In one piece, and byte by byte.
            for piece in [bytes.len().max(1), 1] {
                let mut content = Content::new("model.ubj");
                let result = bytes.chunks(piece).try_for_each(|piece| content.update(piece));
                match (result, refused) {
                    (Ok(()), None) => assert_eq!(content.digest(), Digest::of(bytes)),
                    (Err(RegistryError::RefusedFile { problem, .. }), Some(word)) => {
                        assert!(problem.contains(word), "{problem}");
                    }
                    (found, expected) => panic!("{bytes:?}: {found:?}, expected {expected:?}"),
                }
            }
        };
        check(b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x05posix\x94", Some("pickle"));
        check(b"\x80\x02ccopy_reg\n_reconstructor\n", Some("pickle"));
        check(b"cposix\nsystem\n(S'id'\ntR.", Some("pickle"));
        check(b"(dp0\nS'a'\n", Some("pickle"));
        check(b"}q\0X\x01\0\0\0a", Some("pickle"));
        check(b"(iposix\nsystem\n(", Some("pickle"));
        check(b"\x78\x9c\x6b\x60\x60\x60\0\0\0\x04", Some("zlib"));
        check(b"ZF0x1a             ", Some("joblib"));
        check(b"PK\x03\x04\x14\0\0\0\x08", Some("ZIP"));
        check(b"\x1f\x8b\x08\0\0\0\0\0\0", Some("gzip"));
        check(b"\x28\xb5\x2f\xfd\x04\0\x09\0\0", Some("zstd"));
        check(&tar, Some("tar"));
        check(b"{L\x07learner", None);
        check(b"{\"learner\": {}}", None);
        check(b"[1, 2]", None);
        check(b"\x08\x08\x12\x07pytorch", None);
        check(b"# A card\n\nof a model", None);
        assert!(
            self::check("README.md", b"x^2 and cposix\nsystem\n(").is_ok()
                && self::check("README.md", b"PK\x03\x04\x14\0\0\0\x08").is_err()
        );
        check(b"cars\nand more of them\n(many)", None);
        check(b"car\n", None);
        check(b"", None);
        // Lengths whose bytes are those of a pickle and of zlib.
        check(&safetensors(0x0480), None);
        check(&safetensors(0x9c78), None);
    }
}
