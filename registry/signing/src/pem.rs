//! PEM around the two DER structures there are: of so few fields that their bytes but for the key's own are fixed.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::KeyError;

/// A kind of key file.
pub(crate) struct Kind {
    pub(crate) label: &'static str,
    pub(crate) expected: &'static str,
    prefix: &'static [u8],
}

/// RFC 8410: `SubjectPublicKeyInfo` of Ed25519.
pub(crate) const PUBLIC: Kind = Kind {
    label: "PUBLIC KEY",
    expected: "Ed25519 public key in PEM (`PUBLIC KEY`) or base64",
    prefix: &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00],
};

/// RFC 8410: `PrivateKeyInfo` of Ed25519, version 1.
pub(crate) const PRIVATE: Kind = Kind {
    label: "PRIVATE KEY",
    expected: "Ed25519 private key in PEM (`PRIVATE KEY`)",
    prefix: &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20],
};

pub(crate) fn write(kind: &Kind, key: &[u8; 32]) -> String {
    let der: Vec<u8> = kind.prefix.iter().chain(key).copied().collect();
    // At most 64 bytes of base64, which is one line.
    format!("-----BEGIN {0}-----\n{1}\n-----END {0}-----\n", kind.label, STANDARD.encode(der))
}

pub(crate) fn read(kind: &Kind, text: &str) -> Result<[u8; 32], KeyError> {
    let malformed = |problem: String| KeyError::Malformed { expected: kind.expected, problem };
    let (begin, end) = (format!("-----BEGIN {}-----", kind.label), format!("-----END {}-----", kind.label));
    let Some((_, rest)) = text.split_once(&begin) else {
        return Err(malformed(match text.split("-----BEGIN ").nth(1).and_then(|rest| rest.split("-----").next()) {
            Some(label) => format!("it is a `{label:.40}`"),
            None => format!("it has no line `{begin}`"),
        }));
    };
    let body =
        rest.split_once(&end).map(|(body, _)| body).ok_or_else(|| malformed(format!("it has no line `{end}`")))?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|error| malformed(format!("its base64 cannot be read: {error}")))?;
    let key = der.strip_prefix(kind.prefix).and_then(|key| <[u8; 32]>::try_from(key).ok());
    key.ok_or_else(|| malformed("it is a key of another algorithm or version".to_owned()))
}
