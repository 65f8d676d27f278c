//! Versions that come piece by piece.

use bytes::Bytes;
use ev_registry::{Limits, RegistryError, VersionChoice};

use crate::support::{Fixture, GOLDEN, NOW_MS, listed, manifest};

const fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn pieces_become_a_version_only_at_the_end() {
    let fixture = Fixture::new().await;
    let mut upload = fixture.registry.begin_upload(&manifest("adder", GOLDEN)).await.unwrap();
    for (path, piece) in
        [("model.ubj", "tr"), ("model.ubj", "ees"), ("golden/cases.json", ""), ("README.md", "# "), ("README.md", "A")]
    {
        upload.write(path, bytes(piece)).await.unwrap();
    }
    assert!(fixture.registry.get("adder", &VersionChoice::Number(1)).await.is_err());
    assert!(fixture.stored().is_empty());
    let imported = upload.finish(NOW_MS).await.unwrap();
    assert!(imported.created && fixture.staged().is_empty());

    let files = [("model.ubj", &b"trees"[..]), ("golden/cases.json", b""), ("README.md", b"# A")];
    let again = fixture.registry.import_files(&manifest("adder", GOLDEN), files, NOW_MS).await.unwrap();
    assert_eq!((again.created, again.version), (false, imported.version));
}

#[tokio::test]
async fn a_dropped_upload_leaves_nothing() {
    let fixture = Fixture::new().await;
    let mut upload = fixture.registry.begin_upload(&manifest("adder", GOLDEN)).await.unwrap();
    upload.write("golden/cases.json", bytes("{}")).await.unwrap();
    upload.write("model.ubj", bytes("tr")).await.unwrap();
    assert_eq!(fixture.staged().len(), 2);
    drop(upload);
    assert!(fixture.staged().is_empty() && fixture.stored().is_empty());
    assert!(fixture.registry.list_models(&ev_registry::Page::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn every_mistake_is_named_and_ends_the_upload() {
    let limits = Limits { max_file_bytes: 8, max_total_bytes: 12, max_files: 3 };
    let fixture = Fixture::with_limits(limits).await;
    let check = async |rest: &str, pieces: &[(&str, &'static str)], expected: &str| {
        let mut upload = fixture.registry.begin_upload(&manifest("adder", rest)).await.unwrap();
        let (last, good) = pieces.split_last().unwrap();
        for (path, piece) in good {
            upload.write(path, bytes(piece)).await.unwrap();
        }
        let error = upload.write(last.0, bytes(last.1)).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        // Nothing that comes after makes it good again.
        let after = upload.write("model.ubj", bytes("x")).await.unwrap_err();
        assert!(matches!(after, RegistryError::UploadFailed));
        assert!(matches!(upload.finish(NOW_MS).await, Err(RegistryError::UploadFailed)));
        assert!(fixture.staged().is_empty() && fixture.stored().is_empty());
    };
    check("", &[("other", "")], "`other` is not named by the manifest").await;
    check("", &[("../model.ubj", "")], "`../model.ubj` is not named by the manifest").await;
    check(
        GOLDEN,
        &[("model.ubj", "a"), ("golden/cases.json", "b"), ("model.ubj", "c")],
        "`model.ubj` goes on after it ended; the pieces of a file come in order and together",
    )
    .await;
    check("", &[("model.ubj", "12345678"), ("model.ubj", "9")], "`model.ubj` has more than 8 bytes").await;
    check(GOLDEN, &[("model.ubj", "12345678"), ("golden/cases.json", "12345")], "the version has more than 12 bytes")
        .await;
    check(
        &listed("model.ubj", b"1234"),
        &[("model.ubj", "1234"), ("model.ubj", "5")],
        "`model.ubj` has 5 bytes, its manifest says 4",
    )
    .await;
}

#[tokio::test]
async fn the_end_refuses_what_is_missing_short_or_different() {
    let fixture = Fixture::new().await;
    let finish = async |rest: &str, pieces: &[(&str, &'static str)]| {
        let mut upload = fixture.registry.begin_upload(&manifest("adder", rest)).await.unwrap();
        for (path, piece) in pieces {
            upload.write(path, bytes(piece)).await.unwrap();
        }
        upload.finish(NOW_MS).await.unwrap_err()
    };
    let error = finish(GOLDEN, &[("model.ubj", "trees")]).await;
    assert!(matches!(&error, RegistryError::MissingFile { file } if file == "golden/cases.json"), "{error}");
    let error = finish("", &[]).await;
    assert!(matches!(&error, RegistryError::MissingFile { file } if file == "model.ubj"), "{error}");
    let list = listed("model.ubj", b"trees");
    let error = finish(&list, &[("model.ubj", "tree")]).await;
    assert!(matches!(error, RegistryError::SizeMismatch { expected: 5, found: 4, .. }), "{error}");
    let error = finish(&list, &[("model.ubj", "treez")]).await;
    assert!(matches!(error, RegistryError::DigestMismatch { .. }), "{error}");
    assert!(fixture.staged().is_empty() && fixture.stored().is_empty());
}

#[tokio::test]
async fn a_bad_manifest_begins_no_upload() {
    let fixture = Fixture::new().await;
    for text in ["", "not toml", &manifest("Bad Name", ""), &"x".repeat(5 << 20)] {
        let error = fixture.registry.begin_upload(text).await.unwrap_err();
        assert!(matches!(error, RegistryError::InvalidManifest(_)), "{error}");
    }
}
