//! Which versions are signed by somebody who is trusted, looked at whenever one is loaded.

use std::collections::HashSet;

use ev_models_core::Digest;
use ev_registry::{Registry, RegistryError, VersionRecord, VersionSignature};
use ev_signing::{KeyError, PublicKey, Signature};

use super::NotLoaded;
use crate::config::{RegistryConfig, SignaturePolicy};

/// What a version's signatures must be to be loaded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signatures {
    policy: SignaturePolicy,
    trusted: Vec<PublicKey>,
    /// Versions that came with the program, which whoever installed it has trusted already.
    bundled: HashSet<(String, Digest)>,
}

/// A trusted key cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustedKeyError {
    /// Its file cannot be read.
    #[error("cannot read the file")]
    Unreadable(#[source] std::io::Error),
    /// It is no public key.
    #[error(transparent)]
    Malformed(#[from] KeyError),
}

/// How a version is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signed {
    /// By a trusted key.
    By(String),
    /// It came with the program.
    Bundled,
    /// A trusted key's signature is not of this version: it, or the version, was changed.
    Bad(String),
    /// Only by keys that are not trusted.
    UnknownKey(Vec<String>),
    /// Not at all.
    Unsigned,
}

// === impl Signatures ===

impl Signatures {
    /// As configured; a trusted key is base64, or a file with PEM.
    ///
    /// # Errors
    ///
    /// The entry that is no key, and why.
    pub(crate) fn load(config: &RegistryConfig) -> Result<Signatures, (String, TrustedKeyError)> {
        let key = |entry: &String| {
            if let Ok(key) = entry.parse::<PublicKey>() {
                return Ok(key);
            }
            let read = || -> Result<PublicKey, TrustedKeyError> {
                Ok(fs_err::read_to_string(entry).map_err(TrustedKeyError::Unreadable)?.parse()?)
            };
            read().map_err(|error| (entry.clone(), error))
        };
        let trusted = config.trusted_keys.iter().map(key).collect::<Result<_, _>>()?;
        Ok(Signatures { policy: config.signatures, trusted, bundled: HashSet::new() })
    }

    /// The same, where these versions came with the program.
    pub(crate) fn with_bundled(mut self, bundled: impl IntoIterator<Item = (String, Digest)>) -> Signatures {
        self.bundled = bundled.into_iter().collect();
        self
    }

