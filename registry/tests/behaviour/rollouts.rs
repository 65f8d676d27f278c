//! Behaviours of rollouts.

use std::{collections::BTreeSet, sync::Arc};

use ev_models_core::Digest;
use ev_registry::{
    AliasChange, AuditEntry, AuditOrder, AuditQuery, ExpectedVersion, MetadataStore, NewRollout, NewVersion, Origin,
    REPLICAS_KEPT, ROLLOUT, ROLLOUTS_KEPT, RegistryError, ReplicaObservations, RolloutChange, VersionChoice,
};

use super::Database;

/// A model with two versions, of which the first is `production`.
async fn with_model(database: &impl Database) -> Arc<dyn MetadataStore> {
    let store = database.open().await;
    for content in ["1", "2"] {
        let version = NewVersion {
            model: "a".to_owned(),
            digest: Digest::of(content.as_bytes()),
            created_at_ms: 0,
            task: "generic".to_owned(),
            backend: "forest".to_owned(),
            license: "Apache-2.0".to_owned(),
            description: "A.".to_owned(),
            size_bytes: 1,
        };
        store.register(&[version], &(), "ci").await.unwrap();
    }
    let production = AliasChange::set("a", "production", 1, ExpectedVersion::Absent);
    store.move_alias(&production, &at(0)).await.unwrap();
    store
}

fn at(at_ms: i64) -> Origin {
    Origin { actor: "kim".to_owned(), at_ms }
}

fn new(id: &str) -> NewRollout {
    NewRollout {
        id: id.to_owned(),
        model: "a".to_owned(),
        document: "{\"it's\": \"é\"}".to_owned(),
        entry: AuditEntry::new(ROLLOUT, "a"),
        origin: at(5),
    }
}

fn change(id: &str, expected_revision: u64) -> RolloutChange {
    RolloutChange {
        id: id.to_owned(),
        expected_revision,
        is_active: true,
        document: "{}".to_owned(),
        aliases: Vec::new(),
        entry: AuditEntry::new(ROLLOUT, "a"),
        origin: at(9),
    }
}

fn to(version: u32, expected: u32) -> AliasChange {
    AliasChange::set("a", "production", version, ExpectedVersion::Is(expected))
}

async fn production(store: &dyn MetadataStore) -> u32 {
    store.get("a", &VersionChoice::Alias("production".to_owned())).await.unwrap().version
}

pub(crate) async fn a_model_has_one_rollout_under_way(database: &impl Database) {
    let store = with_model(database).await;
    let started = store.start_rollout(&new("r-1")).await.unwrap();
    assert_eq!((started.revision, started.is_active, started.created_at_ms), (1, true, 5));
    assert_eq!(store.rollout("r-1").await.unwrap(), started);
    let refused = store.start_rollout(&new("r-2")).await.unwrap_err();
    assert!(matches!(&refused, RegistryError::RolloutUnderWay { id, .. } if id == "r-1"), "{refused:?}");
    store.change_rollout(&RolloutChange { is_active: false, ..change("r-1", 1) }).await.unwrap();
    assert!(store.active_rollouts().await.unwrap().is_empty());
    store.start_rollout(&new("r-2")).await.unwrap();
    let unknown = NewRollout { model: "b".to_owned(), ..new("r-3") };
    assert!(matches!(store.start_rollout(&unknown).await.unwrap_err(), RegistryError::NotFound { .. }));
    let listed = store.list_rollouts(Some("a"), None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|rollout| rollout.id.as_str()).collect::<Vec<_>>(), ["r-2", "r-1"]);
    assert_eq!(store.list_rollouts(None, Some("r-2"), 10).await.unwrap().len(), 1);
    assert_eq!(store.list_rollouts(Some("b"), None, 10).await.unwrap().len(), 0);
    assert_eq!(database.open().await.active_rollouts().await.unwrap()[0].id, "r-2");
}

pub(crate) async fn a_rollout_changes_only_from_where_it_was_seen(database: &impl Database) {
    let store = with_model(database).await;
    store.start_rollout(&new("r-1")).await.unwrap();
    let changed = store.change_rollout(&change("r-1", 1)).await.unwrap();
    let mark = store.rollouts_mark().await.unwrap();
    assert_eq!((changed.revision, changed.document.as_str(), changed.updated_at_ms), (2, "{}", 9));
    let refused = store.change_rollout(&change("r-1", 1)).await.unwrap_err();
    assert!(matches!(refused, RegistryError::RolloutMoved { revision: 2, .. }), "{refused:?}");
    assert_eq!(store.rollouts_mark().await.unwrap(), mark);
    store.change_rollout(&change("r-1", 2)).await.unwrap();
    assert_ne!(store.rollouts_mark().await.unwrap(), mark);
    assert!(matches!(store.change_rollout(&change("r-9", 1)).await.unwrap_err(), RegistryError::NotFound { .. }));
}

