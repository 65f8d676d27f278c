//! The behaviours.

use std::{collections::BTreeSet, sync::Arc};

use ev_models_core::Digest;
use ev_registry::{ExpectedVersion, MetadataStore, NewVersion, RegistryError, VersionChoice, VersionRecord};

use super::Database;

fn version(model: &str, content: &str) -> NewVersion {
    NewVersion {
        model: model.to_owned(),
        digest: Digest::of(content.as_bytes()),
        created_at_ms: 1_767_225_600_000,
        task: "generic".to_owned(),
        backend: "forest".to_owned(),
        license: "Apache-2.0".to_owned(),
        description: "It's \"quoted\"; DROP TABLE versions; é".to_owned(),
        size_bytes: 5 << 32,
    }
}

async fn add(store: &dyn MetadataStore, model: &str, content: &str) -> VersionRecord {
    let imported = store.register(&[version(model, content)]).await.unwrap().pop().unwrap();
    assert!(imported.created);
    imported.version
}

fn number(version: u32) -> VersionChoice {
    VersionChoice::Number(version)
}

fn alias(alias: &str) -> VersionChoice {
    VersionChoice::Alias(alias.to_owned())
}

pub(crate) async fn versions_are_numbered_from_one_for_each_model(database: &impl Database) {
    let store = database.open().await;
    for (model, content, expected) in [("a", "1", 1), ("a", "2", 2), ("b", "1", 1), ("a", "3", 3)] {
        let added = add(&*store, model, content).await;
        assert_eq!(added.version, expected);
        assert_eq!(added, store.get(model, &number(expected)).await.unwrap());
    }
    let NewVersion { model, digest, created_at_ms, task, backend, license, description, size_bytes } =
        version("a", "2");
    let expected = VersionRecord {
        model,
        version: 2,
        digest,
        created_at_ms,
        aliases: vec![],
        task,
        backend,
        license,
        description,
        size_bytes,
    };
    assert_eq!(store.get("a", &number(2)).await.unwrap(), expected);
}

pub(crate) async fn the_same_digest_is_the_same_version(database: &impl Database) {
    let store = database.open().await;
    let first = add(&*store, "a", "1").await;
    add(&*store, "a", "2").await;
    let mut again = version("a", "1");
    again.created_at_ms += 1;
    let imported = store.register(&[again]).await.unwrap().pop().unwrap();
    assert!(!imported.created);
    assert_eq!(imported.version, first);
    assert_eq!(add(&*store, "a", "3").await.version, 3, "an import that created nothing took no number");
}

pub(crate) async fn a_batch_is_registered_whole(database: &impl Database) {
    let store = database.open().await;
    let batch = [version("a", "1"), version("b", "1"), version("a", "2"), version("a", "1")];
    let imported = store.register(&batch).await.unwrap();
    let found: Vec<_> =
        imported.iter().map(|done| (done.version.model.as_str(), done.version.version, done.created)).collect();
    assert_eq!(found, [("a", 1, true), ("b", 1, true), ("a", 2, true), ("a", 1, false)]);

    let mut bad = version("d", "1");
    bad.size_bytes = u64::MAX;
    store.register(&[version("c", "1"), bad]).await.unwrap_err();
    assert!(matches!(store.get("c", &number(1)).await, Err(RegistryError::NotFound { .. })));
    assert!(store.register(&[]).await.unwrap().is_empty());
}

pub(crate) async fn racing_registrations_of_one_digest_give_one_version(database: &impl Database) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = database.open().await;
        tasks.spawn(async move { store.register(&[version("a", "1")]).await.unwrap().pop().unwrap() });
    }
    let imported = tasks.join_all().await;
    assert_eq!(imported.iter().filter(|imported| imported.created).count(), 1);
    assert!(imported.iter().all(|imported| imported.version.version == 1));
}

