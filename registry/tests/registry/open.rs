//! Directories that are no registries.

use std::path::Path;

use ev_registry::{AliasChange, ExpectedVersion, Registry, RegistryConfig, RegistryError, VersionChoice};

use crate::support::{Fixture, NOW_MS, manifest};

async fn refused(directory: &Path) -> RegistryError {
    Registry::open(&RegistryConfig::new(directory)).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs_err::write(&file, "").unwrap();
    // Not even root can make these.
    for directory in [file.clone(), file.join("below"), Path::new("/proc/evserve").to_owned()] {
        let error = refused(&directory).await;
        let RegistryError::NotWritable { path, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*path, directory);
        assert!(error.to_string().contains(&directory.display().to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_file_where_the_store_has_a_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("artifacts"), "").unwrap();
    let error = refused(dir.path()).await;
    assert!(matches!(&error, RegistryError::NotWritable { path, .. } if path.starts_with(dir.path())), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("registry.db"), "not a database, but long enough to have a header".repeat(10))
        .unwrap();
    assert!(matches!(refused(dir.path()).await, RegistryError::Storage { .. }));
}

#[tokio::test]
async fn a_database_that_was_tampered_with_is_an_error() {
    let fixture = Fixture::new().await;
    fixture.registry.import_files(&manifest("adder", ""), [("model.ubj", "trees")], NOW_MS).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(fixture.dir.path().join("registry.db"));
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("UPDATE versions SET digest = 'sha256:zz'").execute(&pool).await.unwrap();
    let found = fixture.registry.get("adder", &VersionChoice::Number(1)).await;
    assert!(matches!(found, Err(RegistryError::Malformed { .. })), "{found:?}");
}

#[tokio::test]
async fn names_that_are_no_aliases_are_refused_or_not_found() {
    let fixture = Fixture::new().await;
    fixture.registry.import_files(&manifest("adder", ""), [("model.ubj", "trees")], NOW_MS).await.unwrap();
    for alias in ["", "1", "Production", "a b", &"a".repeat(1 << 20)] {
        let moved =
            fixture.registry.move_alias(&AliasChange::set("adder", alias, 1, ExpectedVersion::Any), NOW_MS).await;
        assert!(matches!(moved, Err(RegistryError::InvalidAlias { .. })), "{moved:?}");
        let error = fixture.registry.get("adder", &VersionChoice::Alias(alias.to_owned())).await.unwrap_err();
        assert!(matches!(error, RegistryError::NotFound { .. }) && error.to_string().len() < 200);
    }
}
