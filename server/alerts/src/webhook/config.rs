//! What is set for one webhook.

use std::{fmt, path::PathBuf, time::Duration};

use ev_domain::Severity;
use http::Uri;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::{AlertEvent, ConfigError, error::in_range, severity};

/// Of a URL's digest, what tells receivers apart.
const KEY_BYTES: usize = 8;

/// `[[alerts.webhooks]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where events are posted: `https://host[:port]/path`, or `http://`.
    pub url: String,
    /// A PEM file of the authorities that may have signed the receiver's certificate; empty: the system's.
    #[serde(default)]
    pub ca_certificates: PathBuf,
    /// What they are signed with, 16 to 1024 bytes.
    pub secret: Secret,
    /// Alerts that never were this severe are not sent.
    #[serde(with = "severity", default = "severity_min")]
    pub severity_min: Severity,
    /// How long one attempt may take.
    #[serde(with = "humantime_serde", default = "timeout")]
    pub timeout: Duration,
    /// Attempts before an event is given up.
    #[serde(default = "attempts_max")]
    pub attempts_max: u32,
    /// Wait before the second attempt; doubled with each, and shortened by up to half at random.
    #[serde(with = "humantime_serde", default = "backoff_min")]
    pub backoff_min: Duration,
    /// Longest wait between attempts, also when the receiver asks for more.
    #[serde(with = "humantime_serde", default = "backoff_max")]
    pub backoff_max: Duration,
    /// Events that may wait.
    #[serde(default = "queue_max")]
    pub queue_max: usize,
    /// Events that are sent at one time.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

fn severity_min() -> Severity {
    Severity::Medium
}

fn timeout() -> Duration {
    Duration::from_secs(5)
}

fn attempts_max() -> u32 {
    8
}

fn backoff_min() -> Duration {
    Duration::from_secs(1)
}

fn backoff_max() -> Duration {
    Duration::from_secs(60)
}

fn queue_max() -> usize {
    1000
}

fn concurrency() -> usize {
    4
}

// === impl WebhookConfig ===

impl WebhookConfig {
    /// A webhook with defaults for everything but where and by which secret.
    #[must_use]
    pub fn new(url: String, secret: Secret) -> WebhookConfig {
        WebhookConfig {
            url,
            ca_certificates: PathBuf::new(),
            secret,
            severity_min: severity_min(),
            timeout: timeout(),
            attempts_max: attempts_max(),
            backoff_min: backoff_min(),
            backoff_max: backoff_max(),
            queue_max: queue_max(),
            concurrency: concurrency(),
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.uri()?;
        let (millisecond, hour) = (Duration::from_millis(1), Duration::from_secs(3600));
        if !(16..=1024).contains(&self.secret.0.len()) {
            return Err(ConfigError::new("webhooks.secret", "***", "16 to 1024 bytes"));
        }
        in_range("webhooks.timeout", self.timeout, millisecond, Duration::from_secs(300))?;
        in_range("webhooks.attempts_max", self.attempts_max, 1, 100)?;
        in_range("webhooks.backoff_max", self.backoff_max, millisecond, hour)?;
        in_range("webhooks.backoff_min", self.backoff_min, millisecond, self.backoff_max)?;
        in_range("webhooks.queue_max", self.queue_max, 1, 100_000)?;
        in_range("webhooks.concurrency", self.concurrency, 1, 64)
    }

    /// Names the receiver without telling its URL, which may hold what nobody else shall know.
    #[must_use]
    pub fn key(&self) -> String {
        let digest = Sha256::digest(self.url.as_bytes());
        digest.iter().take(KEY_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether an event is sent to it.
    #[must_use]
    pub fn wants(&self, event: &AlertEvent) -> bool {
        event.alert.peak >= self.severity_min
    }

    /// Whether its receiver must show a certificate.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.uri().is_ok_and(|uri| uri.scheme_str() == Some("https"))
    }

    pub(super) fn uri(&self) -> Result<Uri, ConfigError> {
        let refused = || {
            // What stands before an `@` may be a password.
            let shown: String = self.url.rsplit('@').next().unwrap_or_default().chars().take(200).collect();
            ConfigError::new("webhooks.url", shown, "https://host[:port]/path or http://")
        };
        let uri: Uri = self.url.parse().map_err(|_| refused())?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        if known && uri.host().is_some_and(|host| !host.is_empty()) && !self.url.contains('@') {
            Ok(uri)
        } else {
            Err(refused())
        }
    }
}

// === impl Secret ===

impl Secret {
    /// Takes a secret.
    #[must_use]
    pub fn new(secret: String) -> Secret {
        Secret(secret)
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_needs_a_url_and_a_secret() {
        let check = |url: &str, secret: &str, expected: Result<(), &str>| {
            let config = WebhookConfig::new(url.to_owned(), Secret::new(secret.to_owned()));
            assert_eq!(config.check().map_err(|error| error.to_string()), expected.map_err(str::to_owned));
        };
        let secret = "0123456789abcdef";
        check("http://127.0.0.1:9/hook", secret, Ok(()));
        check("http://a.example", "short", Err("`webhooks.secret` is `***`, expected 16 to 1024 bytes"));
        let url = |url: &str| format!("`webhooks.url` is `{url}`, expected https://host[:port]/path or http://");
        check("https://[::1]:8443/hook", secret, Ok(()));
        check("/hook", secret, Err(&url("/hook")));
        check("ftp://a.example/", secret, Err(&url("ftp://a.example/")));
        check("http://user:password@a.example/", secret, Err(&url("a.example/")));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let config = WebhookConfig::new("http://a.example/".to_owned(), Secret::new("do not tell anybody".to_owned()));
        let shown = format!("{config:?}{}", toml::to_string(&config).expect("TOML"));
        assert!(!shown.contains("tell"), "{shown}");
    }
}
