//! A log, a database, or both, that somebody has changed.

use ev_models_core::Digest;
use ev_registry::{
    AliasChange, AuditEntry, ExpectedVersion, Page, Registry, RegistryError, VersionChoice, VersionRecord,
};
use sqlx::{AssertSqlSafe, SqlitePool, sqlite::SqliteConnectOptions};

use crate::support::{Fixture, NOW_MS, manifest};

/// Two versions, one alias moved twice, another one removed: seven rows.
async fn fixture() -> Fixture {
    let fixture = Fixture::new().await;
    let registry = fixture.registry.on_behalf_of("tester");
    for content in ["one", "two"] {
        registry.import_files(&manifest("adder", ""), [("model.ubj", content)], NOW_MS).await.unwrap();
    }
    for (step, change) in [
        AliasChange::set("adder", "production", 1, ExpectedVersion::Absent),
        AliasChange::set("adder", "canary", 2, ExpectedVersion::Absent),
        AliasChange::set("adder", "production", 2, ExpectedVersion::Is(1)),
        AliasChange::remove("adder", "canary", ExpectedVersion::Is(2)),
    ]
    .iter()
    .enumerate()
    {
        registry.move_alias(change, NOW_MS + i64::try_from(step).unwrap()).await.unwrap();
    }
    registry.record(AuditEntry::new("waive", "adder"), NOW_MS + 9).await.unwrap();
    fixture
}

/// The database as somebody with a SQL shell has it, who does not mind triggers.
async fn shell(fixture: &Fixture) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(fixture.dir.path().join("registry.db")).foreign_keys(false);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    for trigger in ["audit_rows_stay", "audit_rows_never_change"] {
        let sql = format!("DROP TRIGGER IF EXISTS {trigger}");
        sqlx::query(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    }
    pool
}

async fn fault(registry: &Registry) -> Option<(u64, String)> {
    registry.verify_audit().await.unwrap().fault.map(|fault| (fault.sequence, fault.problem))
}

async fn version(registry: &Registry, number: u32) -> VersionRecord {
    registry.get("adder", &VersionChoice::Number(number)).await.unwrap()
}

#[tokio::test]
async fn a_log_nobody_touched_is_whole() {
    let fixture = fixture().await;
    let found = fixture.registry.verify_audit().await.unwrap();
    assert_eq!((found.head.sequence, &found.fault), (7, &None));
    assert_eq!(fixture.open_again().await.verify_audit().await.unwrap(), found);
    assert_eq!(Fixture::new().await.registry.verify_audit().await.unwrap().fault, None);
}

#[tokio::test]
async fn what_was_changed_behind_its_back_is_named() {
    let check = async |sql: &str, sequence: u64, words: &str| {
        let fixture = fixture().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&shell(&fixture).await).await.unwrap();
        let found = fault(&fixture.registry).await;
        let named = found.as_ref().is_some_and(|(found, problem)| *found == sequence && problem.contains(words));
        assert!(named, "{sql}: {found:?}, expected row {sequence}: {words}");
    };
    check("UPDATE audit SET actor = 'nobody' WHERE sequence = 3", 3, "it was altered").await;
    check("UPDATE audit SET version = 2 WHERE sequence = 3", 3, "it was altered").await;
    check("UPDATE audit SET at_ms = at_ms + 1 WHERE sequence = 7", 7, "it was altered").await;
    check("DELETE FROM audit WHERE sequence = 1", 1, "it was removed, row 2 comes after row 0").await;
    check("DELETE FROM audit WHERE sequence = 4", 4, "it was removed").await;
    check("DELETE FROM audit WHERE sequence = 7", 7, "it is missing, the log has had 7 rows").await;
    check("DELETE FROM audit WHERE sequence > 2", 3, "it is missing").await;
    check("DELETE FROM audit", 1, "it is missing").await;
    // Removed, and those after it given its number.
    check(
        "DELETE FROM audit WHERE sequence = 4; UPDATE audit SET sequence = sequence - 1 WHERE sequence > 4",
        4,
        "it was altered",
    )
    .await;
    let copy = "INSERT INTO audit SELECT 8, at_ms, actor, action, model, version, alias, digest, detail, \
                previous_hash, hash FROM audit WHERE sequence = 3";
    check(copy, 8, "it was altered").await;
    check("UPDATE audit_head SET sequence = 6", 7, "it was inserted").await;
    check("UPDATE audit_head SET hash = 'sha256:00'", 7, "it is not the last row").await;
    // The log is whole, and what it tells of is not so.
    check("UPDATE aliases SET version = 1", 5, "alias `production` of model `adder` points at version 1").await;
    check("DELETE FROM aliases", 5, "alias `production` of model `adder` is gone").await;
    check("INSERT INTO aliases VALUES ('adder', 'x', 1)", 0, "alias `x` of model `adder`").await;
    check("DELETE FROM versions WHERE version = 1", 1, "version 1 of model `adder`, which is gone").await;
    let digest = Digest::of(b"another");
    check(&format!("UPDATE versions SET digest = '{digest}' WHERE version = 2"), 2, "it was registered with").await;
    check("INSERT INTO pins VALUES ('adder', 1, '')", 0, "is pinned, which nobody did").await;
}

