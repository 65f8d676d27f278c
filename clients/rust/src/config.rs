//! Bounds of a client.

use std::time::Duration;

use tonic::metadata::AsciiMetadataValue;

use crate::RetryPolicy;

/// What is in a message beside a photo: its id, the model's name, lengths.
const BESIDE_A_PHOTO_BYTES: usize = 64 << 10;

/// Bounds of a client; every one has a default that suits a service in the same data centre.
#[derive(Debug, Clone)]
pub struct Config {
    /// Longest time to establish the connection. 5 s.
    pub connect_timeout: Duration,
    /// Longest time of one unary call, its retries included; the server is told. 10 s.
    pub deadline: Duration,
    /// Longest time of one upload, its interruptions included, or verification of a model version. 10 min.
    pub upload_deadline: Duration,
    /// How long an upload that is cut off tries to go on while no byte gets through. 1 min.
    pub upload_patience: Duration,
    /// How often an idle connection is checked. 30 s.
    pub keepalive_interval: Duration,
    /// How long the answer to such a check may take. 10 s.
    pub keepalive_timeout: Duration,
    /// Largest message sent or received, in bytes, and the largest photo: a message that may hold one is given 64 KiB
    /// more. 16 MiB.
    pub message_size_max_bytes: usize,
    /// Put before `ev-client/<version>` in the `user-agent`; empty for nothing.
    pub user_agent: String,
    /// Who calls, for the server's audit log, which nobody checks; what a header cannot hold becomes `?`. Empty for nobody.
    pub actor: String,
    /// When a call is repeated.
    pub retry: RetryPolicy,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Config {
        Config {
            connect_timeout: Duration::from_secs(5),
            deadline: Duration::from_secs(10),
            upload_deadline: Duration::from_secs(600),
            upload_patience: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            message_size_max_bytes: 16 << 20,
            user_agent: String::new(),
            actor: String::new(),
            retry: RetryPolicy::default(),
        }
    }
}

impl Config {
    /// Largest message of a service that takes numbers and text.
    pub(crate) fn message_size(&self) -> usize {
        self.message_size_max_bytes
    }

    /// Largest message of a service that takes photos.
    pub(crate) fn photo_message_size(&self) -> usize {
        self.message_size_max_bytes.saturating_add(BESIDE_A_PHOTO_BYTES)
    }

    /// Who calls, as a header says it.
    pub(crate) fn actor(&self) -> Option<AsciiMetadataValue> {
        let shown = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
        let actor: String = self.actor.trim().chars().map(shown).collect();
        (!actor.is_empty()).then(|| actor.parse().ok()).flatten()
    }

    pub(crate) fn full_user_agent(&self) -> String {
        format!("{} ev-client/{}", self.user_agent, env!("CARGO_PKG_VERSION")).trim_start().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_what_a_header_can_hold() {
        let check = |actor: &str, expected: Option<&str>| {
            let config = Config { actor: actor.to_owned(), ..Config::default() };
            assert_eq!(config.actor().as_ref().and_then(|actor| actor.to_str().ok()), expected, "{actor:?}");
        };
        check("kim@depot", Some("kim@depot"));
        check(" kim of the depot ", Some("kim of the depot"));
        check("josé@ladestation\r\nx: y", Some("jos?@ladestation??x: y"));
        check("", None);
        check("  ", None);
    }
}
