//! The behaviours.

use std::{collections::BTreeSet, sync::Arc};

use ev_models_core::Digest;
use ev_registry::{
    AliasChange, AuditEntry, AuditOrder, AuditQuery, Collected, Collector, ExpectedVersion, MetadataStore, NewVersion,
    Origin, RegistryError, Stored, VersionChoice, VersionRecord,
};

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
    let imported = store.register(&[version(model, content)], &(), "tester").await.unwrap().pop().unwrap();
    assert!(imported.created);
    imported.version
}

fn by() -> Origin {
    Origin { actor: "tester".to_owned(), at_ms: 1_767_225_600_000 }
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
        pinned: false,
    };
    assert_eq!(store.get("a", &number(2)).await.unwrap(), expected);
}

pub(crate) async fn the_same_digest_is_the_same_version(database: &impl Database) {
    let store = database.open().await;
    let first = add(&*store, "a", "1").await;
    add(&*store, "a", "2").await;
    let mut again = version("a", "1");
    again.created_at_ms += 1;
    let imported = store.register(&[again], &(), "tester").await.unwrap().pop().unwrap();
    assert!(!imported.created);
    assert_eq!(imported.version, first);
    assert_eq!(add(&*store, "a", "3").await.version, 3, "an import that created nothing took no number");
}

pub(crate) async fn a_batch_is_registered_whole(database: &impl Database) {
    let store = database.open().await;
    let batch = [version("a", "1"), version("b", "1"), version("a", "2"), version("a", "1")];
    let imported = store.register(&batch, &(), "tester").await.unwrap();
    let found: Vec<_> =
        imported.iter().map(|done| (done.version.model.as_str(), done.version.version, done.created)).collect();
    assert_eq!(found, [("a", 1, true), ("b", 1, true), ("a", 2, true), ("a", 1, false)]);

    let mut bad = version("d", "1");
    bad.size_bytes = u64::MAX;
    store.register(&[version("c", "1"), bad], &(), "tester").await.unwrap_err();
    assert!(matches!(store.get("c", &number(1)).await, Err(RegistryError::NotFound { .. })));
    assert!(store.register(&[], &(), "tester").await.unwrap().is_empty());
}

pub(crate) async fn racing_registrations_of_one_digest_give_one_version(database: &impl Database) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = database.open().await;
        tasks.spawn(async move { store.register(&[version("a", "1")], &(), "tester").await.unwrap().pop().unwrap() });
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
    store.move_alias(&AliasChange::set("a", "production", 2, ExpectedVersion::Absent), &by()).await.unwrap();
    store.move_alias(&AliasChange::set("a", "canary", 2, ExpectedVersion::Any), &by()).await.unwrap();
    let found = store.get("a", &alias("production")).await.unwrap();
    assert_eq!(found.version, 2);
    assert_eq!(found.aliases, ["canary", "production"]);
    assert_eq!(store.find("a", &Digest::of(b"2")).await.unwrap(), Some(found));
    assert_eq!(store.find("b", &Digest::of(b"2")).await.unwrap(), None);
    assert_eq!(store.find("a", &Digest::of(b"3")).await.unwrap(), None);
}

