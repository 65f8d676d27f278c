//! The signature that proves a message's sender.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::SignatureError;

/// The header it is in: `t=SECONDS,v1=HEX`.
pub const HEADER: &str = "evserve-signature";

/// Signs a body: the header's value. HEX is the HMAC-SHA-256, by the secret, of SECONDS, a dot and the body.
#[must_use]
pub fn sign(secret: &str, unix_s: i64, body: &[u8]) -> String {
    use std::fmt::Write as _;

    let tag = mac(secret, unix_s, body).finalize().into_bytes();
    let mut header = format!("t={unix_s},v1=");
    for byte in tag {
        // Writing to a string does not fail.
        let _ = write!(header, "{byte:02x}");
    }
    header
}

/// Checks a header that came with a body, as a receiver does; in constant time where it matters.
///
/// # Errors
///
/// When it is malformed, its time is more than `tolerance_s` away from `unix_s`, or it was made with another secret or body.
pub fn verify(secret: &str, header: &str, body: &[u8], unix_s: i64, tolerance_s: u32) -> Result<(), SignatureError> {
    let (time, tag) = header.split_once(',').ok_or(SignatureError::Malformed)?;
    let time = time.strip_prefix("t=").and_then(|time| time.parse::<i64>().ok()).ok_or(SignatureError::Malformed)?;
    let tag = tag.strip_prefix("v1=").and_then(from_hex).ok_or(SignatureError::Malformed)?;
    if time.abs_diff(unix_s) > u64::from(tolerance_s) {
        return Err(SignatureError::OutOfTolerance);
    }
    mac(secret, time, body).verify_slice(&tag).map_err(|_| SignatureError::Mismatch)
}

fn mac(secret: &str, unix_s: i64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(unix_s.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    #[test]
    fn the_signature_is_what_others_compute() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "t=1700000000,v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e";
        assert_eq!(sign(SECRET, 1_700_000_000, b"{}"), expected);
    }

    #[test]
    fn only_the_sender_passes() {
        let header = sign(SECRET, 1000, b"body");
        let check = |secret: &str, header: &str, body: &[u8], now: i64, expected: Result<(), SignatureError>| {
            assert_eq!(verify(secret, header, body, now, 300), expected, "{header}");
        };
        check(SECRET, &header, b"body", 1000, Ok(()));
        check(SECRET, &header, b"body", 1300, Ok(()));
        check(SECRET, &header, b"body", 700, Ok(()));
        check(SECRET, &header, b"body", 1301, Err(SignatureError::OutOfTolerance));
        check(SECRET, &header, b"bodY", 1000, Err(SignatureError::Mismatch));
        check("another secret!!", &header, b"body", 1000, Err(SignatureError::Mismatch));
        check(SECRET, &header.replace("t=1000", "t=1001"), b"body", 1000, Err(SignatureError::Mismatch));
        for malformed in ["", "t=1", "v1=00,t=1", "t=x,v1=00", "t=1,v1=zz", "t=1,v1=ä"] {
            check(SECRET, malformed, b"body", 1, Err(SignatureError::Malformed));
        }
    }
}