pub(crate) async fn racing_registrations_of_many_digests_leave_no_gap(database: &impl Database) {
    let mut tasks = tokio::task::JoinSet::new();
    for handle in 0..4 {
        let store = database.open().await;
        tasks.spawn(async move {
            let mut numbers = Vec::new();
            for index in 0..10 {
                numbers.push(add(&*store, "a", &format!("{handle} {index}")).await.version);
            }
            numbers
        });
    }
    let numbers: BTreeSet<u32> = tasks.join_all().await.into_iter().flatten().collect();
    assert!(numbers.into_iter().eq(1..=40));
}

pub(crate) async fn versions_are_found_by_number_alias_and_digest(database: &impl Database) {
    let store = database.open().await;
    for content in ["1", "2"] {
        add(&*store, "a", content).await;
    }
    store.set_alias("a", "production", 2, ExpectedVersion::Absent).await.unwrap();
    store.set_alias("a", "canary", 2, ExpectedVersion::Any).await.unwrap();
    let found = store.get("a", &alias("production")).await.unwrap();
    assert_eq!(found.version, 2);
    assert_eq!(found.aliases, ["canary", "production"]);
    assert_eq!(store.find("a", &Digest::of(b"2")).await.unwrap(), Some(found));
    assert_eq!(store.find("b", &Digest::of(b"2")).await.unwrap(), None);
    assert_eq!(store.find("a", &Digest::of(b"3")).await.unwrap(), None);
}

pub(crate) async fn what_does_not_exist_is_named(database: &impl Database) {
    let store = database.open().await;
    add(&*store, "a", "1").await;
    let missing = |error: RegistryError| match error {
        RegistryError::NotFound { what } => what,
        error => panic!("{error}"),
    };
    assert_eq!(missing(store.get("b", &number(1)).await.unwrap_err()), "model `b`");
    assert_eq!(missing(store.get("b", &alias("x")).await.unwrap_err()), "model `b`");
    for version in [0, 2, u32::MAX] {
        let what = format!("version {version} of model `a`");
        assert_eq!(missing(store.get("a", &number(version)).await.unwrap_err()), what);
        let moved = store.set_alias("a", "x", version, ExpectedVersion::Any).await;
        assert_eq!(missing(moved.unwrap_err()), what);
    }
    assert_eq!(missing(store.get("a", &alias("x")).await.unwrap_err()), "alias `x` of model `a`");
    assert_eq!(missing(store.list_versions("b", None, 10).await.unwrap_err()), "model `b`");
    assert_eq!(missing(store.set_alias("b", "x", 1, ExpectedVersion::Any).await.unwrap_err()), "model `b`");
    assert!(store.list_models(Some("a"), 10).await.unwrap().is_empty());
}