pub(crate) async fn all_versions_are_listed_page_by_page(database: &impl Database) {
    let store = database.open().await;
    assert!(store.list_all(None, 10).await.unwrap().is_empty());
    for (model, versions) in [("b", 3), ("a-1", 1), ("a", 2)] {
        for version in 1..=versions {
            add(&*store, model, &format!("{version}")).await;
        }
    }
    store.move_alias(&AliasChange::set("b", "production", 2, ExpectedVersion::Absent), &by()).await.unwrap();
    let whole = store.list_all(None, 10).await.unwrap();
    let found: Vec<(&str, u32)> = whole.iter().map(|version| (version.model.as_str(), version.version)).collect();
    assert_eq!(found, [("a", 2), ("a", 1), ("a-1", 1), ("b", 3), ("b", 2), ("b", 1)]);
    assert_eq!(whole[4].aliases, ["production"]);
    assert_eq!(whole[4], store.get("b", &number(2)).await.unwrap());
    for limit in 1..=7 {
        let mut paged: Vec<VersionRecord> = Vec::new();
        loop {
            let after = paged.last().map(|version| (version.model.as_str(), version.version));
            let page = store.list_all(after, limit).await.unwrap();
            assert!(page.len() <= limit as usize);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, whole, "{limit} at a time");
    }
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
        let moved = store.move_alias(&AliasChange::set("a", "x", version, ExpectedVersion::Any), &by()).await;
        assert_eq!(missing(moved.unwrap_err()), what);
    }
    assert_eq!(missing(store.get("a", &alias("x")).await.unwrap_err()), "alias `x` of model `a`");
    assert_eq!(missing(store.list_versions("b", None, 10).await.unwrap_err()), "model `b`");
    assert_eq!(
        missing(store.move_alias(&AliasChange::set("b", "x", 1, ExpectedVersion::Any), &by()).await.unwrap_err()),
        "model `b`"
    );
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
        let moved = match store.move_alias(&AliasChange::set("a", "x", to, expected), &by()).await {
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
        handles[0].move_alias(&AliasChange::set("a", &name, 1, ExpectedVersion::Absent), &by()).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for (store, to) in handles.iter().cloned().zip([2, 3]) {
            let name = name.clone();
            tasks.spawn(async move {
                (to, store.move_alias(&AliasChange::set("a", &name, to, ExpectedVersion::Is(1)), &by()).await)
            });
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
    store.move_alias(&AliasChange::set("a", "x", 1, ExpectedVersion::Is(1)), &by()).await.unwrap_err();
    store.move_alias(&AliasChange::set("a", "x", 2, ExpectedVersion::Absent), &by()).await.unwrap_err();
    assert!(matches!(store.get("a", &alias("x")).await, Err(RegistryError::NotFound { .. })));
    // Refusals give the write lock back.
    add(&*database.open().await, "a", "2").await;
}

pub(crate) async fn an_alias_is_removed_only_from_where_it_is_expected(database: &impl Database) {
    use ExpectedVersion::{Absent, Any, Is};
    let store = database.open().await;
    add(&*store, "a", "1").await;
    let remove = |model, alias, expected| AliasChange::remove(model, alias, expected);
    let missing = async |change: AliasChange| match store.move_alias(&change, &by()).await.unwrap_err() {
        RegistryError::NotFound { what } => what,
        error => panic!("{error}"),
    };
    assert_eq!(missing(remove("b", "x", Any)).await, "model `b`");
    assert_eq!(missing(remove("a", "x", Any)).await, "alias `x` of model `a`");
    assert_eq!(missing(remove("a", "x", Absent)).await, "alias `x` of model `a`");
    store.move_alias(&AliasChange::set("a", "x", 1, Absent), &by()).await.unwrap();
    let refused = store.move_alias(&remove("a", "x", Is(2)), &by()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Conflict { found: Some(1), .. }), "{refused}");
    assert_eq!(store.move_alias(&remove("a", "x", Is(1)), &by()).await.unwrap(), Some(1));
    assert!(matches!(store.get("a", &alias("x")).await, Err(RegistryError::NotFound { .. })));
}

/// Sequence, action, version and alias of every row.
async fn told(store: &dyn MetadataStore) -> Vec<(u64, String, Option<u32>, String)> {
    let rows = store.audit(&AuditQuery::after(0)).await.unwrap();
    rows.into_iter().map(|row| (row.sequence, row.action, row.version, row.alias)).collect()
}

