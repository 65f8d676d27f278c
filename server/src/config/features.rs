//! `[features]`.

use std::{fmt, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use ev_features::{AggregatorSettings, MemorySettings, RedisSettings};
use serde::{Deserialize, Serialize, Serializer};

use super::{ConfigError, invalid};

/// `[features]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeaturesConfig {
    /// A fleet's own views; empty for those of the program.
    pub views: PathBuf,
    /// What features may take in memory.
    pub memory_max: ByteSize,
    /// Most vehicles whose windows and sessions are kept.
    pub vehicles_max: usize,
    /// How late a reading may come and still count.
    #[serde(with = "humantime_serde")]
    pub lateness: Duration,
    /// How far back stored readings are taken in again at a start; zero: not at all.
    #[serde(with = "humantime_serde")]
    pub replay: Duration,
    /// Most readings of that.
    pub replay_readings_max: u64,
    /// Longest time for it.
    #[serde(with = "humantime_serde")]
    pub replay_time_max: Duration,
    /// Redis behind memory.
    pub redis: RedisConfig,
}

/// `[features.redis]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// Where it is; none: features are in memory alone.
    pub urls: Vec<RedisUrl>,
    /// Whether it is a Redis Cluster.
    pub cluster: bool,
    /// The name of a master that sentinels at the URLs watch; empty for none.
    pub sentinel: String,
    /// Certificates in PEM that a server's is checked against; empty for those of the system.
    pub tls_root_certificates: PathBuf,
    /// What all keys begin with.
    pub prefix: String,
    /// This process's own name; empty for one that is made at each start.
    pub replica: String,
    /// How long a question may take.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// How long connecting may take.
    #[serde(with = "humantime_serde")]
    pub connect_deadline: Duration,
    /// How long features are kept that nothing is heard of.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
}

/// A URL that may hold a password, which is not printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct RedisUrl(String);

// === impl FeaturesConfig ===

impl FeaturesConfig {
    /// What the store in memory may take.
    pub(crate) fn memory(&self) -> MemorySettings {
        MemorySettings { bytes_max: usize::try_from(self.memory_max.as_u64()).unwrap_or(usize::MAX) }
    }

    /// What is computed of how many vehicles.
    pub(crate) fn aggregator(&self) -> AggregatorSettings {
        AggregatorSettings { lateness: self.lateness, vehicles_max: self.vehicles_max, ..AggregatorSettings::default() }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let (found, least, most) = (self.memory_max, ByteSize::mib(1), ByteSize::tib(1));
        if !(least..=most).contains(&found) {
            return Err(invalid(format!("features.memory_max is {found}, expected 1MiB to 1TiB")));
        }
        if !(1..=100_000_000).contains(&self.vehicles_max) {
            let found = self.vehicles_max;
            return Err(invalid(format!("features.vehicles_max is {found}, expected 1 to 100000000")));
        }
        self.aggregator().check().map_err(|error| invalid(format!("features.{} {}", error.setting, error.problem)))?;
        let day = Duration::from_secs(86_400);
        for (name, value) in [("replay", self.replay), ("replay_time_max", self.replay_time_max)] {
            if value > day {
                return Err(invalid(format!("features.{name} is {value:?}, expected at most a day")));
            }
        }
        if self.redis.is_used() {
            let settings = self.redis.settings(None);
            let refuse = |error: ev_features::SettingsError| {
                invalid(format!("features.redis.{} {}", error.setting, error.problem))
            };
            settings.check().map_err(refuse)?;
        }
        Ok(())
    }
}

// === impl RedisConfig ===

impl RedisConfig {
    /// Whether there is one.
    pub(crate) fn is_used(&self) -> bool {
        !self.urls.is_empty()
    }

    /// How it is reached, with what is in `tls_root_certificates`.
    pub(crate) fn settings(&self, tls_root_certificates: Option<Vec<u8>>) -> RedisSettings {
        let made = || format!("evserve-{}", uuid::Uuid::now_v7().simple());
        RedisSettings {
            urls: self.urls.iter().map(|url| url.0.clone()).collect(),
            cluster: self.cluster,
            sentinel: Some(self.sentinel.clone()).filter(|name| !name.is_empty()),
            tls_root_certificates,
            prefix: self.prefix.clone(),
            replica: if self.replica.is_empty() { made() } else { self.replica.clone() },
            deadline: self.deadline,
            connect_deadline: self.connect_deadline,
            retention: self.retention,
        }
    }
}

// === impl RedisUrl ===

impl RedisUrl {
    /// Everything between `//` and `@` is who one is, and everything after `?` may be; both are left out.
    fn masked(&self) -> String {
        let whole = self.0.split_once('?').map_or(&*self.0, |(whole, _)| whole);
        match (whole.split_once("://"), whole.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
            (Some(_), None) => whole.to_owned(),
            // Whatever it is, it is no URL.
            (None, _) => "***".to_owned(),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_printed() {
        let check = |url: &str, expected: &str| assert_eq!(RedisUrl(url.to_owned()).masked(), expected);
        check("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0");
        check("rediss://user:pass@redis.example:6379/2", "rediss://***@redis.example:6379/2");
        check("redis://:p@ss@redis.example", "redis://***@redis.example");
        check("unix:///run/redis.sock?pass=secret&db=1", "unix:///run/redis.sock");
        check("secret", "***");
    }
}
