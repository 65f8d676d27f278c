//! XGBoost's JSON, which is JSON but for bare `NaN`s.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::{Problem, document};

/// Reads a document, or the part of one that `T` asks for.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = without_nan(bytes);
    let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
    let document = document(&mut deserializer, &mut serde_json::Deserializer::from_slice(&bytes))?;
    deserializer.end().map_err(|error| Problem::malformed("the end", error.to_string()))?;
    Ok(document)
}

/// Writes `null` for `NaN`, which XGBoost puts where a value has no meaning (thresholds of vector leaves),
/// so that the reader gets as far as the reason to refuse the file.
fn without_nan(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.windows(3).any(|window| window == b"NaN") {
        return Cow::Borrowed(bytes);
    }
    let mut text = Vec::with_capacity(bytes.len());
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        if !in_string && let Some(tail) = rest.strip_prefix(b"NaN") {
            text.extend_from_slice(b"null");
            rest = tail;
            continue;
        }
        in_string ^= byte == b'"' && !escaped;
        escaped = in_string && byte == b'\\' && !escaped;
        text.push(byte);
        rest = tail;
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_nans_become_null() {
        let text = br#"{"NaN": [NaN,1,NaN], "a\"NaN": "\\", "b": NaN}"#;
        let expected = br#"{"NaN": [null,1,null], "a\"NaN": "\\", "b": null}"#;
        assert_eq!(without_nan(text), &expected[..]);
        assert!(matches!(without_nan(b"{}"), Cow::Borrowed(_)));
    }
}