pub(crate) async fn an_alias_moves_only_from_where_it_is_expected(database: &impl Database) {
    use ExpectedVersion::{Absent, Any, Is};
    let store = database.open().await;
    for content in ["1", "2", "3"] {
        add(&*store, "a", content).await;
    }
    for (expected, to, outcome) in [
        (Is(1), 1, Err(None)),
        (Absent, 1, Ok(None)),
        (Absent, 2, Err(Some(1))),
        (Is(2), 3, Err(Some(1))),
        (Is(1), 2, Ok(Some(1))),
        (Any, 3, Ok(Some(2))),
        (Is(3), 3, Ok(Some(3))),
    ] {
        let moved = match store.set_alias("a", "x", to, expected).await {
            Ok(previous) => Ok(previous),
            Err(RegistryError::Conflict { model, alias, found }) if model == "a" && alias == "x" => Err(found),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(moved, outcome, "{expected:?} to {to}");
    }
}

pub(crate) async fn of_two_racing_moves_one_wins(database: &impl Database) {
    let handles: Vec<Arc<dyn MetadataStore>> = vec![database.open().await, database.open().await];
    for content in ["1", "2", "3"] {
        add(&*handles[0], "a", content).await;
    }
    for round in 0..20 {
        let name = format!("x{round}");
        handles[0].set_alias("a", &name, 1, ExpectedVersion::Absent).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for (store, to) in handles.iter().cloned().zip([2, 3]) {
            let name = name.clone();
            tasks.spawn(async move { (to, store.set_alias("a", &name, to, ExpectedVersion::Is(1)).await) });
        }
        let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(|(_, moved)| moved.is_ok());
        assert_eq!((won.len(), lost.len()), (1, 1));
        let winner = won[0].0;
        assert!(
            matches!(lost[0].1, Err(RegistryError::Conflict { found: Some(found), .. }) if found == winner),
            "{:?}",
            lost[0]
        );
        assert_eq!(handles[1].get("a", &alias(&name)).await.unwrap().version, winner);
    }
}

pub(crate) async fn a_refused_move_changes_nothing(database: &impl Database) {
    let store = database.open().await;
    add(&*store, "a", "1").await;
    store.set_alias("a", "x", 1, ExpectedVersion::Is(1)).await.unwrap_err();
    store.set_alias("a", "x", 2, ExpectedVersion::Absent).await.unwrap_err();
    assert!(matches!(store.get("a", &alias("x")).await, Err(RegistryError::NotFound { .. })));
    // Refusals give the write lock back.
    add(&*database.open().await, "a", "2").await;
}

pub(crate) async fn models_are_listed_by_name_with_production_and_latest(database: &impl Database) {
    let store = database.open().await;
    assert!(store.list_models(None, 10).await.unwrap().is_empty());
    for (model, content) in [("c", "1"), ("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("b", "2")] {
        add(&*store, model, content).await;
    }
    store.set_alias("a", "production", 2, ExpectedVersion::Any).await.unwrap();
    store.set_alias("a", "canary", 1, ExpectedVersion::Any).await.unwrap();
    store.set_alias("b", "production", 2, ExpectedVersion::Any).await.unwrap();
    let seen = |models: Vec<ev_registry::ModelRecord>| -> Vec<(String, u32, Option<u32>, u32)> {
        let row = |model: ev_registry::ModelRecord| {
            (model.name, model.version_count, model.production.map(|version| version.version), model.latest.version)
        };
        models.into_iter().map(row).collect()
    };
    let (a, b, c) = (("a".to_owned(), 3, Some(2), 3), ("b".to_owned(), 2, Some(2), 2), ("c".to_owned(), 1, None, 1));
    assert_eq!(seen(store.list_models(None, 10).await.unwrap()), [a.clone(), b.clone(), c.clone()]);
    assert_eq!(seen(store.list_models(None, 1).await.unwrap()), [a]);
    assert_eq!(seen(store.list_models(Some("a"), 10).await.unwrap()), [b, c]);
}

pub(crate) async fn a_thousand_versions_are_listed_in_pages(database: &impl Database) {
    let store = database.open().await;
    let all: Vec<NewVersion> = (0..1000).map(|index| version("a", &index.to_string())).collect();
    store.register(&all).await.unwrap();
    add(&*store, "b", "1").await;
    let (mut before, mut numbers) = (None, Vec::new());
    loop {
        let page = store.list_versions("a", before, 64).await.unwrap();
        assert!(page.len() <= 64 && page.iter().all(|version| version.model == "a"));
        let Some(last) = page.last() else { break };
        before = Some(last.version);
        numbers.extend(page.iter().map(|version| version.version));
    }
    assert!(numbers.into_iter().eq((1..=1000).rev()));
}

pub(crate) async fn everything_is_there_after_opening_again(database: &impl Database) {
    let store = database.open().await;
    add(&*store, "a", "1").await;
    store.set_alias("a", "production", 1, ExpectedVersion::Absent).await.unwrap();
    let seen = store.get("a", &alias("production")).await.unwrap();
    store.close().await;
    let store = database.open().await;
    assert_eq!(store.get("a", &alias("production")).await.unwrap(), seen);
    assert_eq!(add(&*store, "a", "2").await.version, 2);
}

pub(crate) async fn a_closed_store_fails_and_does_not_panic(database: &impl Database) {
    let store = database.open().await;
    store.close().await;
    assert!(matches!(store.register(&[version("a", "1")]).await, Err(RegistryError::Storage { .. })));
    assert!(matches!(store.list_models(None, 10).await, Err(RegistryError::Storage { .. })));
}
