//! How Redis is reached.

use std::{fmt, time::Duration};

use redis::IntoConnectionInfo as _;

use crate::SettingsError;

/// How Redis is reached, and what it keeps.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// `redis://user:password@host:port/database`, `rediss://` for TLS, `unix:///path`; of a cluster, some of its nodes.
    pub urls: Vec<String>,
    /// Whether it is a Redis Cluster.
    pub cluster: bool,
    /// The name of a master that sentinels watch: the URLs are theirs then. User, password and database of the URLs are
    /// those of the servers they name; sentinels are asked without.
    pub sentinel: Option<String>,
    /// Certificates in PEM that a server's is checked against; none for those of the system.
    pub tls_root_certificates: Option<Vec<u8>>,
    /// What all keys and channels begin with, 1 to 64 printable characters without braces. Replicas that share it share
    /// features.
    pub prefix: String,
    /// This process's own name among those that share the prefix, 1 to 64 printable characters without blanks.
    pub replica: String,
    /// How long a question may take, up to 10 s.
    pub deadline: Duration,
    /// How long connecting may take, up to 10 s.
    pub connect_deadline: Duration,
    /// A row is forgotten when it was not written for so long; longer than any view's time to live that matters. Rows of
    /// views that are written from outside are kept.
    pub retention: Duration,
}

// === impl RedisSettings ===

impl RedisSettings {
    /// One server, by its URL, with defaults that suit a network of one site.
    #[must_use]
    pub fn single(url: impl Into<String>, replica: impl Into<String>) -> RedisSettings {
        RedisSettings {
            urls: vec![url.into()],
            cluster: false,
            sentinel: None,
            tls_root_certificates: None,
            prefix: "evserve:features:".to_owned(),
            replica: replica.into(),
            deadline: Duration::from_millis(100),
            connect_deadline: Duration::from_millis(500),
            retention: Duration::from_secs(90 * 86_400),
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first one that is out of its range, or no URL of Redis. What a URL says is not told: it may hold a password.
    pub fn check(&self) -> Result<(), SettingsError> {
        let refuse = |setting, problem: &str| Err(SettingsError { setting, problem: problem.to_owned() });
        let printable = |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let deadline = |deadline: Duration| !deadline.is_zero() && deadline <= Duration::from_secs(10);
        if self.urls.is_empty() || (!self.cluster && self.sentinel.is_none() && self.urls.len() > 1) {
            return refuse("urls", "needs one URL, or with `cluster` or `sentinel` one or more");
        }
        if self.cluster && self.sentinel.is_some() {
            return refuse("sentinel", "is set, and so is `cluster`, which has none");
        }
        if self.sentinel.as_ref().is_some_and(|name| !printable(name)) {
            return refuse("sentinel", "needs 1 to 64 printable ASCII characters without blanks");
        }
        for (place, url) in (1..).zip(&self.urls) {
            if let Err(error) = url.as_str().into_connection_info() {
                let problem =
                    format!("cannot be used, number {place}: {error}; expected such as redis://127.0.0.1:6379/0");
                return Err(SettingsError { setting: "urls", problem });
            }
        }
        if !printable(&self.prefix) || self.prefix.contains(['{', '}']) {
            return refuse("prefix", "needs 1 to 64 printable ASCII characters without braces and blanks");
        }
        if !printable(&self.replica) {
            return refuse("replica", "needs 1 to 64 printable ASCII characters without blanks");
        }
        if !deadline(self.deadline) || !deadline(self.connect_deadline) {
            return refuse("deadline", "and `connect_deadline` need to be above 0 and at most 10 s");
        }
        if self.retention < Duration::from_secs(1) {
            return refuse("retention", "needs to be at least 1 s");
        }
        Ok(())
    }
}

/// Without URLs: they may hold passwords.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("urls", &self.urls.len())
            .field("cluster", &self.cluster)
            .field("sentinel", &self.sentinel)
            .field("prefix", &self.prefix)
            .field("replica", &self.replica)
            .finish_non_exhaustive()
    }
}
