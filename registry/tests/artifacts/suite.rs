//! What every artifact store does.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use ev_models_core::{Digest, manifest::FileEntry};
use ev_registry::{
    AliasChange, ArtifactStore, ExpectedVersion, Page, References, Registry, RegistryError, Staged, VersionRecord,
};

use crate::places::{NOW_MS, Place, manifest, noise};

/// Whatever was stored until now, and later than that.
const ALL: i64 = i64::MAX;

pub(crate) fn entry(path: &str, content: &[u8]) -> FileEntry {
    FileEntry { path: path.to_owned(), sha256: Digest::of(content), size: content.len() as u64 }
}

pub(crate) async fn stage(store: &dyn ArtifactStore, content: &[u8]) -> Staged {
    let mut staging = store.stage("model.ubj", 1 << 30).await.unwrap();
    staging.write(Bytes::copy_from_slice(content)).await.unwrap();
    staging.finish().await.unwrap()
}

pub(crate) async fn put(store: &dyn ArtifactStore, content: &[u8]) {
    let staged = stage(store, content).await;
    store.commit(vec![staged]).await.unwrap();
}

async fn import(registry: &Registry, content: &[u8]) -> VersionRecord {
    let files = [("model.ubj", content.to_vec())];
    registry.import_files(&manifest("adder"), files, NOW_MS).await.unwrap().version
}

async fn delete(registry: &Registry, version: u32) -> Result<VersionRecord, RegistryError> {
    registry.delete_version("adder", version, &References::new(), NOW_MS).await
}

pub(crate) async fn bytes_are_found_once_they_are_committed<P: Place>(place: &P) {
    let (store, other) = (place.open().await, place.open().await);
    let digest = Digest::of(b"trees");
    let staged = stage(&*store, b"trees").await;
    assert_eq!((staged.digest(), staged.size()), (digest, 5));
    assert!(!store.has(&digest).await.unwrap() && place.stored().await.is_empty());
    store.commit(vec![staged]).await.unwrap();
    for store in [&store, &other] {
        assert!(store.has(&digest).await.unwrap() && store.holds(&entry("a", b"trees")).await.unwrap());
        let found = store.fetch(&entry("model.ubj", b"trees")).await.unwrap();
        assert_eq!(fs_err::read(found).unwrap(), b"trees");
        assert_eq!(store.read("model.ubj", &digest, 5).await.unwrap(), b"trees");
        assert_eq!(store.verify("model.ubj", &digest).await.unwrap(), 5);
        assert!(!store.has(&Digest::of(b"other")).await.unwrap());
    }
}

pub(crate) async fn what_was_staged_and_dropped_leaves_nothing<P: Place>(place: &P) {
    let store = place.open().await;
    drop(stage(&*store, b"trees").await);
    let mut staging = store.stage("model.ubj", 3).await.unwrap();
    let refused = staging.write(Bytes::from_static(b"trees")).await.unwrap_err();
    assert!(matches!(refused, RegistryError::TooLarge { max_bytes: 3, .. }), "{refused}");
    drop(staging);
    assert!(place.stored().await.is_empty());
}

pub(crate) async fn files_of_every_size_come_back_as_they_were<P: Place>(place: &P) {
    let store = place.open().await;
    // Parts of a large file have 8 MiB.
    for size in [0, 1, (8 << 20) - 1, 8 << 20, (16 << 20) + 1] {
        let content = noise(7, size);
        put(&*store, &content).await;
        // From another machine, which has none of it.
        let found = place.open().await.fetch(&entry("model.ubj", &content)).await.unwrap();
        assert!(fs_err::read(found).unwrap() == content, "{size} bytes");
        assert_eq!(store.verify("model.ubj", &Digest::of(&content)).await.unwrap(), size as u64);
    }
    assert_eq!(place.stored().await.len(), 5);
}

pub(crate) async fn committed_bytes_replace_what_is_there<P: Place>(place: &P) {
    let store = place.open().await;
    put(&*store, b"trees").await;
    place.damage(&Digest::of(b"trees"), Some(b"weeds")).await;
    put(&*store, b"trees").await;
    let other = place.open().await;
    assert_eq!(fs_err::read(other.fetch(&entry("a", b"trees")).await.unwrap()).unwrap(), b"trees");
}