pub(crate) async fn an_alias_moves_with_its_rollout_or_neither_does(database: &impl Database) {
    let store = with_model(database).await;
    store.start_rollout(&new("r-1")).await.unwrap();
    let fallback = AliasChange::set("a", "fallback", 1, ExpectedVersion::Any);
    for refused in [to(2, 2), to(9, 1)] {
        let aliases = vec![fallback.clone(), refused];
        store.change_rollout(&RolloutChange { aliases, ..change("r-1", 1) }).await.unwrap_err();
        assert_eq!((production(&*store).await, store.rollout("r-1").await.unwrap().revision), (1, 1));
        assert!(store.get("a", &VersionChoice::Alias("fallback".to_owned())).await.is_err(), "nothing has moved");
    }
    let promoted = RolloutChange { aliases: vec![fallback, to(2, 1)], is_active: false, ..change("r-1", 1) };
    store.change_rollout(&promoted).await.unwrap();
    let again = database.open().await;
    assert_eq!((production(&*again).await, again.rollout("r-1").await.unwrap().is_active), (2, false));
    let query = AuditQuery { model: Some("a".to_owned()), order: AuditOrder::Before(None), limit: 4 };
    let rows = store.audit(&query).await.unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.alias.as_str(), row.version)).collect();
    let moved = [("rollout", "", None), ("set_alias", "production", Some(2)), ("set_alias", "fallback", Some(1))];
    assert_eq!(rows, [&moved[..], &[("rollout", "", None)]].concat(), "the newest first, and of refused moves none");
    // What was overtaken moves nothing.
    store.change_rollout(&RolloutChange { aliases: vec![to(1, 2)], ..change("r-1", 1) }).await.unwrap_err();
    assert_eq!(production(&*store).await, 2);
}

pub(crate) async fn of_racing_changes_one_wins(database: &impl Database) {
    with_model(database).await.start_rollout(&new("r-1")).await.unwrap();
    let mut racing = Vec::new();
    for racer in 0..8i64 {
        let store = database.open().await;
        racing.push(tokio::spawn(async move {
            let change = RolloutChange { origin: at(racer), aliases: vec![to(2, 1)], ..change("r-1", 1) };
            store.change_rollout(&change).await
        }));
    }
    let mut won = Vec::new();
    for racer in racing {
        match racer.await.unwrap() {
            Ok(record) => won.push(record),
            Err(RegistryError::RolloutMoved { revision: 2, .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(won.len(), 1);
    assert_eq!(database.open().await.rollout("r-1").await.unwrap(), won[0]);
}

pub(crate) async fn what_processes_saw_is_kept_by_process(database: &impl Database) {
    let store = with_model(database).await;
    store.start_rollout(&new("r-1")).await.unwrap();
    let saw = |replica: &str, at_ms: i64| ReplicaObservations {
        replica: replica.to_owned(),
        updated_at_ms: at_ms,
        document: format!("{{\"at\": {at_ms}}}"),
    };
    for (replica, at_ms) in [("x", 1), ("y", 2), ("x", 3)] {
        store.observe_rollout("r-1", &saw(replica, at_ms)).await.unwrap();
    }
    assert_eq!(store.rollout_observations("r-1").await.unwrap(), [saw("x", 3), saw("y", 2)]);
    assert!(store.rollout_observations("r-9").await.unwrap().is_empty());
    assert!(matches!(store.observe_rollout("r-9", &saw("x", 1)).await.unwrap_err(), RegistryError::NotFound { .. }));
    for replica in 0..i64::from(REPLICAS_KEPT) {
        store.observe_rollout("r-1", &saw(&format!("z-{replica:03}"), 10 + replica)).await.unwrap();
    }
    let kept: BTreeSet<String> =
        store.rollout_observations("r-1").await.unwrap().into_iter().map(|seen| seen.replica).collect();
    assert_eq!(kept.len(), usize::try_from(REPLICAS_KEPT).unwrap());
    assert!(!kept.contains("x") && !kept.contains("y"), "who was heard of long ago gives way");
}

pub(crate) async fn old_rollouts_are_forgotten(database: &impl Database) {
    let store = with_model(database).await;
    let seen = ReplicaObservations { replica: "x".to_owned(), updated_at_ms: 0, document: String::new() };
    for index in 0..=ROLLOUTS_KEPT + 1 {
        let id = format!("r-{index:04}");
        store.start_rollout(&new(&id)).await.unwrap();
        store.observe_rollout(&id, &seen).await.unwrap();
        store.change_rollout(&RolloutChange { is_active: false, ..change(&id, 1) }).await.unwrap();
    }
    let kept = store.list_rollouts(None, None, 1_000).await.unwrap();
    assert_eq!(kept.len(), usize::try_from(ROLLOUTS_KEPT).unwrap());
    assert!(store.rollout_observations("r-0000").await.unwrap().is_empty());
    assert_eq!(store.rollout_observations(&kept[0].id).await.unwrap().len(), 1);
}