#[tokio::test]
async fn a_row_with_a_hash_of_its_own_making_is_named() {
    let fixture = fixture().await;
    let pool = shell(&fixture).await;
    // Somebody knows how hashes are made: the row after the one that was written anew tells.
    let rows = fixture.registry.audit(&ev_registry::AuditQuery::after(2)).await.unwrap();
    let other = Fixture::new().await;
    other.registry.record(AuditEntry::new("waive", "adder"), NOW_MS).await.unwrap();
    let forged = other.registry.audit(&ev_registry::AuditQuery::after(0)).await.unwrap();
    sqlx::query("UPDATE audit SET previous_hash = ?1, hash = ?2 WHERE sequence = 3")
        .bind(&forged[0].previous_hash)
        .bind(&rows[0].hash)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(fault(&fixture.registry).await.unwrap().0, 3);
}

#[tokio::test]
async fn rows_can_neither_be_changed_nor_removed_by_mistake() {
    let fixture = fixture().await;
    let options = SqliteConnectOptions::new().filename(fixture.dir.path().join("registry.db"));
    let pool = SqlitePool::connect_with(options).await.unwrap();
    for sql in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit WHERE sequence = 1"] {
        let refused = sqlx::query(AssertSqlSafe(sql)).execute(&pool).await.unwrap_err();
        assert!(refused.to_string().contains("the audit log is append-only"), "{refused}");
    }
}

#[tokio::test]
async fn a_version_that_is_not_the_registered_one_is_not_served() {
    let fixture = fixture().await;
    // What was registered as another version, with its files and all.
    let swap = "CREATE TEMP TABLE other AS SELECT digest FROM versions WHERE version = 1; \
                UPDATE versions SET digest = 'sha256:' || hex(zeroblob(32)) WHERE version = 1; \
                UPDATE versions SET digest = (SELECT digest FROM other) WHERE version = 2";
    sqlx::raw_sql(swap).execute(&shell(&fixture).await).await.unwrap();
    let version = version(&fixture.registry, 2).await;
    let error = fixture.registry.fetch(&version).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Tampered { version: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("row 2 of the audit log says sha256:"), "{error}");
    let checks = fixture.registry.verify_files(&version).await;
    assert_eq!((checks.len(), checks[0].name.as_str(), checks[0].ok), (1, "registration", false));
}

#[tokio::test]
async fn a_version_whose_registration_was_altered_is_not_served() {
    for (sql, words) in [
        (
            "UPDATE audit SET actor = 'nobody' WHERE sequence = 2",
            "row 2 of the audit log, which tells of it, was altered",
        ),
        ("DELETE FROM audit WHERE sequence = 2", "the audit log does not know it"),
    ] {
        let fixture = fixture().await;
        sqlx::query(AssertSqlSafe(sql)).execute(&shell(&fixture).await).await.unwrap();
        let error = fixture.registry.fetch(&version(&fixture.registry, 2).await).await.unwrap_err();
        assert!(matches!(error, RegistryError::Tampered { version: 2, .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
        fixture.registry.fetch(&version(&fixture.registry, 1).await).await.unwrap();
    }
}

#[tokio::test]
async fn what_served_on_a_date_is_known() {
    let fixture = fixture().await;
    let served = async |at_ms| {
        let rows = fixture.registry.as_of("adder", at_ms).await.unwrap();
        rows.into_iter().map(|row| (row.alias, row.version.unwrap(), row.actor)).collect::<Vec<_>>()
    };
    let row = |alias: &str, version| (alias.to_owned(), version, "tester".to_owned());
    assert_eq!(served(NOW_MS - 1).await, []);
    assert_eq!(served(NOW_MS + 1).await, [row("canary", 2), row("production", 1)]);
    assert_eq!(served(i64::MAX).await, [row("production", 2)]);
    let error = fixture.registry.as_of("nonesuch", NOW_MS).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_from_before_there_was_a_log_begins_one() {
    let fixture = fixture().await;
    fixture.registry.close().await;
    let pool = shell(&fixture).await;
    let old = "DROP TABLE audit; DROP TABLE audit_head; DROP TABLE pins; \
               DROP TABLE version_policies; DROP TABLE replicas; DROP TABLE kept_outcomes; \
               DROP TABLE rollout_observations; DROP TABLE rollouts; \
               DELETE FROM _sqlx_migrations WHERE version > 1";
    sqlx::raw_sql(old).execute(&pool).await.unwrap();
    let registry = fixture.open_again().await;
    let found = registry.verify_audit().await.unwrap();
    assert_eq!((found.head.sequence, found.fault), (3, None));
    let rows = registry.as_of("adder", NOW_MS).await.unwrap();
    assert_eq!((rows[0].alias.as_str(), rows[0].version, rows[0].actor.as_str()), ("production", Some(2), "evserve"));
    assert_eq!(rows[0].detail, r#"{"adopted":true}"#);
    for version in registry.list_versions("adder", &Page::default()).await.unwrap().items {
        registry.fetch(&version).await.unwrap();
    }
    assert_eq!(fixture.open_again().await.audit_head().await.unwrap().sequence, 3, "once");
}
