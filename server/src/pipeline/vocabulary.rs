//! Looking a caller's text up among the texts a model knows.

use ev_models_core::manifest::Match;
use hashbrown::HashTable;

/// The texts of one input. Lookups ignore case.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    entries: HashTable<Entry>,
    matching: Match,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    /// In lower case.
    text: Box<str>,
    code: u32,
}

/// What tells most texts apart, but for the case of ASCII letters: length, first and last eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    length: usize,
    first: u64,
    last: u64,
}

/// Texts up to this length are equal when their keys are.
const KEY_BYTES: usize = 16;

// === impl Vocabulary ===

impl Vocabulary {
    /// Of texts that are equal but for case and outer blanks, the last one's position is kept.
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>, matching: Match) -> Vocabulary {
        let mut entries = HashTable::new();
        for (text, code) in texts.into_iter().zip(0u32..) {
            let text: Box<str> = text.trim().to_lowercase().into();
            let key = Key::of(&text);
            match entries.find_mut(key.hash(), |known: &Entry| known.text == text) {
                Some(known) => known.code = code,
                None => {
                    entries.insert_unique(key.hash(), Entry { key, text, code }, |entry| entry.key.hash());
                }
            }
        }
        Vocabulary { entries, matching }
    }

    /// Position of the text that `value`, without outer blanks, is or (for [`Match::Prefix`]) begins with.
    #[inline]
    pub(crate) fn find(&self, value: &str) -> Option<u32> {
        self.get(value).or_else(|| self.find_otherwise(value))
    }

    /// What is not found as it is, but for the case of ASCII letters.
    #[cold]
    fn find_otherwise(&self, value: &str) -> Option<u32> {
        if value.is_ascii() {
            return self.find_prefix(value);
        }
        let folded = value.to_lowercase();
        self.get(&folded).or_else(|| self.find_prefix(&folded))
    }

    fn find_prefix(&self, value: &str) -> Option<u32> {
        if self.matching == Match::Exact {
            return None;
        }
        // From the longest prefix that ends before a character that is not part of a word, to the shortest.
        value
            .char_indices()
            .rev()
            .filter(|(_, character)| !character.is_alphanumeric())
            .find_map(|(end, _)| self.get(value[..end].trim_end()))
    }

    #[inline]
    fn get(&self, value: &str) -> Option<u32> {
        let key = Key::of(value);
        let is_short = key.length <= KEY_BYTES;
        let found = self
            .entries
            .find(key.hash(), |entry| entry.key == key && (is_short || value.eq_ignore_ascii_case(&entry.text)));
        found.map(|entry| entry.code)
    }
}

/// Without outer blanks; most texts have none, and are not searched for them.
#[inline]
pub(super) fn trimmed(value: &str) -> &str {
    let is_visible = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    let bytes = value.as_bytes();
    if is_visible(bytes.first()) && is_visible(bytes.last()) { value } else { value.trim() }
}

// === impl Key ===

impl Key {
    #[inline]
    fn of(text: &str) -> Key {
        let bytes = text.as_bytes();
        let [first, last] = if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            [u64::from_le_bytes(*first), u64::from_le_bytes(*last)]
        } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            [u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()]
        } else {
            [bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0]
        };
        Key { length: bytes.len(), first: lower_case(first), last: lower_case(last) }
    }

    /// Keys come from a manifest, never from a caller, so nobody can make them collide: the standard library's keyed hash,
    /// four times as dear, would protect nothing.
    #[inline]
    fn hash(self) -> u64 {
        let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        // The product's high bits are the good ones; tables take their place from the low ones and their tag from the highest.
        mix(mix(self.length as u64, self.first), self.last).rotate_left(26)
    }
}

/// Eight bytes at once: ASCII capitals get the bit that makes them small letters.
#[inline]
const fn lower_case(word: u64) -> u64 {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let low_bits = word & each(0x7f);
    // Additions that carry into a byte's high bit where the byte is at least `A`, and where it is above `Z`.
    let from_a = low_bits + each(0x80 - b'A');
    let above_z = low_bits + each(0x7f - b'Z');
    let capital = from_a & !above_z & !word & each(0x80);
    word | capital >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_without_regard_to_case_and_blanks() {
        let vocabulary = Vocabulary::new(["Tesla", "Citroën"], Match::Exact);
        let check =
            |value: &str, expected: Option<u32>| assert_eq!(vocabulary.find(trimmed(value)), expected, "{value:?}");
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
        let check =
            |value: &str, expected: Option<u32>| assert_eq!(vocabulary.find(trimmed(value)), expected, "{value:?}");
        check("Model 3 Long Range", Some(1));
        check("model 3", Some(1));
        check("Model 35", Some(0));
        check("Model-X", Some(0));
        check("Models", None);
        check("i3s", None);
        check("I3 (94 Ah)", Some(2));
    }

    #[test]
    fn characters_that_differ_in_the_bit_of_case_only_are_not_confused() {
        let vocabulary = Vocabulary::new(["e-208", "a[b", "köln"], Match::Exact);
        let check =
            |value: &str, expected: Option<u32>| assert_eq!(vocabulary.find(trimmed(value)), expected, "{value:?}");
        check("E-208", Some(0));
        check("e\r208", None);
        check("A[B", Some(1));
        check("a{b", None);
        check("KÖLN", Some(2));
    }

    proptest::proptest! {
        #[test]
        fn eight_bytes_are_folded_like_one(bytes: [u8; 8]) {
            let folded = bytes.map(|byte| byte.to_ascii_lowercase());
            proptest::prop_assert_eq!(lower_case(u64::from_le_bytes(bytes)), u64::from_le_bytes(folded));
        }

        #[test]
        fn lookups_are_those_of_lower_case(
            texts in proptest::collection::vec("[a-cA-C@`äÄ ]{0,20}", 0..6),
            value in "[a-cA-C@`äÄ ]{0,20}",
        ) {
            let folded = |text: &str| text.trim().to_lowercase();
            let expected = texts.iter().rposition(|text| folded(text) == folded(&value));
            let vocabulary = Vocabulary::new(texts.iter().map(String::as_str), Match::Exact);
            proptest::prop_assert_eq!(vocabulary.find(trimmed(&value)).map(|code| code as usize), expected);
        }
    }
}
