//! Which versions of a model are loaded beside those that its aliases and rollouts need.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Most versions that a policy may name or count: each is held in memory on every server.
pub const POLICY_VERSIONS_MAX: usize = 64;

/// What is loaded of a model's versions, whatever its aliases point at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VersionPolicy {
    /// Nothing more than aliases and rollouts need.
    #[default]
    Aliases,
    /// So many of the newest, 1 to [`POLICY_VERSIONS_MAX`].
    Latest(u32),
    /// These, as many at most.
    Versions(BTreeSet<u32>),
    /// All.
    All,
}

/// What policies may load, of all models together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PolicyLimits {
    /// `deploy.policy_versions_max`.
    pub(crate) versions_max: usize,
    /// `deploy.policy_size_max`, in bytes of the versions' files.
    pub(crate) size_max_bytes: u64,
}

/// What is left of the limits while models are gone through.
#[derive(Debug)]
pub(super) struct Allowance {
    limits: PolicyLimits,
    versions: usize,
    bytes: u64,
}

/// A text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is `{found}`, expected {EXPECTED}")]
pub struct NoPolicy {
    found: String,
}

const EXPECTED: &str = "`aliases`, `all`, `latest:N` or `versions:N,N`, with N from 1 and at most 64 versions";

// === impl VersionPolicy ===

impl VersionPolicy {
    /// Whether it asks for a version, of which `newer` are newer.
    pub(super) fn asks_for(&self, version: u32, newer: usize) -> bool {
        match self {
            VersionPolicy::Aliases => false,
            VersionPolicy::Latest(count) => newer < usize::try_from(*count).unwrap_or(usize::MAX),
            VersionPolicy::Versions(versions) => versions.contains(&version),
            VersionPolicy::All => true,
        }
    }

    /// Whether it can be one: numbers that count from 1, and not too many.
    pub(crate) fn is_sound(&self) -> bool {
        let count_max = u32::try_from(POLICY_VERSIONS_MAX).unwrap_or(u32::MAX);
        match self {
            VersionPolicy::Aliases | VersionPolicy::All => true,
            VersionPolicy::Latest(count) => (1..=count_max).contains(count),
            VersionPolicy::Versions(versions) => {
                (1..=POLICY_VERSIONS_MAX).contains(&versions.len()) && !versions.contains(&0)
            }
        }
    }
}

impl fmt::Display for VersionPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionPolicy::Aliases => formatter.write_str("aliases"),
            VersionPolicy::All => formatter.write_str("all"),
            VersionPolicy::Latest(count) => write!(formatter, "latest:{count}"),
            VersionPolicy::Versions(versions) => {
                let versions: Vec<String> = versions.iter().map(u32::to_string).collect();
                write!(formatter, "versions:{}", versions.join(","))
            }
        }
    }
}

impl FromStr for VersionPolicy {
    type Err = NoPolicy;

    fn from_str(text: &str) -> Result<VersionPolicy, NoPolicy> {
        let refused = || NoPolicy { found: text.chars().take(64).collect() };
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| refused());
        let policy = match text.split_once(':') {
            None if text == "aliases" => VersionPolicy::Aliases,
            None if text == "all" => VersionPolicy::All,
            Some(("latest", count)) => VersionPolicy::Latest(number(count)?),
            Some(("versions", versions)) => {
                VersionPolicy::Versions(versions.split(',').map(number).collect::<Result<_, _>>()?)
            }
            _ => return Err(refused()),
        };
        Some(policy).filter(VersionPolicy::is_sound).ok_or_else(refused)
    }
}

impl Serialize for VersionPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As text, or as a table that says the same.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Latest(WrittenLatest),
    Versions(WrittenVersions),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLatest {
    latest: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenVersions {
    versions: BTreeSet<u32>,
}

impl<'de> Deserialize<'de> for VersionPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<VersionPolicy, D::Error> {
        let expected = format!("expected {EXPECTED}, or {{ latest = N }}, or {{ versions = [N, N] }}");
        let policy = match Written::deserialize(deserializer).map_err(|_| D::Error::custom(&expected))? {
            Written::Text(text) => return text.parse().map_err(D::Error::custom),
            Written::Latest(written) => VersionPolicy::Latest(written.latest),
            Written::Versions(written) => VersionPolicy::Versions(written.versions),
        };
        if policy.is_sound() { Ok(policy) } else { Err(D::Error::custom(format!("is `{policy}`, {expected}"))) }
    }
}