pub(crate) async fn what_is_gone_or_another_is_named<P: Place>(place: &P) {
    let store = place.open().await;
    let check = async |damage: Option<&[u8]>, expected: &str| {
        put(&*store, b"trees").await;
        place.damage(&Digest::of(b"trees"), damage).await;
        let (file, digest) = (entry("model.ubj", b"trees"), Digest::of(b"trees"));
        let other = place.open().await;
        // Twice: what was found the first time is not taken for sound the second.
        for _ in 0..2 {
            let errors = [
                other.fetch(&file).await.unwrap_err(),
                other.read("model.ubj", &digest, 9).await.unwrap_err(),
                other.verify("model.ubj", &digest).await.unwrap_err(),
            ];
            for error in errors {
                assert!(error.to_string().starts_with(&format!("stored file `model.ubj` is {expected}")), "{error}");
            }
            assert!(!other.holds(&file).await.unwrap());
        }
    };
    check(Some(b"weeds"), "corrupt: ").await;
    check(Some(b"tree"), "corrupt: ").await;
    check(Some(b"trees and more"), "corrupt: ").await;
    check(Some(b""), "corrupt: ").await;
    check(None, "gone: nothing has the digest").await;
    // What nobody would take for a model is corrupt like anything else.
    let content = noise(1, 100);
    put(&*store, &content).await;
    let pickle = [b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x05posix\x94".to_vec(), vec![0; 81]].concat();
    place.damage(&Digest::of(&content), Some(&pickle[..100])).await;
    let error = place.open().await.fetch(&entry("model.ubj", &content)).await.unwrap_err();
    assert!(error.to_string().starts_with("stored file `model.ubj` is corrupt: "), "{error}");
}

pub(crate) async fn only_what_is_as_it_was_listed_is_removed<P: Place>(place: &P) {
    let store = place.open().await;
    for content in [&b"trees"[..], b"weeds"] {
        put(&*store, content).await;
    }
    let (kept, gone) = (Digest::of(b"trees"), Digest::of(b"weeds"));
    let listed = async |digest: &Digest| {
        let first = u8::from_str_radix(&digest.hex()[..2], 16).unwrap();
        let found = store.list(first).await.unwrap();
        found.into_iter().find(|file| file.digest == *digest).unwrap()
    };
    let (mut stale, old) = (listed(&kept).await, listed(&gone).await);
    assert_eq!((stale.size, old.size), (5, 5));
    assert!(old.stored_at_ms > NOW_MS, "the store's own clock: {old:?}");
    // As if it were stored anew since it was listed.
    stale.stored_at_ms -= 5_000;
    assert_eq!(store.remove(&[stale, old.clone()]).await.unwrap(), BTreeSet::from([gone]));
    assert_eq!(place.stored().await, BTreeSet::from([kept]));
    assert!(store.remove(&[old]).await.unwrap().is_empty());
    let error = store.fetch(&entry("a", b"weeds")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Lost { .. }), "{error}");
}

pub(crate) async fn a_version_is_published_fetched_and_deleted<P: Place>(place: &P) {
    let (registry, other) = (place.registry().await, place.registry().await);
    let version = import(&registry, b"trees").await;
    let files = other.fetch(&version).await.unwrap();
    assert_eq!(fs_err::read(files.path("model.ubj").unwrap()).unwrap(), b"trees");
    assert!(other.verify_files(&version).await.iter().all(|check| check.ok));
    let again = other.import_files(&manifest("adder"), [("model.ubj", "trees")], NOW_MS).await.unwrap();
    assert_eq!((again.created, again.version), (false, version.clone()));
    delete(&other, version.version).await.unwrap();
    assert_eq!(other.collect_garbage(ALL, NOW_MS).await.unwrap().files, 2);
    assert!(place.stored().await.is_empty());
}

