//! A store that does not answer, for a while or in the middle of something.

use std::time::Instant;

use bytes::Bytes;
use ev_models_core::Digest;
use ev_registry::{ArtifactStore, Limits, Registry, RegistryError, S3ArtifactStore, SqliteMetadataStore};

use crate::{
    places::{NOW_MS, Place as _, S3, manifest, noise},
    proxy::{At, Proxy},
    suite::{entry, put},
};

async fn registry(place: &S3, proxy: &Proxy, cache: &str) -> Registry {
    let metadata = SqliteMetadataStore::open(&place.directory().join("registry.db")).await.unwrap();
    let store = place.open_with(cache, &place.options(Some(&proxy.endpoint()))).await;
    Registry::with_stores(std::sync::Arc::new(store), std::sync::Arc::new(metadata), Limits::default())
}

fn is_away<T>(result: Result<T, RegistryError>, place: &S3) {
    let error = result.err().unwrap();
    assert!(matches!(error, RegistryError::StoreUnreachable { .. }), "{error:?}");
    let names = format!("the artifact store s3://evserve-test/{} does not answer", place.prefix);
    assert!(error.to_string().ends_with(&names), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cached_is_served_and_the_rest_is_told_while_the_store_is_away() {
    let Some(place) = S3::empty() else { return };
    let proxy = Proxy::start();
    let one = registry(&place, &proxy, "one").await;
    let import = async |registry: &Registry, content: &'static str| {
        registry.import_files(&manifest("adder"), [("model.ubj", content)], NOW_MS).await
    };
    let known = import(&one, "known").await.unwrap().version;
    let other = place.registry().await;
    let unknown = import(&other, "unknown").await.unwrap().version;
    proxy.stop();
    // The one that was open, and one that is opened now.
    for registry in [one, registry(&place, &proxy, "one").await] {
        let files = registry.fetch(&known).await.unwrap();
        assert_eq!(fs_err::read(files.path("model.ubj").unwrap()).unwrap(), b"known");
        is_away(registry.fetch(&unknown).await, &place);
        is_away(import(&registry, "new").await, &place);
        is_away(registry.collect_garbage(i64::MAX, NOW_MS).await, &place);
        let files = vec![entry("model.ubj", b"new")];
        is_away(registry.resume_upload(&manifest("adder"), files, NOW_MS).await, &place);
        let checks = registry.verify_files(&known).await;
        assert!(checks.iter().any(|check| !check.ok && check.detail.contains("does not answer")), "{checks:?}");
        // What is registered keeps its number: a server that starts now registers what it comes with.
        for (content, version) in [("known", &known), ("unknown", &unknown)] {
            let again = import(&registry, content).await.unwrap();
            assert_eq!((again.created, &again.version), (false, version));
        }
        proxy.mend();
        let later = registry.fetch(&unknown).await.unwrap();
        assert_eq!(fs_err::read(later.path("model.ubj").unwrap()).unwrap(), b"unknown");
        // As if it had never come.
        fs_err::remove_dir_all(place.directory().join("one/sha256")).unwrap();
        fs_err::create_dir(place.directory().join("one/sha256")).unwrap();
        registry.fetch(&known).await.unwrap();
        proxy.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_is_cut_off_goes_on_also_in_another_process() {
    let Some(place) = S3::empty() else { return };
    let content = noise(5, 6 << 20);
    put(&*place.open().await, &content).await;
    let file = entry("model.ubj", &content);
    let proxy = Proxy::start();
    let options = place.options(Some(&proxy.endpoint()));
    let cut = 4 << 20;
    for same_process in [true, false] {
        let cache = format!("cut-{same_process}");
        let mut store = place.open_with(&cache, &options).await;
        proxy.stop_after(cut);
        is_away(store.fetch(&file).await, &place);
        let come = fs_err::metadata(place.directory().join(&cache).join(format!(
            "downloads/{}.{}",
            file.sha256.hex(),
            file.size
        )));
        let come = usize::try_from(come.unwrap().len()).unwrap();
        assert!(come > cut / 2 && come <= cut, "{come} bytes have come");
        proxy.mend();
        if !same_process {
            store = place.open_with(&cache, &options).await;
        }
        let found = store.fetch(&file).await.unwrap();
        assert!(fs_err::read(found).unwrap() == content);
        let received = proxy.seen().received;
        assert!(received < content.len() - come + (64 << 10), "{received} bytes came again");
        proxy.mend();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_of_another_content_is_not_gone_on_with() {
    let Some(place) = S3::empty() else { return };
    let content = noise(5, 3 << 20);
    let digest = Digest::of(&content);
    put(&*place.open().await, &content).await;
    place.damage(&digest, Some(&noise(6, 3 << 20))).await;
    let proxy = Proxy::start();
    let store = place.open_with("cache", &place.options(Some(&proxy.endpoint()))).await;
    proxy.stop_after(2 << 20);
    is_away(store.fetch(&entry("model.ubj", &content)).await, &place);
    proxy.mend();
    place.damage(&digest, Some(&content)).await;
    let found = store.fetch(&entry("model.ubj", &content)).await.unwrap();
    assert!(fs_err::read(found).unwrap() == content);
}

/// The store goes away at each request of a publish, whether it has done it or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_may_go_away_at_any_request_of_a_publish() {
    let Some(place) = S3::empty() else { return };
    let proxy = Proxy::start();
    let registry = registry(&place, &proxy, "cache").await;
    let publish = async |content: &[u8]| {
        let files = vec![entry("model.ubj", content)];
        let received = registry.received(&files).await?;
        let mut upload = registry.resume_upload(&manifest("adder"), files, NOW_MS).await?;
        let rest = &content[usize::try_from(received[0]).unwrap()..];
        upload.write("model.ubj", received[0], Bytes::copy_from_slice(rest)).await?;
        upload.finish(NOW_MS).await
    };
    proxy.mend();
    publish(b"first").await.unwrap();
    let requests = proxy.seen().requests.len();
    assert!(requests >= 6, "{:?}", proxy.seen());
    for number in 1..=requests {
        for at in [At::Before(number), At::After(number)] {
            let content = noise(number as u64 * 2 + u64::from(at == At::After(number)), 64);
            proxy.mend();
            proxy.stop_at(at);
            let failed = publish(&content).await;
            let seen = proxy.seen();
            assert!(seen.stopped, "{at:?}: {seen:?}");
            is_away(failed, &place);
            proxy.mend();
            let imported = publish(&content).await.unwrap_or_else(|error| panic!("{at:?}, {seen:?}: {error:?}"));
            assert!(imported.created);
            assert!(registry.verify_files(&imported.version).await.iter().all(|check| check.ok));
        }
    }
}

/// Has a request of some work be answered by nobody, and nobody told, as it is on a connection that was lost on the way.
async fn unanswered(place: &S3, what: &str, request: usize, work: impl AsyncFnOnce(&S3ArtifactStore)) {
    let proxy = Proxy::start();
    let store = place.open_with(what, &place.options(Some(&proxy.endpoint()))).await;
    proxy.mend();
    proxy.swallow(request);
    let begun = Instant::now();
    work(&store).await;
    let (took, requests) = (begun.elapsed(), proxy.seen().requests);
    assert!(requests.len() >= request, "{what} came to its end before: {requests:?}");
    assert!((9..30).contains(&took.as_secs()), "{what} took {took:?}: {requests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_nobody_answers_costs_no_minute() {
    let Some(place) = S3::empty() else { return };
    let [content, other] = [7, 8].map(|seed| noise(seed, 200_000));
    let store = place.open().await;
    put(&*store, &content).await;
    let file = entry("model.ubj", &content);
    let first_byte = u8::from_str_radix(&file.sha256.hex()[..2], 16).unwrap();
    let listed = store.list(first_byte).await.unwrap();
    put(&*store, &other).await;
    let first_byte_of_other = u8::from_str_radix(&Digest::of(&other).hex()[..2], 16).unwrap();
    let removable = store.list(first_byte_of_other).await.unwrap();
    tokio::join!(
        unanswered(&place, "look", 1, async |store| assert!(store.has(&file.sha256).await.unwrap())),
        unanswered(&place, "list", 1, async |store| assert_eq!(store.list(first_byte).await.unwrap(), listed)),
        unanswered(&place, "fetch", 1, async |store| {
            assert!(fs_err::read(store.fetch(&file).await.unwrap()).unwrap() == content);
        }),
        unanswered(&place, "put", 1, async |store| put(store, &noise(9, 200_000)).await),
        // The library makes no deletion twice, and the next collection of garbage does.
        unanswered(&place, "remove", 2, async |store| is_away(store.remove(&removable).await, &place)),
    );
}
