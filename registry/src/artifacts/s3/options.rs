//! Which store, and with which credentials.

use std::{fmt, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    path::Path as ObjectPath,
};

use super::patience::PatientConnector;
use crate::RegistryError;

/// Longest time of one request: a part of a file, at 140 kB/s. A download goes on from where it was ended.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Repetitions of a request that failed for a passing reason, and the time within which they begin: one that was not
/// answered is repeated, a second one is not.
const RETRIES_MAX: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// An S3-compatible object store, and how much of it is kept on the local disk.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Options {
    /// `s3://bucket` or `s3://bucket/prefix`.
    pub url: String,
    /// Settings by the names of AWS's environment variables, in lower case, such as `aws_region`. Those that mean nothing
    /// are passed over.
    pub settings: Vec<(String, String)>,
    /// Bytes that are kept on the local disk; at least those of the largest version.
    pub cache_max_bytes: u64,
}

// === impl S3Options ===

impl S3Options {
    /// Refuses a URL that names no bucket.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub fn check(&self) -> Result<(), String> {
        self.place().map(drop)
    }

    /// Bucket and prefix.
    fn place(&self) -> Result<(&str, ObjectPath), String> {
        const EXPECTED: &str = "expected s3://bucket or s3://bucket/prefix";
        let rest = self.url.strip_prefix("s3://").ok_or(EXPECTED)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(good) {
            return Err(format!("{EXPECTED}, a bucket of 3 to 63 lower-case letters, digits, `.` and `-`"));
        }
        let prefix = ObjectPath::parse(prefix);
        Ok((bucket, prefix.map_err(|_| format!("{EXPECTED}, a prefix of names with one `/` between them"))?))
    }

    /// The store and the prefix. Nothing is sent.
    pub(super) fn connect(&self) -> Result<(Arc<dyn ObjectStore>, ObjectPath), RegistryError> {
        // The process may have chosen another one before: that is fine too.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let refused = |problem: String| RegistryError::StoreRefused { url: self.url.clone(), problem, source: None };
        let (bucket, prefix) = self.place().map_err(refused)?;
        let mut builder = AmazonS3Builder::new();
        for (name, value) in &self.settings {
            if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        // The one that is S3's own goes before.
        let endpoints = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
        let endpoint = endpoints.iter().find_map(|key| builder.get_config_value(key)).unwrap_or_default();
        let backoff = BackoffConfig { max_backoff: LONGEST_PAUSE, ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT };
        let client = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            // In clear only where somebody has written so.
            .with_allow_http(endpoint.starts_with("http://"));
        let built = builder
            .with_bucket_name(bucket)
            .with_retry(retry)
            .with_client_options(client)
            .with_http_connector(PatientConnector)
            // Files are deleted one by one, which every store knows how to do.
            .with_disable_bulk_delete(true)
            .build();
        let store = built.map_err(|error| refused(format!("the AWS_* settings cannot be used: {error}")))?;
        Ok((Arc::new(store), prefix))
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the settings: some are secret.
        f.debug_struct("S3Options").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_bucket_and_perhaps_a_prefix() {
        let check = |url: &str, expected: Option<(&str, &str)>| {
            let options = S3Options { url: url.to_owned(), settings: Vec::new(), cache_max_bytes: 0 };
            let found = options.place().ok();
            assert_eq!(found.as_ref().map(|(bucket, prefix)| (*bucket, prefix.as_ref())), expected, "{url}");
        };
        check("s3://models", Some(("models", "")));
        check("s3://models/", Some(("models", "")));
        check("s3://models/a/b/", Some(("models", "a/b")));
        for wrong in ["", "models", "s3://", "s3:///a", "s3://ab", "s3://Models", "s3://mo dels", "https://models"] {
            check(wrong, None);
        }
        check("s3://models/a//b", None);
        check("s3://models/../b", None);
    }

    #[test]
    fn settings_are_taken_and_never_shown() {
        let check = |settings: &[(&str, &str)], expected: Result<(), &str>| {
            let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let options = S3Options { url: "s3://models".to_owned(), settings, cache_max_bytes: 0 };
            assert!(!format!("{options:?}").contains("secret"));
            match (options.connect(), expected) {
                (Ok(_), Ok(())) => {}
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part) && !error.to_string().contains("secret"), "{error}");
                }
                (found, expected) => panic!("{:?}, expected {expected:?}", found.map(drop)),
            }
        };
        let key = ("aws_access_key_id", "key");
        check(&[key, ("aws_secret_access_key", "secret"), ("aws_profile", "unknown")], Ok(()));
        check(&[("aws_role_arn", "arn"), ("aws_web_identity_token_file", "/token")], Ok(()));
        check(&[key, ("aws_endpoint_url", "http://127.0.0.1:9000")], Err("the AWS_* settings cannot be used"));
        check(&[("aws_imdsv1_fallback", "perhaps")], Err("the AWS_* settings cannot be used"));
    }
}