pub(crate) async fn an_upload_that_was_cut_off_goes_on<P: Place>(place: &P) {
    let content = noise(3, 100_000);
    let files = vec![entry("model.ubj", &content)];
    let registry = place.registry().await;
    let mut upload = registry.resume_upload(&manifest("adder"), files.clone(), NOW_MS).await.unwrap();
    upload.write("model.ubj", 0, Bytes::copy_from_slice(&content[..60_000])).await.unwrap();
    drop(upload);
    assert_eq!(registry.received(&files).await.unwrap(), [60_000]);
    let mut upload = registry.resume_upload(&manifest("adder"), files.clone(), NOW_MS).await.unwrap();
    upload.write("model.ubj", 60_000, Bytes::copy_from_slice(&content[60_000..])).await.unwrap();
    let imported = upload.finish(NOW_MS).await.unwrap();
    let stored = place.registry().await.fetch(&imported.version).await.unwrap();
    assert_eq!(fs_err::read(stored.path("model.ubj").unwrap()).unwrap(), content);
    // What is stored is not sent again, by whoever asks.
    let other = place.registry().await;
    assert_eq!(other.received(&files).await.unwrap(), [100_000]);
    let upload = other.resume_upload(&manifest("adder"), files, NOW_MS).await.unwrap();
    assert!(!upload.finish(NOW_MS).await.unwrap().created);
}

pub(crate) async fn the_same_content_again_repairs_what_was_lost_or_damaged<P: Place>(place: &P) {
    let registry = place.registry().await;
    let version = import(&registry, b"trees").await;
    let files = vec![entry("model.ubj", b"trees")];
    for damage in [None, Some(&b"tree"[..]), Some(b"weeds")] {
        for digest in [Digest::of(b"trees"), version.digest] {
            place.damage(&digest, damage).await;
            // From where nothing is known of it.
            let other = place.registry().await;
            let mut upload = other.resume_upload(&manifest("adder"), files.clone(), NOW_MS).await.unwrap();
            upload.write("model.ubj", 0, Bytes::from_static(b"trees")).await.unwrap();
            assert!(!upload.finish(NOW_MS).await.unwrap().created);
            assert!(other.verify_files(&version).await.iter().all(|check| check.ok), "{damage:?}");
            place.damage(&digest, damage).await;
            assert_eq!(import(&place.registry().await, b"trees").await, version);
            assert!(registry.verify_files(&version).await.iter().all(|check| check.ok), "{damage:?}");
        }
    }
    place.registry().await.fetch(&version).await.unwrap();
}

pub(crate) async fn a_damaged_version_is_named_and_not_served<P: Place>(place: &P) {
    let registry = place.registry().await;
    let version = import(&registry, b"trees").await;
    place.damage(&Digest::of(b"trees"), Some(b"weeds")).await;
    let checks = registry.verify_files(&version).await;
    let failed: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
    assert!(matches!(&failed[..], [check] if check.name == "file model.ubj"), "{checks:?}");
    let error = place.registry().await.fetch(&version).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Corrupt { file, .. } if file == "model.ubj"), "{error}");
    place.damage(&version.digest, Some(b"{}")).await;
    let error = place.registry().await.fetch(&version).await.unwrap_err();
    assert!(error.to_string().starts_with("stored file `manifest` is corrupt"), "{error}");
    assert!(registry.verify_files(&version).await.iter().any(|check| !check.ok && check.name == "manifest"));
}

pub(crate) async fn garbage_is_collected_and_what_is_named_stays<P: Place>(place: &P) {
    let registry = place.registry().await;
    let kept = import(&registry, b"kept").await;
    let before = place.stored().await;
    let gone = import(&registry, b"gone").await;
    delete(&registry, gone.version).await.unwrap();
    // As a publish that was cut off leaves it.
    put(&*place.open().await, b"of no version").await;
    let hour_ago =
        i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap()
            - 3_600_000;
    assert_eq!(registry.collect_garbage(hour_ago, NOW_MS).await.unwrap().files, 0);
    assert_eq!(registry.collect_garbage(ALL, NOW_MS).await.unwrap().files, 3);
    assert_eq!(place.stored().await, before);
    place.registry().await.fetch(&kept).await.unwrap();
    // It can come again, under a new number.
    let again = import(&registry, b"gone").await;
    assert_eq!((again.version, again.digest), (3, gone.digest));
    place.registry().await.fetch(&again).await.unwrap();
    assert_eq!(registry.verify_audit().await.unwrap().fault, None);
}

