//! Looking a caller's text up among the texts a model knows.

use std::collections::HashMap;

use ev_models_core::manifest::Match;

/// The texts of one input. Lookups ignore case and outer blanks.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    codes: HashMap<Box<str>, u32>,
    matching: Match,
}

/// Longest key that is folded without allocating.
const STACK_BYTES: usize = 128;

// === impl Vocabulary ===

impl Vocabulary {
    pub(crate) fn new<'a>(texts: impl IntoIterator<Item = &'a str>, matching: Match) -> Vocabulary {
        let codes =
            texts.into_iter().zip(0u32..).map(|(text, code)| (text.trim().to_lowercase().into(), code)).collect();
        Vocabulary { codes, matching }
    }

    /// Position of the text that `value` is, or (for [`Match::Prefix`]) begins with.
    pub(crate) fn find(&self, value: &str) -> Option<u32> {
        let value = value.trim();
        if value.len() <= STACK_BYTES && value.is_ascii() {
            let mut buffer = [0u8; STACK_BYTES];
            let folded = &mut buffer[..value.len()];
            folded.copy_from_slice(value.as_bytes());
            folded.make_ascii_lowercase();
            std::str::from_utf8(folded).ok().and_then(|folded| self.find_folded(folded))
        } else {
            self.find_folded(&value.to_lowercase())
        }
    }

    fn find_folded(&self, value: &str) -> Option<u32> {
        if let Some(code) = self.codes.get(value) {
            return Some(*code);
        }
        if self.matching == Match::Exact {
            return None;
        }
        // From the longest prefix that ends before a character that is not part of a word, to the shortest.
        value
            .char_indices()
            .rev()
            .filter(|(_, character)| !character.is_alphanumeric())
            .find_map(|(end, _)| self.codes.get(value[..end].trim_end()).copied())
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
