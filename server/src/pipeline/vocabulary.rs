//! Looking a caller's text up among the texts a model knows.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use ev_models_core::manifest::Match;

/// The texts of one input. Lookups ignore case and outer blanks.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    codes: HashMap<Box<[u8]>, u32, BuildHasherDefault<TextHasher>>,
    matching: Match,
}

/// A fast hash of short texts. The keys come from a manifest, never from a caller, so nobody can make them collide:
/// the standard library's keyed hash, four times as dear, would protect nothing.
#[derive(Debug, Default)]
struct TextHasher(u64);

/// Longest key that is folded without allocating.
const STACK_BYTES: usize = 128;

// === impl Vocabulary ===

impl Vocabulary {
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>, matching: Match) -> Vocabulary {
        let folded = |text: &str| text.trim().to_lowercase().into_bytes().into();
        let codes = texts.into_iter().zip(0u32..).map(|(text, code)| (folded(text), code)).collect();
        Vocabulary { codes, matching }
    }

    /// Position of the text that `value` is, or (for [`Match::Prefix`]) begins with.
    pub(crate) fn find(&self, value: &str) -> Option<u32> {
        let value = trimmed(value);
        if value.len() <= STACK_BYTES && value.is_ascii() {
            let mut buffer = [0u8; STACK_BYTES];
            let folded = &mut buffer[..value.len()];
            folded.copy_from_slice(value.as_bytes());
            folded.make_ascii_lowercase();
            self.find_folded(folded)
        } else {
            self.find_folded(value.to_lowercase().as_bytes())
        }
    }

    fn find_folded(&self, value: &[u8]) -> Option<u32> {
        if let Some(code) = self.codes.get(value) {
            return Some(*code);
        }
        if self.matching == Match::Exact {
            return None;
        }
        let value = std::str::from_utf8(value).ok()?;
        // From the longest prefix that ends before a character that is not part of a word, to the shortest.
        value
            .char_indices()
            .rev()
            .filter(|(_, character)| !character.is_alphanumeric())
            .find_map(|(end, _)| self.codes.get(value[..end].trim_end().as_bytes()).copied())
    }
}

/// Without outer blanks; most texts have none, and are not searched for them.
fn trimmed(value: &str) -> &str {
    let is_visible = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    let bytes = value.as_bytes();
    if is_visible(bytes.first()) && is_visible(bytes.last()) { value } else { value.trim() }
}

// === impl TextHasher ===

impl TextHasher {
    #[inline]
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for TextHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.as_chunks::<8>().0 {
            self.mix(u64::from_le_bytes(*word));
        }
        // The end in one piece, overlapping what came before; the length, which `[u8]` hashes too, tells texts apart.
        if let Some(last) = bytes.last_chunk::<8>() {
            self.mix(u64::from_le_bytes(*last));
        } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            self.mix(u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)));
        } else {
            self.mix(bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    #[inline]
    fn write_usize(&mut self, length: usize) {
        self.mix(length as u64);
    }

    /// The product's high bits are the good ones, and tables take the low ones.
    #[inline]
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_without_regard_to_case_and_blanks() {
        let vocabulary = Vocabulary::new(["Tesla", "Citroën"], Match::Exact);
        let check = |value: &str, expected: Option<u32>| assert_eq!(vocabulary.find(value), expected, "{value:?}");
        check("Tesla", Some(0));
        check("  TESLA ", Some(0));
        check("CITROËN", Some(1));
        check("Tesla Motors", None);
        check("", None);
        check(&"x".repeat(500), None);
    }

    #[test]
    fn a_prefix_ends_at_a_word_boundary_and_the_longest_wins() {
        let vocabulary = Vocabulary::new(["Model", "Model 3", "i3"], Match::Prefix);
        let check = |value: &str, expected: Option<u32>| assert_eq!(vocabulary.find(value), expected, "{value:?}");
        check("Model 3 Long Range", Some(1));
        check("model 3", Some(1));
        check("Model 35", Some(0));
        check("Model-X", Some(0));
        check("Models", None);
        check("i3s", None);
        check("I3 (94 Ah)", Some(2));
    }
}
