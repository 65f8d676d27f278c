//! Several handles on one directory.

use ev_registry::{AliasChange, ExpectedVersion, Page, Registry, RegistryConfig, RegistryError, Upload, VersionRecord};

use crate::support::{Fixture, NOW_MS, manifest};

/// A server runs these on any of its threads.
#[allow(dead_code, reason = "compiling it is the test")]
fn everything_moves_between_threads(registry: &Registry, upload: &mut Upload, version: &VersionRecord) {
    fn moves(_: impl Send) {}
    moves(registry.import_dir(std::path::Path::new(""), 0));
    moves(registry.import_files("", [("", "")], 0));
    moves(registry.begin_upload(""));
    moves(upload.write("", bytes::Bytes::new()));
    moves(registry.fetch(version));
    moves(registry.verify_files(version));
    moves(registry.list_models(&Page::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_imports_of_one_content_make_one_version() {
    let fixture = Fixture::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..8 {
        let registry = if index % 2 == 0 { fixture.registry.clone() } else { fixture.open_again().await };
        tasks.spawn(async move {
            let files = [("model.ubj", vec![7; 100_000])];
            registry.import_files(&manifest("adder", ""), files, NOW_MS).await.unwrap()
        });
    }
    let imported = tasks.join_all().await;
    assert_eq!(imported.iter().filter(|imported| imported.created).count(), 1);
    assert!(imported.iter().all(|other| other.version == imported[0].version));
    fixture.registry.fetch(&imported[0].version).await.unwrap();
    assert_eq!(fixture.stored().len(), 2);
    assert!(fixture.staged().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_handles_that_move_an_alias_one_wins() {
    let fixture = Fixture::new().await;
    for content in ["1", "2", "3"] {
        fixture.registry.import_files(&manifest("adder", ""), [("model.ubj", content)], NOW_MS).await.unwrap();
    }
    fixture
        .registry
        .move_alias(&AliasChange::set("adder", "production", 1, ExpectedVersion::Absent), NOW_MS)
        .await
        .unwrap();
    let other = fixture.open_again().await;
    let [two, three] = [2, 3].map(|to| AliasChange::set("adder", "production", to, ExpectedVersion::Is(1)));
    let (one, two) = tokio::join!(fixture.registry.move_alias(&two, NOW_MS), other.move_alias(&three, NOW_MS));
    match (one, two) {
        (Ok(Some(1)), Err(RegistryError::Conflict { found: Some(2), .. })) => {}
        (Err(RegistryError::Conflict { found: Some(3), .. }), Ok(Some(1))) => {}
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_directory_may_be_opened_by_many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let config = RegistryConfig::new(dir.path().join("new"));
        tasks.spawn(async move { Registry::open(&config).await.map(drop) });
    }
    for opened in tasks.join_all().await {
        opened.unwrap();
    }
}
