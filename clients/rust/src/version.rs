//! Naming a model version.

use std::{fmt, str::FromStr};

use ev_proto::ev::{
    common::v1::{ModelSelector, model_selector},
    registry::v1::{
        GetGatesRequest, GetVersionRequest, VerifyVersionRequest, get_gates_request, get_version_request,
        verify_version_request,
    },
};

/// A model version as a person names it: `ev-range`, `ev-range:3` (or `ev-range@3`) or `ev-range@canary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRef {
    /// Model name.
    pub model: String,
    /// Which of its versions.
    pub choice: VersionChoice,
}

/// Which version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VersionChoice {
    /// Where the alias `production` points.
    #[default]
    Production,
    /// This one, from 1.
    Version(u32),
    /// Where this alias points.
    Alias(String),
}

/// Not a model version's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected NAME, NAME:VERSION or NAME@ALIAS, such as ev-range:3 or ev-range@production")]
pub struct VersionRefError;

// === impl VersionRef ===

impl FromStr for VersionRef {
    type Err = VersionRefError;

    fn from_str(text: &str) -> Result<VersionRef, VersionRefError> {
        let (model, choice) = match text.split_once([':', '@']) {
            None => (text, VersionChoice::Production),
            // An alias begins with a letter.
            Some((model, version))
                if text[model.len()..].starts_with(':')
                    || version.starts_with(|first: char| first.is_ascii_digit()) =>
            {
                let version = version.parse().ok().filter(|version| *version > 0).ok_or(VersionRefError)?;
                (model, VersionChoice::Version(version))
            }
            Some((model, alias)) if is_name(alias) => (model, VersionChoice::Alias(alias.to_owned())),
            Some(_) => return Err(VersionRefError),
        };
        if is_name(model) { Ok(VersionRef { model: model.to_owned(), choice }) } else { Err(VersionRefError) }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains([':', '@', '/', ' '])
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.choice {
            VersionChoice::Production => write!(f, "{}", self.model),
            VersionChoice::Version(version) => write!(f, "{}:{version}", self.model),
            VersionChoice::Alias(alias) => write!(f, "{}@{alias}", self.model),
        }
    }
}

impl From<VersionRef> for GetVersionRequest {
    fn from(VersionRef { model, choice }: VersionRef) -> GetVersionRequest {
        use get_version_request::VersionChoice as Choice;
        let version_choice = match choice {
            VersionChoice::Production => None,
            VersionChoice::Version(version) => Some(Choice::Version(version)),
            VersionChoice::Alias(alias) => Some(Choice::Alias(alias)),
        };
        GetVersionRequest { model, version_choice }
    }
}

impl From<VersionRef> for VerifyVersionRequest {
    fn from(VersionRef { model, choice }: VersionRef) -> VerifyVersionRequest {
        use verify_version_request::VersionChoice as Choice;
        let version_choice = match choice {
            VersionChoice::Production => None,
            VersionChoice::Version(version) => Some(Choice::Version(version)),
            VersionChoice::Alias(alias) => Some(Choice::Alias(alias)),
        };
        VerifyVersionRequest { model, version_choice }
    }
}

impl From<VersionRef> for GetGatesRequest {
    fn from(VersionRef { model, choice }: VersionRef) -> GetGatesRequest {
        use get_gates_request::VersionChoice as Choice;
        let version_choice = match choice {
            VersionChoice::Production => None,
            VersionChoice::Version(version) => Some(Choice::Version(version)),
            VersionChoice::Alias(alias) => Some(Choice::Alias(alias)),
        };
        GetGatesRequest { model, version_choice, judge_again: false }
    }
}

impl From<VersionRef> for ModelSelector {
    fn from(VersionRef { model, choice }: VersionRef) -> ModelSelector {
        use model_selector::VersionChoice as Choice;
        let version_choice = match choice {
            VersionChoice::Production => None,
            VersionChoice::Version(version) => Some(Choice::Version(version)),
            VersionChoice::Alias(alias) => Some(Choice::Alias(alias)),
        };
        ModelSelector { name: model, version_choice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, VersionChoice)>) {
        let expected = expected.map(|(model, choice)| VersionRef { model: model.to_owned(), choice });
        assert_eq!(text.parse().ok(), expected, "{text}");
        if let Some(expected) = expected {
            assert_eq!(expected.to_string(), text);
        }
    }

    #[test]
    fn names_are_read_and_written() {
        check("ev-range", Some(("ev-range", VersionChoice::Production)));
        check("ev-range:3", Some(("ev-range", VersionChoice::Version(3))));
        check("ev-range@canary", Some(("ev-range", VersionChoice::Alias("canary".to_owned()))));
        assert_eq!("ev-range@3".parse(), "ev-range:3".parse::<VersionRef>());
        for wrong in [
            "",
            ":3",
            "@x",
            "ev-range@0",
            "ev-range@3x",
            "ev-range:",
            "ev-range@",
            "ev-range:0",
            "ev-range:x",
            "a:1@b",
            "a b",
            "a@b:1",
        ] {
            check(wrong, None);
        }
    }
}
