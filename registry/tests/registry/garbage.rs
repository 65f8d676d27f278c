//! Versions that are deleted, and files that no version names.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use ev_models_core::Digest;
use ev_registry::{
    AliasChange, AuditQuery, Collected, ExpectedVersion, Page, References, Registry, RegistryError, VersionRecord,
};

use crate::support::{Fixture, GOLDEN, NOW_MS, manifest, overwrite};

/// Whatever was stored until now, and later than that.
const ALL: i64 = i64::MAX;

async fn import(registry: &Registry, content: &str) -> Result<VersionRecord, RegistryError> {
    let files = [("model.ubj", content.to_owned()), ("golden/cases.json", "[]".to_owned())];
    Ok(registry.import_files(&manifest("adder", GOLDEN), files, NOW_MS).await?.version)
}

async fn delete(registry: &Registry, version: u32) -> Result<VersionRecord, RegistryError> {
    registry.delete_version("adder", version, &References::new(), NOW_MS).await
}

fn names(fixture: &Fixture) -> BTreeSet<String> {
    let name = |path: std::path::PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    fixture.stored().into_iter().map(name).collect()
}

#[tokio::test]
async fn files_go_when_no_version_names_them_and_shared_ones_stay() {
    let fixture = Fixture::new().await;
    let registry = fixture.registry.on_behalf_of("tester");
    let kept = import(&registry, "kept").await.unwrap();
    let before = names(&fixture);
    let gone = import(&registry, "gone").await.unwrap();
    assert_eq!(registry.collect_garbage(ALL, NOW_MS).await.unwrap(), Collected::default());
    delete(&registry, gone.version).await.unwrap();
    assert_eq!(names(&fixture).len(), before.len() + 2, "its head and its manifest, until they are collected");

    let collected = registry.collect_garbage(ALL, NOW_MS + 1).await.unwrap();
    assert_eq!(collected.files, 2);
    assert!(collected.bytes > 4);
    assert_eq!(names(&fixture), before);
    registry.fetch(&kept).await.unwrap();
    let row = registry.audit(&AuditQuery::after(3)).await.unwrap().remove(0);
    assert_eq!((row.action.as_str(), row.actor.as_str(), row.at_ms), ("collect_garbage", "tester", NOW_MS + 1));
    assert_eq!(row.detail, format!(r#"{{"bytes":{},"files":2}}"#, collected.bytes));
    assert_eq!(registry.verify_audit().await.unwrap().fault, None);
    // It can come again, under a new number.
    let again = import(&registry, "gone").await.unwrap();
    assert_eq!((again.version, again.digest), (3, gone.digest));
    registry.fetch(&again).await.unwrap();
}

#[tokio::test]
async fn what_was_stored_lately_stays() {
    let fixture = Fixture::new().await;
    let version = import(&fixture.registry, "1").await.unwrap();
    delete(&fixture.registry, version.version).await.unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let hour_ago = i64::try_from(now.as_millis()).unwrap() - 3_600_000;
    assert_eq!(fixture.registry.collect_garbage(hour_ago, NOW_MS).await.unwrap(), Collected::default());
    let day = Duration::from_secs(86_400);
    for place in fixture.stored() {
        std::fs::File::open(place).unwrap().set_modified(SystemTime::now() - day).unwrap();
    }
    // Another publish that has stored its files, and is not registered yet: what was there before is new again.
    let files = [("model.ubj", "1"), ("golden/cases.json", "[]")];
    let again = fixture.registry.import_files(&manifest("adder", GOLDEN), files, NOW_MS).await.unwrap();
    delete(&fixture.registry, again.version.version).await.unwrap();
    assert_eq!(fixture.registry.collect_garbage(hour_ago, NOW_MS).await.unwrap(), Collected::default());
    for place in fixture.stored() {
        std::fs::File::open(place).unwrap().set_modified(SystemTime::now() - day).unwrap();
    }
    assert_eq!(fixture.registry.collect_garbage(hour_ago, NOW_MS).await.unwrap().files, 3);
    assert!(fixture.stored().is_empty());
}

#[tokio::test]
async fn nothing_is_deleted_while_it_is_not_known_what_a_version_names() {
    let fixture = Fixture::new().await;
    let kept = import(&fixture.registry, "kept").await.unwrap();
    let gone = import(&fixture.registry, "gone").await.unwrap();
    delete(&fixture.registry, gone.version).await.unwrap();
    let before = names(&fixture);
    let place = fixture.place(&kept.digest);
    let sound = fs_err::read(&place).unwrap();
    overwrite(&place, b"{}");
    let error = fixture.registry.collect_garbage(ALL, NOW_MS).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Corrupt { file, .. } if file == "manifest"), "{error}");
    fs_err::remove_file(&place).unwrap();
    let error = fixture.registry.collect_garbage(ALL, NOW_MS).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Lost { file, .. } if file == "manifest"), "{error}");
    fs_err::write(&place, sound).unwrap();
    assert_eq!(names(&fixture), before);
    assert_eq!(fixture.registry.collect_garbage(ALL, NOW_MS).await.unwrap().files, 2);
}

