//! A process that is killed at each request of a publish to the store.

use std::{
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use ev_registry::{
    Artifacts, Imported, Page, Registry, RegistryConfig, RegistryError, S3ArtifactStore, S3Options, StagedLimits,
    VersionChoice,
};

use crate::{
    places::{CACHE_BYTES, NOW_MS, Place as _, S3, manifest, noise, settings},
    proxy::{At, Proxy},
    suite::entry,
};

const CHILD_DIRECTORY: &str = "EV_REGISTRY_TEST_PUBLISH_DIRECTORY";
const CHILD_ENDPOINT: &str = "EV_REGISTRY_TEST_PUBLISH_ENDPOINT";
const CHILD_URL: &str = "EV_REGISTRY_TEST_PUBLISH_URL";

fn config(directory: &std::path::Path, endpoint: Option<&str>, url: String) -> RegistryConfig {
    let options = S3Options { url, settings: settings(endpoint), cache_max_bytes: CACHE_BYTES };
    RegistryConfig { artifacts: Artifacts::S3(options), ..RegistryConfig::new(directory) }
}

/// A file that goes in two parts, and a small one.
fn files() -> [(&'static str, Vec<u8>); 2] {
    [("model.ubj", noise(9, (8 << 20) + 5_000)), ("README.md", noise(10, 300))]
}

async fn publish(registry: &Registry) -> Result<Imported, RegistryError> {
    let files = files();
    let entries: Vec<_> = files.iter().map(|(path, content)| entry(path, content)).collect();
    let received = registry.received(&entries).await?;
    let mut upload = registry.resume_upload(&manifest("adder"), entries, NOW_MS).await?;
    for ((path, content), received) in files.iter().zip(received) {
        let rest = Bytes::copy_from_slice(&content[usize::try_from(received).unwrap()..]);
        upload.write(path, received, rest).await?;
    }
    upload.finish(NOW_MS).await
}

/// Not a test of its own: the process that the next test kills.
#[test]
fn publishes_as_it_is_told() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let (endpoint, url) = (std::env::var(CHILD_ENDPOINT).unwrap(), std::env::var(CHILD_URL).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let registry = Registry::open(&config(directory.as_ref(), Some(&endpoint), url)).await.unwrap();
        publish(&registry).await.unwrap();
        registry.close().await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_may_be_killed_at_any_request_and_goes_on() {
    let Some(place) = S3::empty() else { return };
    let proxy = Proxy::start();
    let child = |round: &str, at: Option<At>| {
        proxy.mend();
        if let Some(at) = at {
            proxy.stop_at(at);
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "interrupted::publishes_as_it_is_told", "--nocapture"])
            .env(CHILD_DIRECTORY, place.directory().join(round))
            .env(CHILD_ENDPOINT, proxy.endpoint())
            .env(CHILD_URL, format!("s3://evserve-test/{}/{round}", place.prefix))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let seen = proxy.wait_until(|| child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        (seen, child.wait().unwrap())
    };
    let (whole, ended) = child("whole", None);
    assert!(ended.success() && !whole.stopped, "{whole:?}");
    let requests = whole.requests.len();
    let parts = whole.requests.iter().filter(|line| line.contains("partNumber=")).count();
    assert!(requests >= 8 && parts == 2, "{whole:?}");
    let mut resumed = 0;
    for number in 1..=requests {
        for at in [At::Before(number), At::After(number)] {
            let round = format!("{at:?}").replace(['(', ')'], "-").to_lowercase();
            let (seen, ended) = child(&round, Some(at));
            let context = format!("{at:?} of {requests}: {ended}, {:?}", seen.requests.last());
            assert!(seen.stopped && ended.code().is_none(), "{context}");
            let directory = place.directory().join(&round);
            let config = config(&directory, None, format!("s3://evserve-test/{}/{round}", place.prefix));
            let registry = Registry::open(&config).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            // Registration is the database's, and comes after the last request: nothing is visible.
            let listed = registry.list_versions("adder", &Page::default()).await;
            assert!(matches!(listed, Err(RegistryError::NotFound { .. })), "{context}: {listed:?}");
            if seen.requests.iter().any(|line| line.starts_with("PUT")) {
                let entries: Vec<_> = files().iter().map(|(path, content)| entry(path, content)).collect();
                let sizes: Vec<u64> = entries.iter().map(|file| file.size).collect();
                assert_eq!(registry.received(&entries).await.unwrap(), sizes, "{context}: sent again");
                resumed += 1;
            }
            let imported = publish(&registry).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
            assert_eq!((imported.created, imported.version.version), (true, 1), "{context}");
            let checks = registry.verify_files(&imported.version).await;
            assert!(checks.iter().all(|check| check.ok), "{context}: {checks:?}");
            // Of what was sent and not moved to the cache any more, nothing stays for longer than of uploads given up.
            registry.sweep_uploads(i64::MAX).await.unwrap();
            let partials = fs_err::read_dir(directory.join("cache/partial")).unwrap().flatten();
            assert_eq!(partials.filter(|file| file.file_name() != "lock").count(), 0, "{context}");
            registry.close().await;
        }
    }
    println!("killed at each of {requests} requests, before and after it; {resumed} of them with all bytes here");
    // And a machine that has none of it reads the same.
    let url = format!("s3://evserve-test/{}/whole", place.prefix);
    let options = S3Options { url, settings: settings(None), cache_max_bytes: CACHE_BYTES };
    let elsewhere = S3ArtifactStore::open(&options, place.directory().join("elsewhere"), StagedLimits::default());
    let metadata = ev_registry::SqliteMetadataStore::open(&place.directory().join("whole/registry.db")).await.unwrap();
    let limits = ev_registry::Limits::default();
    let registry = Registry::with_stores(Arc::new(elsewhere.await.unwrap()), Arc::new(metadata), limits);
    let version = registry.get("adder", &VersionChoice::Number(1)).await.unwrap();
    let stored = registry.fetch(&version).await.unwrap();
    assert!(fs_err::read(stored.path("model.ubj").unwrap()).unwrap() == files()[0].1);
}
