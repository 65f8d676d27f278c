//! Waivers, signatures and judgements of a version.

use ev_registry::{RegistryError, VersionRecord, Waiver};
use serde_json::json;
use sqlx::{AssertSqlSafe, SqlitePool, sqlite::SqliteConnectOptions};

use crate::support::{Fixture, NOW_MS, manifest};

async fn fixture() -> (Fixture, VersionRecord, VersionRecord) {
    let fixture = Fixture::new().await;
    let mut versions = Vec::new();
    for content in ["one", "two"] {
        let files = [("model.ubj", content)];
        versions.push(fixture.registry.import_files(&manifest("adder", ""), files, NOW_MS).await.unwrap().version);
    }
    let second = versions.pop().unwrap();
    (fixture, versions.pop().unwrap(), second)
}

#[tokio::test]
async fn what_is_said_of_a_version_is_said_of_no_other_and_stays() {
    let (fixture, one, two) = fixture().await;
    let registry = fixture.registry.on_behalf_of("ada");
    registry.waive(&one, "synthetic", "first", NOW_MS).await.unwrap();
    registry.waive(&one, "baseline", "  small data ", NOW_MS + 1).await.unwrap();
    registry.waive(&one, "synthetic", "second", NOW_MS + 2).await.unwrap();
    registry.add_signature(&one, b"key one", b"old", NOW_MS).await.unwrap();
    registry.add_signature(&one, b"key two", b"other", NOW_MS).await.unwrap();
    registry.add_signature(&one, b"key one", b"new", NOW_MS).await.unwrap();
    registry.judged(&one, json!([{"gate": "golden"}]), NOW_MS + 5).await.unwrap();
    registry.judged(&one, json!([{"gate": "latency"}]), NOW_MS + 6).await.unwrap();

    let registry = fixture.open_again().await;
    let waiver = |gate: &str, reason: &str, at_ms| Waiver {
        gate: gate.to_owned(),
        reason: reason.to_owned(),
        actor: "ada".to_owned(),
        at_ms,
    };
    let expected = [waiver("baseline", "small data", NOW_MS + 1), waiver("synthetic", "second", NOW_MS + 2)];
    assert_eq!(registry.waivers(&one).await.unwrap(), expected);
    let signatures = registry.signatures(&one).await.unwrap();
    let signatures: Vec<_> = signatures.iter().map(|one| (&*one.public_key, &*one.signature)).collect();
    assert_eq!(signatures, [(&b"key one"[..], &b"new"[..]), (b"key two", b"other")]);
    let judgement = registry.judgement(&one).await.unwrap().unwrap();
    assert_eq!((judgement.report, judgement.at_ms), (json!([{"gate": "latency"}]), NOW_MS + 6));

    assert_eq!(registry.waivers(&two).await.unwrap(), []);
    assert_eq!(registry.signatures(&two).await.unwrap(), []);
    assert_eq!(registry.judgement(&two).await.unwrap(), None);
    assert_eq!(registry.verify_audit().await.unwrap().fault, None);
}

#[tokio::test]
async fn a_waiver_needs_a_reason() {
    let (fixture, one, _) = fixture().await;
    for reason in ["", " \n", &"x".repeat(1001)] {
        let refused = fixture.registry.waive(&one, "synthetic", reason, NOW_MS).await.unwrap_err();
        assert!(refused.to_string().contains("expected 1 to 1000"), "{refused}");
    }
    assert_eq!(fixture.registry.waivers(&one).await.unwrap(), []);
}

#[tokio::test]
async fn what_was_altered_is_named_and_counts_for_nothing() {
    let (fixture, one, _) = fixture().await;
    let registry = &fixture.registry;
    registry.waive(&one, "latency", "an old machine", NOW_MS).await.unwrap();
    registry.add_signature(&one, b"key", b"signature", NOW_MS).await.unwrap();
    let options = SqliteConnectOptions::new().filename(fixture.dir.path().join("registry.db"));
    let shell = SqlitePool::connect_with(options).await.unwrap();
    let sql = "DROP TRIGGER audit_rows_never_change; \
               UPDATE audit SET detail = replace(detail, 'latency', 'synthetic') WHERE action = 'waive'; \
               UPDATE audit SET detail = replace(detail, 'signature', 'public_key') WHERE action = 'sign'";
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&shell).await.unwrap();
    let named = |error: RegistryError, action: &str| {
        assert!(matches!(error, RegistryError::Tampered { .. }), "{error:?}");
        let words = format!("of the audit log, which says `{action}` of it, was altered");
        assert!(error.to_string().contains(&words), "{error}");
    };
    named(registry.waivers(&one).await.unwrap_err(), "waive");
    named(registry.signatures(&one).await.unwrap_err(), "sign");
}