#[tokio::test]
async fn what_has_another_name_than_a_digest_is_left_alone() {
    let fixture = Fixture::new().await;
    import(&fixture.registry, "kept").await.unwrap();
    let folder = fixture.dir.path().join("artifacts/sha256/ab");
    fs_err::create_dir_all(&folder).unwrap();
    for name in ["README", "abcd", &"g".repeat(64)] {
        fs_err::write(folder.join(name), "somebody's").unwrap();
    }
    fs_err::create_dir(folder.join(Digest::of(b"x").hex())).unwrap();
    assert_eq!(fixture.registry.collect_garbage(ALL, NOW_MS).await.unwrap(), Collected::default());
    assert_eq!(fs_err::read_dir(&folder).unwrap().count(), 4);
}

/// No age limit at all: imports lose their files under their hands, and are told; what is registered is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_registered_version_keeps_its_files_whatever_is_collected_beside_it() {
    let fixture = Fixture::new().await;
    let done = std::sync::Arc::new(AtomicBool::new(false));
    let mut collectors = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (registry, done) = (fixture.open_again().await, done.clone());
        collectors.spawn(async move {
            let mut files = 0;
            while !done.load(Ordering::Relaxed) {
                files += registry.collect_garbage(ALL, NOW_MS).await.unwrap().files;
            }
            files
        });
    }
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..4 {
        let registry = fixture.open_again().await;
        publishers.spawn(async move {
            let (mut registered, mut lost) = (0, 0);
            for round in 0..60 {
                // Few contents, so that files are deleted, shared and come again all the time.
                match import(&registry, &((publisher + round) % 5).to_string()).await {
                    Ok(version) => {
                        registered += 1;
                        if round % 2 == 0 {
                            // Another one may be faster.
                            let _ = delete(&registry, version.version).await;
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
    let (registered, lost) = outcomes.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{registered} registered, {lost} told that a file was gone, {collected} files collected");
    assert!(registered > 0 && collected > 0);
    let versions = fixture.registry.list_versions("adder", &Page { size: 1000, token: None }).await.unwrap();
    for version in versions.items {
        fixture.registry.fetch(&version).await.unwrap();
    }
    assert_eq!(fixture.registry.verify_audit().await.unwrap().fault, None);
}

#[tokio::test]
async fn retention_keeps_the_newest_and_whatever_is_referred_to() {
    let fixture = Fixture::new().await;
    let registry = &fixture.registry;
    for content in ["1", "2", "3", "4", "5", "6", "7"] {
        import(registry, content).await.unwrap();
    }
    registry.move_alias(&AliasChange::set("adder", "production", 1, ExpectedVersion::Absent), NOW_MS).await.unwrap();
    assert!(registry.pin("adder", 2, "the audit of 2026 is about it", NOW_MS).await.unwrap());
    let references = References::from([(("adder".to_owned(), 7), vec!["rollout `spring`".to_owned()])]);
    let numbers = async || {
        let listed = registry.list_versions("adder", &Page::default()).await.unwrap();
        listed.items.iter().map(|version| version.version).collect::<Vec<_>>()
    };
    let deleted = registry.retain(2, &references, NOW_MS).await.unwrap();
    assert_eq!(deleted.iter().map(|version| version.version).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(numbers().await, [7, 6, 5, 2, 1]);
    assert!(registry.retain(2, &references, NOW_MS).await.unwrap().is_empty());
    assert!(registry.unpin("adder", 2, NOW_MS).await.unwrap());
    registry.retain(0, &References::new(), NOW_MS).await.unwrap();
    assert_eq!(numbers().await, [1]);
    assert_eq!(registry.verify_audit().await.unwrap().fault, None);
}

#[tokio::test]
async fn a_name_no_model_can_have_is_not_found() {
    let fixture = Fixture::new().await;
    for name in ["", "a\0", &"a".repeat(1 << 20)] {
        let error = delete(&fixture.registry, 1).await.unwrap_err();
        assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
        let error = fixture.registry.pin(name, 1, "why", NOW_MS).await.unwrap_err();
        assert!(matches!(error, RegistryError::NotFound { .. }) && error.to_string().len() < 200, "{error}");
    }
}