    /// Whether a version may be loaded.
    ///
    /// # Errors
    ///
    /// Why not, with its code and reason first.
    pub(crate) async fn check(&self, registry: &Registry, record: &VersionRecord) -> Result<(), NotLoaded> {
        if self.policy == SignaturePolicy::Off {
            return Ok(());
        }
        let unread = |error: RegistryError| match NotLoaded::from(error) {
            NotLoaded::Refused(reason) => NotLoaded::Refused(format!("DATA_LOSS: BAD_SIGNATURE: {reason}")),
            unread @ NotLoaded::Unread(_) => unread,
        };
        let signatures = registry.signatures(record).await.map_err(unread)?;
        let signed = self.of(&record.model, &record.digest, &signatures);
        let refusal = signed.refusal();
        let refused =
            refusal.is_some() && (self.policy == SignaturePolicy::Require || matches!(signed, Signed::Bad(_)));
        match refusal {
            Some(reason) if refused => Err(NotLoaded::Refused(reason)),
            Some(reason) => {
                let (model, version) = (&record.model, record.version);
                tracing::warn!(model, version, reason, "model version is not signed by a trusted key");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// How a version is signed, by what the registry holds.
    pub(crate) fn of(&self, model: &str, digest: &Digest, signatures: &[VersionSignature]) -> Signed {
        let (mut by, mut unknown) = (None, Vec::new());
        for VersionSignature { public_key, signature, .. } in signatures {
            let Ok(key) = PublicKey::of_bytes(public_key) else { continue };
            if !self.trusted.contains(&key) {
                unknown.push(key.id().to_string());
                continue;
            }
            let holds = Signature::of_bytes(signature).is_ok_and(|signature| key.verify(model, digest, &signature));
            if !holds {
                return Signed::Bad(key.id().to_string());
            }
            by.get_or_insert(key.id().to_string());
        }
        match by {
            Some(key) => Signed::By(key),
            None if self.bundled.contains(&(model.to_owned(), *digest)) => Signed::Bundled,
            None if unknown.is_empty() => Signed::Unsigned,
            None => Signed::UnknownKey(unknown),
        }
    }
}

// === impl Signed ===

impl Signed {
    /// Why a version that is signed so is refused where signatures are required; none when it is not.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Signed::By(_) | Signed::Bundled => None,
            Signed::Bad(key) => Some(format!(
                "DATA_LOSS: BAD_SIGNATURE: the signature of the trusted key {key} is not one of this version; the \
                 signature or the version was changed"
            )),
            Signed::UnknownKey(keys) => Some(format!(
                "FAILED_PRECONDITION: UNKNOWN_KEY: signed by {}, expected one of `registry.trusted_keys`",
                keys.join(", ")
            )),
            Signed::Unsigned => Some(
                "FAILED_PRECONDITION: UNSIGNED: no signature, expected one of a key of `registry.trusted_keys`; sign \
                 it with: evctl models sign"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use ev_signing::SigningKey;

    use super::*;

    fn config(trusted_key: &str) -> RegistryConfig {
        let overrides = [("registry.signatures", "require"), ("registry.trusted_keys", trusted_key)];
        let overrides = overrides.map(|(key, value)| (key.to_owned(), value.to_owned()));
        crate::Config::load(None, [], overrides).expect("a configuration").registry
    }

    fn signature(key: &SigningKey, model: &str, digest: &Digest) -> VersionSignature {
        VersionSignature {
            public_key: key.public_key().as_bytes().to_vec(),
            signature: key.sign(model, digest).as_bytes().to_vec(),
            actor: "ada".to_owned(),
            at_ms: 0,
        }
    }

    #[test]
    fn a_version_counts_as_signed_by_trusted_keys_alone() {
        let (trusted, other) = (SigningKey::generate().expect("a key"), SigningKey::generate().expect("a key"));
        let (digest, bundled) = (Digest::of(b"a version"), Digest::of(b"a bundled one"));
        let signatures = Signatures::load(&config(&trusted.public_key().to_string()))
            .expect("keys")
            .with_bundled([("m".to_owned(), bundled)]);
        let check = |digest: &Digest, given: &[VersionSignature], expected: Signed| {
            assert_eq!(signatures.of("m", digest, given), expected);
        };
        let (trusted_id, other_id) = (trusted.public_key().id().to_string(), other.public_key().id().to_string());
        check(&digest, &[], Signed::Unsigned);
        check(&bundled, &[], Signed::Bundled);
        check(&digest, &[signature(&trusted, "m", &digest)], Signed::By(trusted_id.clone()));
        check(&digest, &[signature(&other, "m", &digest)], Signed::UnknownKey(vec![other_id]));
        check(
            &digest,
            &[signature(&other, "m", &digest), signature(&trusted, "m", &digest)],
            Signed::By(trusted_id.clone()),
        );
        // Of another model, of another version, and cut short.
        check(&digest, &[signature(&trusted, "n", &digest)], Signed::Bad(trusted_id.clone()));
        check(&digest, &[signature(&trusted, "m", &bundled)], Signed::Bad(trusted_id.clone()));
        let mut short = signature(&trusted, "m", &digest);
        short.signature.pop();
        check(&digest, &[short], Signed::Bad(trusted_id));
    }

    #[test]
    fn trusted_keys_are_base64_or_files() {
        let key = SigningKey::generate().expect("a key").public_key();
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs_err::write(file.path(), key.to_pem()).expect("written");
        let load = |entry: &str| Signatures::load(&config(entry));
        for entry in [key.to_string(), file.path().display().to_string()] {
            assert_eq!(load(&entry).expect("a key").trusted, [key], "{entry}");
        }
        fs_err::write(file.path(), "no key").expect("written");
        let (entry, error) = load(&file.path().display().to_string()).expect_err("no key");
        assert_eq!(entry, file.path().display().to_string());
        assert!(error.to_string().contains("BEGIN PUBLIC KEY"), "{error}");
        assert!(matches!(load("/nonexistent/key.pem"), Err((_, TrustedKeyError::Unreadable(_)))));
    }
}