pub(crate) async fn every_change_has_its_audit_row_and_a_refused_one_has_none(database: &impl Database) {
    let store = database.open().await;
    let empty = store.audit_head().await.unwrap();
    assert_eq!((empty.sequence, told(&*store).await.len()), (0, 0));
    add(&*store, "a", "1").await;
    store.register(&[version("a", "1"), version("a", "2")], &(), "importer").await.unwrap();
    store.move_alias(&AliasChange::set("a", "x", 2, ExpectedVersion::Absent), &by()).await.unwrap();
    store.move_alias(&AliasChange::set("a", "x", 1, ExpectedVersion::Absent), &by()).await.unwrap_err();
    store.move_alias(&AliasChange::remove("a", "x", ExpectedVersion::Any), &by()).await.unwrap();
    let entries = ["rollout.start", "rollout.promote"].map(|action| AuditEntry::new(action, "a"));
    let rows = store.record(&entries, &Origin { actor: "roll".to_owned(), at_ms: 5 }).await.unwrap();
    let bad = AuditEntry::new("No Action", "a");
    let refused = store.record(&[AuditEntry::new("fine", "a"), bad], &by()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::InvalidAuditEntry { .. }), "{refused}");

    let row = |sequence, action: &str, version, alias: &str| (sequence, action.to_owned(), version, alias.to_owned());
    let expected = [
        row(1, "register", Some(1), ""),
        row(2, "register", Some(2), ""),
        row(3, "set_alias", Some(2), "x"),
        row(4, "remove_alias", Some(2), "x"),
        row(5, "rollout.start", None, ""),
        row(6, "rollout.promote", None, ""),
    ];
    assert_eq!(told(&*store).await, expected);
    let all = store.audit(&AuditQuery::after(0)).await.unwrap();
    assert_eq!(all[4..], rows);
    assert_eq!((all[1].actor.as_str(), all[1].at_ms), ("importer", by().at_ms));
    assert_eq!(all[1].digest, Digest::of(b"2").to_string());
    assert_eq!(all[3].detail, r#"{"previous_version":2}"#);
    assert_eq!((all[4].actor.as_str(), all[4].at_ms), ("roll", 5));
    assert_eq!(all[0].previous_hash, empty.hash);
    assert!(all.windows(2).all(|pair| pair[1].previous_hash == pair[0].hash && pair[1].hash != pair[0].hash));
    let head = database.open().await.audit_head().await.unwrap();
    assert_eq!((head.sequence, &head.hash), (6, &all[5].hash));
    assert_eq!(store.registration("a", 2).await.unwrap().as_ref(), Some(&all[1]));
    assert_eq!(store.registration("a", 3).await.unwrap(), None);
}

pub(crate) async fn audit_rows_of_one_action_about_a_version_are_found(database: &impl Database) {
    let store = database.open().await;
    let one = add(&*store, "a", "1").await;
    let two = add(&*store, "a", "2").await;
    let waive = |version: &VersionRecord| AuditEntry::new("waive", "a").version(version.version, &version.digest);
    for entry in [waive(&one), waive(&two), waive(&one), AuditEntry::new("waive", "b"), AuditEntry::new("sign", "a")] {
        store.record(&[entry], &by()).await.unwrap();
    }
    let found = async |version: u32, action: &str, limit: u32| {
        let rows = store.rows_of("a", version, action, limit).await.unwrap();
        rows.iter().map(|row| row.sequence).collect::<Vec<_>>()
    };
    assert_eq!(found(1, "waive", 10).await, [5, 3], "the newest first");
    assert_eq!(found(1, "waive", 1).await, [5]);
    assert_eq!(found(2, "waive", 10).await, [4]);
    assert_eq!(found(1, "register", 10).await, [1]);
    assert_eq!(found(1, "sign", 10).await, [] as [u64; 0]);
    assert_eq!(found(9, "waive", 10).await, [] as [u64; 0]);
}

pub(crate) async fn audit_rows_come_in_pages_from_either_end(database: &impl Database) {
    let store = database.open().await;
    let entries: Vec<AuditEntry> =
        (0..10).map(|index| AuditEntry::new("note", if index % 2 == 0 { "a" } else { "b" })).collect();
    store.record(&entries, &by()).await.unwrap();
    for (model, order, limit, expected) in [
        (None, AuditOrder::After(0), 3, vec![1, 2, 3]),
        (None, AuditOrder::After(8), 3, vec![9, 10]),
        (None, AuditOrder::After(10), 3, vec![]),
        (None, AuditOrder::After(u64::MAX), 3, vec![]),
        (None, AuditOrder::Before(None), 3, vec![10, 9, 8]),
        (None, AuditOrder::Before(Some(3)), 3, vec![2, 1]),
        (None, AuditOrder::Before(Some(0)), 3, vec![]),
        (Some("a"), AuditOrder::After(0), 3, vec![1, 3, 5]),
        (Some("b"), AuditOrder::Before(Some(9)), 3, vec![8, 6, 4]),
        (Some("c"), AuditOrder::After(0), 3, vec![]),
    ] {
        let query = AuditQuery { model: model.map(str::to_owned), order, limit };
        let rows = store.audit(&query).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), expected, "{query:?}");
    }
}

