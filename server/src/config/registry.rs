//! `[registry]`.

use serde::{Deserialize, Serialize};

/// `[registry]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// What becomes of versions that no trusted key has signed.
    pub signatures: SignaturePolicy,
    /// Public keys whose signatures count: base64, or files with PEM.
    pub trusted_keys: Vec<String>,
}

/// What becomes of versions that no trusted key has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignaturePolicy {
    /// They are loaded, and nobody looks.
    #[default]
    Off,
    /// They are loaded, and the log says so.
    Warn,
    /// They are not loaded.
    Require,
}
