//! A store that is not what it was.

use ev_models_core::Digest;
use ev_registry::{RegistryError, VersionRecord};

use crate::support::{Fixture, GOLDEN, NOW_MS, manifest, overwrite};

async fn fixture() -> (Fixture, VersionRecord) {
    let fixture = Fixture::new().await;
    let version = import(&fixture).await;
    (fixture, version)
}

async fn import(fixture: &Fixture) -> VersionRecord {
    let files = [("model.ubj", &b"trees"[..]), ("golden/cases.json", b"{}")];
    fixture.registry.import_files(&manifest("adder", GOLDEN), files, NOW_MS).await.unwrap().version
}

#[tokio::test]
async fn a_changed_file_is_named_with_both_digests_and_repaired_by_an_import() {
    let (fixture, version) = fixture().await;
    let digest = Digest::of(b"trees");
    for content in [&b"treez"[..], b"tree", b"", b"trees and more"] {
        overwrite(&fixture.place(&digest), content);
        let error = fixture.registry.fetch(&version).await.unwrap_err();
        let RegistryError::Corrupt { file, expected, found } = &error else { panic!("{error}") };
        assert_eq!((file.as_str(), *expected, *found), ("model.ubj", digest, Digest::of(content)));

        let checks = fixture.registry.verify_files(&version).await;
        let failed: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
        assert_eq!((checks.len(), failed.len()), (4, 1));
        assert_eq!(failed[0].name, "file model.ubj");
        assert_eq!(failed[0].detail, error.to_string());

        assert_eq!(import(&fixture).await, version);
        fixture.registry.fetch(&version).await.unwrap();
    }
}

#[tokio::test]
async fn a_deleted_file_is_named_and_repaired_by_an_import() {
    let (fixture, version) = fixture().await;
    let digest = Digest::of(b"trees");
    fs_err::remove_file(fixture.place(&digest)).unwrap();
    let error = fixture.registry.fetch(&version).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Lost { file, expected } if file == "model.ubj" && *expected == digest));
    assert_eq!(import(&fixture).await, version);
    fixture.registry.fetch(&version).await.unwrap();
}

#[tokio::test]
async fn a_changed_manifest_is_found_and_repaired_by_an_import() {
    let (fixture, version) = fixture().await;
    for content in [&b"{}"[..], b"", &[0xff; 5 << 20]] {
        overwrite(&fixture.place(&version.digest), content);
        let error = fixture.registry.manifest(&version).await.unwrap_err();
        assert!(matches!(&error, RegistryError::Corrupt { file, .. } if file == "manifest"), "{error}");
        assert!(fixture.registry.fetch(&version).await.is_err());
        let checks = fixture.registry.verify_files(&version).await;
        assert_eq!((checks.len(), checks[1].name.as_str(), checks[1].ok), (2, "manifest", false));
        assert_eq!(import(&fixture).await, version);
        fixture.registry.fetch(&version).await.unwrap();
    }
}

#[tokio::test]
async fn a_directory_in_a_files_place_is_an_error_not_a_panic() {
    let (fixture, version) = fixture().await;
    let place = fixture.place(&Digest::of(b"trees"));
    fs_err::remove_file(&place).unwrap();
    fs_err::create_dir(&place).unwrap();
    assert!(matches!(fixture.registry.fetch(&version).await, Err(RegistryError::Storage { .. })));
    let checks = fixture.registry.verify_files(&version).await;
    assert!(checks.iter().any(|check| !check.ok));
}
