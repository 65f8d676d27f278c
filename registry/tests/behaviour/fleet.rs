//! Behaviours of what is wanted of servers, and of what they say.

use std::sync::Arc;

use ev_models_core::Digest;
use ev_registry::{
    AuditEntry, AuditQuery, MetadataStore, NewVersion, OUTCOMES_MAX, Origin, PolicyChange, REPLICAS_MAX, RegistryError,
    ReplicaRecord, SET_VERSION_POLICY,
};

use super::Database;

async fn with_model(database: &impl Database) -> Arc<dyn MetadataStore> {
    let store = database.open().await;
    let version = NewVersion {
        model: "a".to_owned(),
        digest: Digest::of(b"1"),
        created_at_ms: 0,
        task: "generic".to_owned(),
        backend: "forest".to_owned(),
        license: "Apache-2.0".to_owned(),
        description: "A.".to_owned(),
        size_bytes: 1,
    };
    store.register(&[version], &(), "ci").await.unwrap();
    store
}

fn change(model: &str, document: Option<&str>, at_ms: i64) -> PolicyChange {
    PolicyChange {
        model: model.to_owned(),
        document: document.map(str::to_owned),
        entry: AuditEntry::new(SET_VERSION_POLICY, model),
        origin: Origin { actor: "kim".to_owned(), at_ms },
    }
}

fn told(replica: &str, updated_at_ms: i64) -> ReplicaRecord {
    ReplicaRecord { replica: replica.to_owned(), updated_at_ms, document: format!("{{\"it's\": {updated_at_ms}}}") }
}

pub(crate) async fn a_policy_is_set_replaced_and_removed_with_its_audit_row(database: &impl Database) {
    let store = with_model(database).await;
    let before = store.audit_head().await.unwrap().sequence;
    let mut changes = store.changes();
    changes.mark_unchanged();
    assert_eq!(store.set_policy(&change("a", Some("one"), 3)).await.unwrap(), None);
    assert!(changes.has_changed().unwrap());
    assert_eq!(store.set_policy(&change("a", Some("two"), 4)).await.unwrap().as_deref(), Some("one"));
    let other = database.open().await;
    let policies = other.policies().await.unwrap();
    assert_eq!(policies.len(), 1);
    assert_eq!((policies[0].model.as_str(), policies[0].document.as_str(), policies[0].updated_at_ms), ("a", "two", 4));
    assert_eq!(other.set_policy(&change("a", None, 5)).await.unwrap().as_deref(), Some("two"));
    assert!(store.policies().await.unwrap().is_empty());
    let refused = store.set_policy(&change("b", Some("one"), 6)).await.unwrap_err();
    assert!(matches!(refused, RegistryError::NotFound { .. }), "{refused:?}");
    let rows = store.audit(&AuditQuery::after(before)).await.unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.model.as_str(), row.at_ms)).collect();
    assert_eq!(rows, [(SET_VERSION_POLICY, "a", 3), (SET_VERSION_POLICY, "a", 4), (SET_VERSION_POLICY, "a", 5)]);
}

pub(crate) async fn what_a_server_says_replaces_what_it_said(database: &impl Database) {
    let store = database.open().await;
    store.tell_replica(&told("b", 1), 0).await.unwrap();
    store.tell_replica(&told("a", 2), 0).await.unwrap();
    store.tell_replica(&told("b", 3), 0).await.unwrap();
    let other = database.open().await;
    assert_eq!(other.replicas().await.unwrap(), [told("a", 2), told("b", 3)]);
    assert_eq!(store.audit_head().await.unwrap().sequence, 0, "nobody changed anything");
    other.forget_replica("a").await.unwrap();
    other.forget_replica("a").await.unwrap();
    assert_eq!(store.replicas().await.unwrap(), [told("b", 3)]);
}

pub(crate) async fn servers_that_are_not_heard_of_are_forgotten(database: &impl Database) {
    let store = database.open().await;
    store.tell_replica(&told("old", 1), 0).await.unwrap();
    store.tell_replica(&told("young", 5), 2).await.unwrap();
    assert_eq!(store.replicas().await.unwrap(), [told("young", 5)]);
    // Whose clock is behind is not forgotten by itself.
    store.tell_replica(&told("behind", 3), 5).await.unwrap();
    assert_eq!(store.replicas().await.unwrap(), [told("behind", 3), told("young", 5)]);
    for number in 0..REPLICAS_MAX {
        store.tell_replica(&told(&format!("r-{number:03}"), 10 + i64::from(number)), 0).await.unwrap();
    }
    let known = store.replicas().await.unwrap();
    assert_eq!(known.len(), usize::try_from(REPLICAS_MAX).unwrap());
    assert!(known.iter().all(|record| record.replica.starts_with("r-")), "{known:?}");
}

pub(crate) async fn what_was_reported_is_kept_in_order_until_it_is_taken(database: &impl Database) {
    let (store, other) = (database.open().await, database.open().await);
    let documents = |names: &[&str]| names.iter().map(|name| format!("{{\"it's\": \"{name}\"}}")).collect::<Vec<_>>();
    assert_eq!(store.keep_outcomes(&documents(&["a", "b"]), 5, 0).await.unwrap(), 2);
    assert_eq!(other.keep_outcomes(&documents(&["c"]), 6, 0).await.unwrap(), 1);
    let kept = store.kept_outcomes(0, 10).await.unwrap();
    let found: Vec<&str> = kept.iter().map(|kept| kept.document.as_str()).collect();
    assert_eq!(found, documents(&["a", "b", "c"]));
    let rest = other.kept_outcomes(kept[0].sequence, 1).await.unwrap();
    assert_eq!(rest, kept[1..2]);
    other.remove_outcomes(&[kept[1].sequence, kept[1].sequence, 999]).await.unwrap();
    assert_eq!(store.kept_outcomes(0, 10).await.unwrap().len(), 2);
    // What is old goes, and numbers are not given again.
    assert_eq!(store.keep_outcomes(&documents(&["d"]), 9, 6).await.unwrap(), 1);
    let left = store.kept_outcomes(0, 10).await.unwrap();
    assert_eq!(left.len(), 2);
    assert!(left[0] == kept[2] && left[1].sequence > kept[2].sequence, "{left:?}");
    // Beyond the most, what comes first has a place.
    let many = vec!["{}".to_owned(); usize::try_from(OUTCOMES_MAX).unwrap()];
    assert_eq!(store.keep_outcomes(&many, 9, 0).await.unwrap(), many.len() - 2);
    assert_eq!(store.keep_outcomes(&many[..5], 9, 0).await.unwrap(), 0);
}
