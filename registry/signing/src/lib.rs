//! Ed25519 signatures of model versions.
//!
//! What is signed is a model's name and a version's digest, behind words that no other protocol signs: the digest names
//! every byte of the manifest and of every file, so a signature holds wherever the version is registered, and for no other.
//!
//! Invariants:
//!
//! - A signature that holds was made with the private key of the public one it is held against, for this model and digest.
//! - Private keys are written to no log: their `Debug` says nothing.
//! - Keys are files as OpenSSL reads and writes them: `PRIVATE KEY` (PKCS #8) and `PUBLIC KEY` (RFC 8410).
//!
//! Not here: which keys are trusted and what is done with a version that has no signature (the server's configuration
//! says), where signatures are kept (the registry), and files.
//!
//! ```
//! use ev_models_core::Digest;
//! use ev_signing::{PublicKey, Signature, SigningKey};
//!
//! let key = SigningKey::generate()?;
//! let digest = Digest::of(b"a canonical manifest");
//! let signature = key.sign("ev-range", &digest);
//!
//! let trusted: PublicKey = key.public_key().to_pem().parse()?;
//! assert!(trusted.verify("ev-range", &digest, &signature));
//! assert!(!trusted.verify("ev-range", &Digest::of(b"another one"), &signature));
//! # Ok::<(), ev_signing::KeyError>(())
//! ```

mod error;
mod key;
mod pem;

pub use error::KeyError;
pub use key::{KeyId, PublicKey, SIGNATURE_BYTES, Signature, SigningKey};
