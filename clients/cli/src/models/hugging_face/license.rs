//! The licence in the front matter of a model card.

use super::CARD;
use crate::failure::Failure;

/// What Hugging Face calls licences, where it is not the SPDX identifier in lower case alone.
const SPDX: [(&str, &str); 27] = [
    ("afl-3.0", "AFL-3.0"),
    ("agpl-3.0", "AGPL-3.0-only"),
    ("apache-2.0", "Apache-2.0"),
    ("artistic-2.0", "Artistic-2.0"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd-3-clause-clear", "BSD-3-Clause-Clear"),
    ("bsl-1.0", "BSL-1.0"),
    ("cc-by-2.0", "CC-BY-2.0"),
    ("cc-by-3.0", "CC-BY-3.0"),
    ("cc-by-4.0", "CC-BY-4.0"),
    ("cc-by-nc-2.0", "CC-BY-NC-2.0"),
    ("cc-by-nc-3.0", "CC-BY-NC-3.0"),
    ("cc-by-nc-4.0", "CC-BY-NC-4.0"),
    ("cc-by-nc-nd-4.0", "CC-BY-NC-ND-4.0"),
    ("cc-by-nc-sa-4.0", "CC-BY-NC-SA-4.0"),
    ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
    ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
    ("cc0-1.0", "CC0-1.0"),
    ("gpl-2.0", "GPL-2.0-only"),
    ("gpl-3.0", "GPL-3.0-only"),
    ("isc", "ISC"),
    ("lgpl-3.0", "LGPL-3.0-only"),
    ("mit", "MIT"),
    ("mpl-2.0", "MPL-2.0"),
    ("unlicense", "Unlicense"),
    ("zlib", "Zlib"),
];

/// The licence that a card states, as SPDX.
pub(super) fn of_card(card: Option<&str>) -> Result<String, Failure> {
    let stated = card.and_then(stated);
    let known = stated.and_then(|stated| SPDX.iter().find(|(name, _)| stated.eq_ignore_ascii_case(name)));
    if let Some((_, spdx)) = known {
        return Ok((*spdx).to_owned());
    }
    let problem = match (card, stated) {
        (None, _) => format!("the licence of the model is not known: there is no {CARD}"),
        (Some(_), None) => format!("the licence of the model is not known: {CARD} states none in its front matter"),
        (Some(_), Some(stated)) => {
            format!(
                "the licence of the model is not known: {CARD} says `{stated:.60}`, which is no single SPDX licence"
            )
        }
    };
    Err(Failure::usage(
        problem,
        &[
            "say which it is, such as: --license Apache-2.0",
            "a licence of its own is named as: --license LicenseRef-NAME",
        ],
    ))
}

/// The value of `license:` between the first two lines of `---`.
fn stated(card: &str) -> Option<&str> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let mut front = lines.take_while(|line| line.trim_end() != "---");
    let value = front.find_map(|line| line.strip_prefix("license:"))?;
    let value = value.split(" #").next().unwrap_or(value).trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_card_states_becomes_spdx() {
        for (card, expected) in [
            ("---\nlicense: apache-2.0\ntags:\n- vision\n---\n# Card", "Apache-2.0"),
            ("---\r\ntags: [x]\r\nlicense: \"MIT\"  # as the paper\r\n---\r\n", "MIT"),
            ("---\nlicense: gpl-3.0\n---\n", "GPL-3.0-only"),
        ] {
            assert_eq!(of_card(Some(card)).expect(card), expected);
        }
    }

    #[test]
    fn what_is_not_known_is_asked_for() {
        for (card, expected) in [
            (None, "there is no README.md"),
            (Some("# Card\nlicense: mit\n"), "states none"),
            (Some("---\ntags: x\n---\nlicense: mit\n"), "states none"),
            (Some("---\nlicense:\n- mit\n- apache-2.0\n---\n"), "states none"),
            (Some("---\nlicense: other\n---\n"), "says `other`"),
            (Some(""), "states none"),
        ] {
            let failure = of_card(card).expect_err(expected);
            assert!(failure.to_string().contains(expected), "{failure}");
            let Failure::Usage { advice, .. } = failure else { panic!("{failure:?}") };
            assert!(advice[0].contains("--license"));
        }
    }
}
