//! What is kept on the local disk.

use ev_registry::{ArtifactStore as _, RegistryError, S3ArtifactStore, S3Options};

use crate::{
    places::{Place as _, S3, noise},
    suite::{entry, put},
};

const FILE: usize = 40_000;
/// Room for two.
const ROOM: u64 = 100_000;

fn cached(place: &S3, cache: &str) -> Vec<usize> {
    let folder = place.directory().join(cache).join("sha256");
    let folders = fs_err::read_dir(folder).unwrap().flatten();
    let files = folders.flat_map(|folder| fs_err::read_dir(folder.path()).unwrap().flatten());
    let name = |file: fs_err::DirEntry| file.file_name().into_string().unwrap();
    let names: Vec<String> = files.map(name).collect();
    let number = |name: &String| (0..9).find(|number| entry("", &content(*number)).sha256.hex() == *name).unwrap();
    let mut numbers: Vec<usize> = names.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn content(number: usize) -> Vec<u8> {
    noise(number as u64 + 100, FILE)
}

/// Until times of files differ, on every file system.
async fn pause() {
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
}

async fn fetch(store: &S3ArtifactStore, number: usize) -> std::path::PathBuf {
    pause().await;
    store.fetch(&entry("model.ubj", &content(number))).await.unwrap()
}

async fn filled() -> Option<(S3, S3Options)> {
    let place = S3::empty()?;
    let store = place.open().await;
    for number in 0..6 {
        put(&*store, &content(number)).await;
    }
    let options = S3Options { cache_max_bytes: ROOM, ..place.options(None) };
    Some((place, options))
}

#[tokio::test]
async fn what_was_used_longest_ago_makes_room() {
    let Some((place, options)) = filled().await else { return };
    let store = place.open_with("small", &options).await;
    for (number, expected) in [(0, &[0][..]), (1, &[0, 1]), (0, &[0, 1]), (2, &[0, 2]), (3, &[2, 3])] {
        fetch(&store, number).await;
        assert_eq!(cached(&place, "small"), expected);
    }
    // It is known after a restart, too.
    fetch(&store, 2).await;
    let store = place.open_with("small", &options).await;
    fetch(&store, 4).await;
    assert_eq!(cached(&place, "small"), [2, 4]);
    // What is published is there to be loaded, in as little room.
    pause().await;
    put(&store, &content(8)).await;
    assert_eq!(cached(&place, "small"), [4, 8]);
    let less = S3Options { cache_max_bytes: ROOM / 2, ..options };
    place.open_with("small", &less).await;
    assert_eq!(cached(&place, "small"), [8]);
}

#[tokio::test]
async fn what_is_being_loaded_stays() {
    let Some((place, options)) = filled().await else { return };
    let store = place.open_with("small", &options).await;
    let held = store.hold([0, 1, 2].map(|number| entry("", &content(number)).sha256).to_vec());
    for number in 0..6 {
        assert!(fetch(&store, number).await.exists());
    }
    assert_eq!(cached(&place, "small"), [0, 1, 2, 5]);
    drop(held);
    fetch(&store, 3).await;
    assert_eq!(cached(&place, "small"), [3, 5]);
}

#[tokio::test]
async fn what_is_altered_in_the_cache_is_brought_anew() {
    let Some((place, options)) = filled().await else { return };
    let store = place.open_with("small", &options).await;
    let found = fetch(&store, 0).await;
    fs_err::remove_file(&found).unwrap();
    fs_err::write(&found, "weeds").unwrap();
    assert_eq!(fs_err::read(fetch(&store, 0).await).unwrap(), content(0));
    assert_eq!(store.read("model.ubj", &entry("", &content(0)).sha256, 1 << 20).await.unwrap(), content(0));
}

#[tokio::test]
async fn what_is_located_is_verified_by_whoever_asked() {
    let Some((place, options)) = filled().await else { return };
    let store = place.open_with("small", &options).await;
    let counts = store.cache_counts().unwrap();
    let file = entry("model.ubj", &content(0));
    for expected in [(0, 1), (1, 1)] {
        let found = store.locate(&file).await.unwrap().verify().unwrap();
        assert_eq!((counts.hits(), counts.misses()), expected);
        assert_eq!(fs_err::read(found).unwrap(), content(0));
    }
    let found = store.fetch(&file).await.unwrap();
    fs_err::remove_file(&found).unwrap();
    fs_err::write(&found, "weeds").unwrap();
    // No byte is read before somebody says where.
    let located = store.locate(&file).await.unwrap();
    let error = located.verify().unwrap_err();
    assert!(matches!(&error, RegistryError::Corrupt { file, .. } if file == "model.ubj"), "{error}");
    assert_eq!(fs_err::read(store.fetch(&file).await.unwrap()).unwrap(), content(0));
    let lost = entry("model.ubj", b"never stored");
    let error = store.locate(&lost).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Lost { expected, .. } if *expected == lost.sha256), "{error}");
}

#[tokio::test]
async fn what_becomes_of_copies_is_counted() {
    let Some((place, options)) = filled().await else { return };
    let store = place.open_with("small", &options).await;
    let counts = store.cache_counts().unwrap();
    let seen = || (counts.hits(), counts.misses(), counts.evicted(), counts.bytes());
    let files = |count: usize| (count * FILE) as u64;
    for (number, expected) in
        [(0, (0, 1, 0, files(1))), (1, (0, 2, 0, files(2))), (1, (1, 2, 0, files(2))), (2, (1, 3, 1, files(2)))]
    {
        fetch(&store, number).await;
        assert_eq!(seen(), expected, "file {number}");
    }
    // Again, in its own place.
    put(&store, &content(2)).await;
    assert_eq!(seen(), (1, 3, 1, files(2)));
    let digest = entry("", &content(2)).sha256;
    let listed = store.list(u8::from_str_radix(&digest.hex()[..2], 16).unwrap()).await.unwrap();
    store.remove(&listed).await.unwrap();
    assert_eq!(seen(), (1, 3, 1, files(1)));
    let again = place.open_with("small", &options).await;
    assert_eq!(again.cache_counts().unwrap().bytes(), files(1));
}

#[tokio::test]
async fn what_is_larger_than_the_room_is_refused() {
    let Some((place, options)) = filled().await else { return };
    let store = place.open_with("tiny", &S3Options { cache_max_bytes: 1_000, ..options }).await;
    let error = store.fetch(&entry("model.ubj", &content(0))).await.unwrap_err();
    assert!(matches!(error, RegistryError::StagingFull { what: "bytes", max: 1_000 }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_at_one_time_is_answered_by_one_download() {
    let Some((place, options)) = filled().await else { return };
    let proxy = crate::proxy::Proxy::start();
    let options = S3Options { settings: crate::places::settings(Some(&proxy.endpoint())), ..options };
    let store = std::sync::Arc::new(place.open_with("shared", &options).await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move { store.fetch(&entry("model.ubj", &content(0))).await.unwrap() });
    }
    for found in tasks.join_all().await {
        assert_eq!(fs_err::read(found).unwrap(), content(0));
    }
    let gets = proxy.seen().requests.into_iter().filter(|line| line.starts_with("GET") && line.contains("/sha256/"));
    assert_eq!(gets.count(), 1, "{:?}", proxy.seen());
}