pub(crate) async fn what_aliases_pointed_at_is_known_for_every_time(database: &impl Database) {
    let store = database.open().await;
    for content in ["1", "2"] {
        add(&*store, "a", content).await;
    }
    add(&*store, "b", "1").await;
    let set = |alias, version| AliasChange::set("a", alias, version, ExpectedVersion::Any);
    for (at_ms, change) in [
        (10, set("production", 1)),
        (20, set("canary", 2)),
        (30, set("production", 2)),
        (40, AliasChange::remove("a", "canary", ExpectedVersion::Any)),
        (40, AliasChange::set("b", "production", 1, ExpectedVersion::Any)),
        (50, set("production", 1)),
    ] {
        store.move_alias(&change, &Origin { actor: "tester".to_owned(), at_ms }).await.unwrap();
    }
    for (at_ms, expected) in [
        (9, vec![]),
        (10, vec![("production", 1)]),
        (29, vec![("canary", 2), ("production", 1)]),
        (30, vec![("canary", 2), ("production", 2)]),
        (49, vec![("production", 2)]),
        (i64::MAX, vec![("production", 1)]),
    ] {
        let rows = store.as_of("a", at_ms).await.unwrap();
        let found: Vec<_> = rows
            .iter()
            .filter(|row| row.action == "set_alias")
            .map(|row| (row.alias.as_str(), row.version.unwrap()))
            .collect();
        assert_eq!(found, expected, "at {at_ms}");
    }
    assert!(store.as_of("c", 50).await.unwrap().is_empty());
}

