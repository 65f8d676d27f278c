//! Settings that cannot be right.

use ev_registry::{RegistryError, S3ArtifactStore, S3Options, StagedLimits};

use crate::places::{CACHE_BYTES, Place as _, S3, settings};

async fn open(url: &str, change: impl FnOnce(&mut Vec<(String, String)>)) -> Result<S3ArtifactStore, RegistryError> {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(None);
    change(&mut settings);
    let options = S3Options { url: url.to_owned(), settings, cache_max_bytes: CACHE_BYTES };
    S3ArtifactStore::open(&options, dir.path(), StagedLimits::default()).await
}

fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Vec<(String, String)>) {
    move |settings| {
        for setting in settings.iter_mut().filter(|(setting, _)| setting == name) {
            value.clone_into(&mut setting.1);
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_right_is_refused_with_what_to_correct() {
    let Some(_place) = S3::empty() else { return };
    let check = async |opened: Result<S3ArtifactStore, RegistryError>, expected: &str| {
        let error = opened.err().unwrap();
        assert!(matches!(error, RegistryError::StoreRefused { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let bucket = "s3://evserve-test";
    check(open("s3://no-such-bucket", |_| ()).await, "there is no such bucket; create it, or correct `registry.arti")
        .await;
    check(open(bucket, set("aws_access_key_id", "nobody")).await, "check AWS_ACCESS_KEY_ID").await;
    check(open(bucket, set("aws_secret_access_key", "wrong")).await, "check AWS_ACCESS_KEY_ID").await;
    check(open("s3://", |_| ()).await, "expected s3://bucket or s3://bucket/prefix").await;
    open(bucket, |_| ()).await.unwrap();
}
