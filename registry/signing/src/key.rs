//! Keys and what they sign.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ev_models_core::Digest;
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};

use crate::{KeyError, pem};

/// Length of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Names what is signed, so that a signature made for something else is never one of a version.
const DOMAIN: &str = "evserve model version signature, version 1";

/// A private key.
pub struct SigningKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

/// A public key: what a server trusts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// The short name of a key: the first eight bytes of the SHA-256 of its public half, `ed25519:<16 hex digits>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

/// A signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; SIGNATURE_BYTES]);

// === impl SigningKey ===

impl SigningKey {
    /// Makes a key of the system's random numbers.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<SigningKey, KeyError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::NoRandomness)?;
        SigningKey::of_seed(seed)
    }

    fn of_seed(seed: [u8; 32]) -> Result<SigningKey, KeyError> {
        let refused = |_| KeyError::Malformed { expected: pem::PRIVATE.expected, problem: "it is refused".to_owned() };
        Ok(SigningKey { pair: Ed25519KeyPair::from_seed_unchecked(&seed).map_err(refused)?, seed })
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(key)
    }

    /// The key as a file, for nobody else to read.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::write(&pem::PRIVATE, &self.seed)
    }

    /// Signs a version of a model.
    #[must_use]
    pub fn sign(&self, model: &str, digest: &Digest) -> Signature {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.pair.sign(&message(model, digest)).as_ref());
        Signature(signature)
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<SigningKey, KeyError> {
        SigningKey::of_seed(pem::read(&pem::PRIVATE, text)?)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.public_key().id()).finish_non_exhaustive()
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// Of its 32 bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::Malformed`] when they are not 32.
    pub fn of_bytes(bytes: &[u8]) -> Result<PublicKey, KeyError> {
        let problem = || format!("it has {} bytes, expected 32", bytes.len());
        let malformed = |_| KeyError::Malformed { expected: pem::PUBLIC.expected, problem: problem() };
        bytes.try_into().map(PublicKey).map_err(malformed)
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its short name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(format!("ed25519:{}", &Digest::of(&self.0).hex()[..16]))
    }

    /// The key as a file.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::write(&pem::PUBLIC, &self.0)
    }

    /// Whether a signature is this key's, of this version of this model.
    #[must_use]
    pub fn verify(&self, model: &str, digest: &Digest, signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(&message(model, digest), &signature.0).is_ok()
    }
}

/// PEM, or the 32 bytes in base64.
impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        match STANDARD.decode(text.trim()) {
            Ok(bytes) => PublicKey::of_bytes(&bytes),
            Err(_) => pem::read(&pem::PUBLIC, text).map(PublicKey),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

// === impl KeyId ===

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Signature ===

impl Signature {
    /// Of its 64 bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::Malformed`] when they are not 64.
    pub fn of_bytes(bytes: &[u8]) -> Result<Signature, KeyError> {
        let problem = || format!("it has {} bytes, expected {SIGNATURE_BYTES}", bytes.len());
        let malformed = |_| KeyError::Malformed { expected: "Ed25519 signature", problem: problem() };
        bytes.try_into().map(Signature).map_err(malformed)
    }

    /// Its 64 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", STANDARD.encode(self.0))
    }
}

/// What is signed: three lines. Neither a model's name nor a digest has line breaks.
fn message(model: &str, digest: &Digest) -> Vec<u8> {
    format!("{DOMAIN}\n{model}\n{digest}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 8032, 7.1, test 1.
    const SEED: [u8; 32] = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49,
        0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ];

    fn key() -> SigningKey {
        SigningKey::of_seed(SEED).expect("a key")
    }

    #[test]
    fn keys_are_those_of_the_standard() {
        // The public key of that test, and how OpenSSL writes both.
        assert_eq!(key().public_key().to_string(), "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
        let public = "-----BEGIN PUBLIC KEY-----\n\
                      MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
        assert_eq!(key().public_key().to_pem(), public);
        let private = "-----BEGIN PRIVATE KEY-----\n\
                       MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        assert_eq!(key().to_pem(), private);
    }

    #[test]
    fn keys_are_read_back_and_say_nothing_of_themselves() {
        let key = SigningKey::generate().expect("a key");
        let again: SigningKey = key.to_pem().parse().expect("a key");
        assert_eq!(again.public_key(), key.public_key());
        let public = key.public_key();
        assert_eq!(public.to_pem().parse(), Ok(public));
        assert_eq!(format!(" {public}\n").parse(), Ok(public));
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("SigningKey {{ id: {:?}, .. }}", public.id()));
    }

    #[test]
    fn what_is_no_key_is_named() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<PublicKey>().expect_err("no key").to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("", "it has 0 bytes");
        check("AAAA", "it has 3 bytes, expected 32");
        check(&key().to_pem(), "it is a `PRIVATE KEY`");
        check("hello there", "it has no line `-----BEGIN PUBLIC KEY-----`");
        check("-----BEGIN PUBLIC KEY-----\nMCow", "it has no line `-----END PUBLIC KEY-----`");
        check("-----BEGIN PUBLIC KEY-----\n?\n-----END PUBLIC KEY-----", "its base64 cannot be read");
        check("-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----", "another algorithm");
        let error = key().public_key().to_pem().parse::<SigningKey>().expect_err("no key").to_string();
        assert_eq!(error, "it is no Ed25519 private key in PEM (`PRIVATE KEY`): it is a `PUBLIC KEY`");
    }

    #[test]
    fn a_signature_holds_for_its_key_model_and_version_alone() {
        let (key, digest) = (key(), Digest::of(b"a manifest"));
        let (signature, public) = (key.sign("ev-range", &digest), key.public_key());
        assert!(public.verify("ev-range", &digest, &signature));
        assert!(!public.verify("ev-rang", &digest, &signature));
        assert!(!public.verify("ev-range", &Digest::of(b"another"), &signature));
        assert!(!SigningKey::generate().expect("a key").public_key().verify("ev-range", &digest, &signature));
        assert!(!PublicKey([0; 32]).verify("ev-range", &digest, &Signature([0; 64])));
    }

    proptest! {
        #[test]
        fn no_bit_of_a_signature_may_change(bit in 0usize..SIGNATURE_BYTES * 8) {
            let (key, digest) = (key(), Digest::of(b"a manifest"));
            let mut bytes = *key.sign("ev-range", &digest).as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!key.public_key().verify("ev-range", &digest, &Signature(bytes)));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = text.parse::<PublicKey>();
            let _ = text.parse::<SigningKey>();
            let _ = format!("-----BEGIN PUBLIC KEY-----{text}-----END PUBLIC KEY-----").parse::<PublicKey>();
        }
    }
}