// === impl Allowance ===

impl Allowance {
    pub(super) fn new(limits: PolicyLimits) -> Allowance {
        Allowance { limits, versions: 0, bytes: 0 }
    }

    /// Takes room for a version of this size.
    ///
    /// # Errors
    ///
    /// Why there is none, and what to do.
    pub(super) fn take(&mut self, size_bytes: u64) -> Result<(), String> {
        let PolicyLimits { versions_max, size_max_bytes } = self.limits;
        if self.versions >= versions_max {
            return Err(format!(
                "version policies ask for more than {versions_max} versions; raise `deploy.policy_versions_max`, or \
                 ask for fewer"
            ));
        }
        let bytes = self.bytes.saturating_add(size_bytes);
        if bytes > size_max_bytes {
            return Err(format!(
                "version policies ask for more than {}; raise `deploy.policy_size_max`, or ask for fewer versions",
                bytesize::ByteSize(size_max_bytes)
            ));
        }
        (self.versions, self.bytes) = (self.versions + 1, bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(versions: &[u32]) -> VersionPolicy {
        VersionPolicy::Versions(versions.iter().copied().collect())
    }

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        let check = |text: &str, expected: Option<VersionPolicy>| {
            assert_eq!(text.parse().ok(), expected, "{text}");
            if let Some(policy) = expected {
                assert_eq!(policy.to_string().parse(), Ok(policy));
            }
        };
        check("aliases", Some(VersionPolicy::Aliases));
        check("all", Some(VersionPolicy::All));
        check("latest:1", Some(VersionPolicy::Latest(1)));
        check("latest:64", Some(VersionPolicy::Latest(64)));
        check("versions:3, 1,3", Some(versions(&[1, 3])));
        for text in ["", "All", "latest", "latest:0", "latest:65", "latest:-1", "versions:", "versions:0", "latest:1,2"]
        {
            check(text, None);
        }
        let many: Vec<String> = (1..=65).map(|number: u32| number.to_string()).collect();
        check(&format!("versions:{}", many.join(",")), None);
    }

    #[test]
    fn a_policy_is_a_text_or_a_table_in_a_file() {
        #[derive(Deserialize)]
        struct File {
            serve: VersionPolicy,
        }
        let check = |text: &str, expected: Option<VersionPolicy>| {
            let found = toml::from_str::<File>(&format!("serve = {text}"));
            assert_eq!(found.ok().map(|file| file.serve), expected, "{text}");
        };
        check("\"all\"", Some(VersionPolicy::All));
        check("\"latest:3\"", Some(VersionPolicy::Latest(3)));
        check("{ latest = 2 }", Some(VersionPolicy::Latest(2)));
        check("{ versions = [4, 1] }", Some(versions(&[1, 4])));
        for text in ["{ latest = 0 }", "{ versions = [] }", "{ latest = 1, versions = [1] }", "\"newest\"", "3"] {
            check(text, None);
        }
    }

    #[test]
    fn a_policy_asks_for_versions_by_number_or_by_how_new_they_are() {
        // Of versions 5, 3 and 2.
        let check = |policy: VersionPolicy, expected: [bool; 3]| {
            let found = [(5, 0), (3, 1), (2, 2)].map(|(version, newer)| policy.asks_for(version, newer));
            assert_eq!(found, expected, "{policy}");
        };
        check(VersionPolicy::Aliases, [false; 3]);
        check(VersionPolicy::All, [true; 3]);
        check(VersionPolicy::Latest(2), [true, true, false]);
        check(versions(&[2, 4, 5]), [true, false, true]);
    }

    #[test]
    fn what_policies_may_load_is_bounded() {
        let mut allowance = Allowance::new(PolicyLimits { versions_max: 3, size_max_bytes: 100 });
        assert_eq!(allowance.take(60), Ok(()));
        assert!(allowance.take(41).is_err_and(|reason| reason.contains("100 B") && reason.contains("policy_size_max")));
        assert_eq!((allowance.take(40), allowance.take(0)), (Ok(()), Ok(())));
        assert!(allowance.take(0).is_err_and(|reason| reason.contains("more than 3 versions")));
    }
}