pub(crate) async fn racing_changes_make_one_chain(database: &impl Database) {
    let mut tasks = tokio::task::JoinSet::new();
    for handle in 0..4 {
        let store = database.open().await;
        tasks.spawn(async move {
            for index in 0..10 {
                let model = format!("m{handle}");
                add(&*store, &model, &index.to_string()).await;
                let change = AliasChange::set(&model, "production", index + 1, ExpectedVersion::Any);
                store.move_alias(&change, &by()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let store = database.open().await;
    let rows = store.audit(&AuditQuery::after(0)).await.unwrap();
    assert!(rows.iter().map(|row| row.sequence).eq(1..=80));
    assert!(rows.windows(2).all(|pair| pair[1].previous_hash == pair[0].hash));
}

pub(crate) async fn a_version_is_deleted_only_when_nothing_refers_to_it(database: &impl Database) {
    let store = database.open().await;
    for content in ["1", "2", "3"] {
        add(&*store, "a", content).await;
    }
    store.move_alias(&AliasChange::set("a", "x", 1, ExpectedVersion::Any), &by()).await.unwrap();
    store.move_alias(&AliasChange::set("a", "y", 1, ExpectedVersion::Any), &by()).await.unwrap();
    assert!(store.set_pin("a", 1, Some("kept for the audit"), &by()).await.unwrap());
    let refused = async |version, references: &[String]| match store
        .delete_version("a", version, references, &by())
        .await
        .unwrap_err()
    {
        RegistryError::InUse { model, version: found, by } if model == "a" && found == version => by,
        error => panic!("{error}"),
    };
    let rollout = ["rollout `spring`".to_owned()];
    assert_eq!(refused(1, &rollout).await, ["alias `x`", "alias `y`", "a pin", "rollout `spring`"]);
    assert_eq!(refused(2, &rollout).await, rollout);
    for alias in ["x", "y"] {
        store.move_alias(&AliasChange::remove("a", alias, ExpectedVersion::Is(1)), &by()).await.unwrap();
    }
    assert_eq!(refused(1, &[]).await, ["a pin"]);
    assert!(store.set_pin("a", 1, None, &by()).await.unwrap());

    let deleted = store.delete_version("a", 1, &[], &by()).await.unwrap();
    assert_eq!((deleted.version, deleted.digest), (1, Digest::of(b"1")));
    for outcome in [store.get("a", &number(1)).await, store.delete_version("a", 1, &[], &by()).await] {
        assert!(matches!(outcome, Err(RegistryError::NotFound { .. })), "{outcome:?}");
    }
    let told = told(&*store).await;
    let (_, action, version, _) = told.last().unwrap();
    assert_eq!((action.as_str(), *version), ("delete_version", Some(1)));
}

pub(crate) async fn numbers_of_deleted_versions_are_not_given_again(database: &impl Database) {
    let store = database.open().await;
    for content in ["1", "2", "3"] {
        add(&*store, "a", content).await;
    }
    store.delete_version("a", 3, &[], &by()).await.unwrap();
    let listed = store.list_models(None, 10).await.unwrap();
    assert_eq!((listed[0].version_count, listed[0].latest.version), (2, 2));
    // The same content comes again as a new version.
    assert_eq!(add(&*store, "a", "3").await.version, 4);
    for version in [1, 2, 4] {
        store.delete_version("a", version, &[], &by()).await.unwrap();
    }
    assert!(store.list_models(None, 10).await.unwrap().is_empty());
    assert!(store.list_versions("a", None, 10).await.unwrap().is_empty());
    assert!(matches!(store.get("a", &alias("production")).await, Err(RegistryError::NotFound { .. })));
    let store = database.open().await;
    assert_eq!(add(&*store, "a", "1").await.version, 5);
}

pub(crate) async fn pins_are_put_on_and_taken_off(database: &impl Database) {
    let store = database.open().await;
    add(&*store, "a", "1").await;
    for (reason, changed, pinned) in
        [(None, false, false), (Some("why"), true, true), (Some("another"), false, true), (None, true, false)]
    {
        assert_eq!(store.set_pin("a", 1, reason, &by()).await.unwrap(), changed);
        assert_eq!(store.get("a", &number(1)).await.unwrap().pinned, pinned);
    }
    assert_eq!(told(&*store).await.len(), 3, "what changed nothing has no row");
    let missing = store.set_pin("a", 2, Some("why"), &by()).await.unwrap_err();
    assert!(matches!(missing, RegistryError::NotFound { .. }), "{missing}");
    let pin = store.audit(&AuditQuery::after(1)).await.unwrap().remove(0);
    assert_eq!((pin.action.as_str(), pin.detail.as_str()), ("pin", r#"{"reason":"why"}"#));
}

/// Files that are gone by the time a version shall be registered.
struct Gone;

#[async_trait::async_trait]
impl Stored for Gone {
    async fn check(&self, version: &NewVersion) -> Result<(), RegistryError> {
        Err(RegistryError::Lost { file: "model.ubj".to_owned(), expected: version.digest })
    }
}

pub(crate) async fn a_version_whose_files_are_gone_is_not_registered(database: &impl Database) {
    let store = database.open().await;
    let refused = store.register(&[version("a", "1")], &Gone, "tester").await.unwrap_err();
    assert!(matches!(refused, RegistryError::Lost { .. }), "{refused}");
    assert!(store.list_models(None, 10).await.unwrap().is_empty());
    assert!(told(&*store).await.is_empty());
    let known = add(&*store, "a", "1").await;
    // What is registered is not asked about again.
    let again = store.register(&[version("a", "1")], &Gone, "tester").await.unwrap();
    assert_eq!((again[0].created, &again[0].version), (false, &known));
}

/// Tells what it was shown, and that it deleted as many files.
struct Shown(std::sync::Mutex<Vec<Digest>>);

#[async_trait::async_trait]
impl Collector for Shown {
    async fn collect(&self, live: &[Digest]) -> Result<Collected, RegistryError> {
        self.0.lock().unwrap().extend_from_slice(live);
        Ok(Collected { files: live.len() as u64, bytes: 7 })
    }
}

pub(crate) async fn a_collector_is_shown_every_version(database: &impl Database) {
    let store = database.open().await;
    let shown = Shown(std::sync::Mutex::default());
    assert_eq!(store.collect(&shown, &by()).await.unwrap().files, 0);
    assert!(told(&*store).await.is_empty(), "nothing was deleted");
    for (model, content) in [("a", "1"), ("a", "2"), ("b", "1")] {
        add(&*store, model, content).await;
    }
    store.delete_version("a", 1, &[], &by()).await.unwrap();
    store.collect(&shown, &by()).await.unwrap();
    let mut shown = shown.0.into_inner().unwrap();
    let mut expected = vec![Digest::of(b"1"), Digest::of(b"2")];
    shown.sort_unstable();
    expected.sort_unstable();
    assert_eq!(shown, expected);
    let row = store.audit(&AuditQuery::after(4)).await.unwrap().remove(0);
    assert_eq!((row.action.as_str(), row.detail.as_str()), ("collect_garbage", r#"{"bytes":7,"files":2}"#));
}

pub(crate) async fn changes_are_told_to_every_handle_within_a_second(database: &impl Database) {
    let (one, other) = (database.open().await, database.open().await);
    let (mut own, mut others) = (one.changes(), other.changes());
    assert_eq!((*own.borrow_and_update(), *others.borrow_and_update()), (0, 0));
    add(&*one, "a", "1").await;
    assert_eq!(*own.borrow_and_update(), 1, "at once");
    let within = std::time::Duration::from_secs(1);
    tokio::time::timeout(within, others.changed()).await.unwrap().unwrap();
    assert_eq!(*others.borrow_and_update(), 1);
    other.move_alias(&AliasChange::set("a", "x", 1, ExpectedVersion::Any), &by()).await.unwrap();
    tokio::time::timeout(within, own.changed()).await.unwrap().unwrap();
    assert_eq!(*own.borrow_and_update(), 2);
    assert_eq!(*database.open().await.changes().borrow(), 2);
    // Also after a time in which nothing was written and the database need not be asked.
    others.mark_unchanged();
    tokio::time::sleep(3 * within).await;
    assert!(!others.has_changed().unwrap());
    add(&*one, "a", "2").await;
    tokio::time::timeout(within, others.changed()).await.unwrap().unwrap();
    assert_eq!(*others.borrow_and_update(), 3);
}

pub(crate) async fn models_are_listed_by_name_with_production_and_latest(database: &impl Database) {
    let store = database.open().await;
    assert!(store.list_models(None, 10).await.unwrap().is_empty());
    for (model, content) in [("c", "1"), ("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("b", "2")] {
        add(&*store, model, content).await;
    }
    store.move_alias(&AliasChange::set("a", "production", 2, ExpectedVersion::Any), &by()).await.unwrap();
    store.move_alias(&AliasChange::set("a", "canary", 1, ExpectedVersion::Any), &by()).await.unwrap();
    store.move_alias(&AliasChange::set("b", "production", 2, ExpectedVersion::Any), &by()).await.unwrap();
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
    store.register(&all, &(), "tester").await.unwrap();
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
    store.move_alias(&AliasChange::set("a", "production", 1, ExpectedVersion::Absent), &by()).await.unwrap();
    let seen = store.get("a", &alias("production")).await.unwrap();
    store.close().await;
    let store = database.open().await;
    assert_eq!(store.get("a", &alias("production")).await.unwrap(), seen);
    assert_eq!(add(&*store, "a", "2").await.version, 2);
}

pub(crate) async fn a_closed_store_fails_and_does_not_panic(database: &impl Database) {
    let store = database.open().await;
    store.close().await;
    let closed = |error| matches!(error, RegistryError::Storage { .. } | RegistryError::ShuttingDown);
    assert!(closed(store.register(&[version("a", "1")], &(), "tester").await.unwrap_err()));
    assert!(closed(store.list_models(None, 10).await.unwrap_err()));
}