pub(crate) async fn nothing_is_deleted_while_it_is_not_known_what_a_version_names<P: Place>(place: &P) {
    let registry = place.registry().await;
    let kept = import(&registry, b"kept").await;
    let gone = import(&registry, b"gone").await;
    delete(&registry, gone.version).await.unwrap();
    let before = place.stored().await;
    place.damage(&kept.digest, Some(b"{}")).await;
    let error = place.registry().await.collect_garbage(ALL, NOW_MS).await.unwrap_err();
    assert!(error.to_string().starts_with("stored file `manifest` is corrupt"), "{error}");
    assert_eq!(place.stored().await, before);
}

pub(crate) async fn retention_keeps_the_newest_and_whatever_is_referred_to<P: Place>(place: &P) {
    let registry = place.registry().await;
    for content in [b"1", b"2", b"3", b"4"] {
        import(&registry, content).await;
    }
    registry.move_alias(&AliasChange::set("adder", "production", 1, ExpectedVersion::Absent), NOW_MS).await.unwrap();
    let deleted = registry.retain(1, &References::new(), NOW_MS).await.unwrap();
    assert_eq!(deleted.iter().map(|version| version.version).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(registry.collect_garbage(ALL, NOW_MS).await.unwrap().files, 4);
    let other = place.registry().await;
    for version in other.list_versions("adder", &Page::default()).await.unwrap().items {
        other.fetch(&version).await.unwrap();
    }
    assert_eq!(place.stored().await.len(), 4);
}

/// No age limit at all: imports lose their files under their hands, and are told; what is registered is whole.
pub(crate) async fn a_registered_version_keeps_its_files_whatever_is_collected_beside_it<P: Place>(place: &P) {
    // Whatever becomes of the others' contents, this one is nobody's.
    let registry = place.registry().await;
    let files = [("model.ubj", vec![9; 4])];
    let nobodys = registry.import_files(&manifest("adder"), files, NOW_MS).await.unwrap();
    delete(&registry, nobodys.version.version).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut collectors = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (registry, done) = (place.registry().await, done.clone());
        collectors.spawn(async move {
            let mut files = 0;
            loop {
                let last = done.load(Ordering::Relaxed);
                files += registry.collect_garbage(ALL, NOW_MS).await.unwrap().files;
                if last {
                    return files;
                }
            }
        });
    }
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..2u8 {
        let registry = place.registry().await;
        publishers.spawn(async move {
            let (mut registered, mut lost) = (0, 0);
            for round in 0..10 {
                // Few contents, so that files are deleted, shared and come again all the time.
                let files = [("model.ubj", vec![(publisher + round) % 3; 4])];
                match registry.import_files(&manifest("adder"), files, NOW_MS).await {
                    Ok(imported) => {
                        registered += 1;
                        if round % 2 == 0 {
                            // Another one may be faster.
                            let _ = delete(&registry, imported.version.version).await;
                        }
                    }
                    Err(RegistryError::Lost { .. }) => lost += 1,
                    Err(error) => panic!("{error:?}"),
                }
            }
            (registered, lost)
        });
    }
    let outcomes = publishers.join_all().await;
    done.store(true, Ordering::Relaxed);
    let collected: u64 = collectors.join_all().await.into_iter().sum();
    println!("{outcomes:?} registered and lost, {collected} files collected");
    let registry = place.registry().await;
    let versions = registry.list_versions("adder", &Page { size: 1000, token: None }).await.unwrap().items;
    assert!(outcomes.iter().any(|(registered, _)| *registered > 0) && collected > 0);
    for version in versions {
        registry.fetch(&version).await.unwrap();
        assert!(registry.verify_files(&version).await.iter().all(|check| check.ok));
    }
    assert_eq!(registry.verify_audit().await.unwrap().fault, None);
}
