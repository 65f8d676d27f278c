//! Versions that come whole.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use ev_registry::{Bundle, Limits, RegistryError, VersionChoice};

use crate::support::{Fixture, GOLDEN, NOW_MS, listed, manifest, manifest_with_head, source};

#[tokio::test]
async fn a_directory_becomes_a_version_with_every_file_listed() {
    let fixture = Fixture::new().await;
    let dir = source(
        &manifest("adder", GOLDEN),
        &[("model.ubj", "trees"), ("golden/cases.json", "{}"), ("README.md", "# Adder"), ("train.py", "not ours")],
    );
    let imported = fixture.registry.import_dir(dir.path(), NOW_MS).await.unwrap();
    assert!(imported.created);
    let version = imported.version;
    assert_eq!((version.model.as_str(), version.version, version.created_at_ms), ("adder", 1, NOW_MS));
    assert_eq!((version.task.as_str(), version.backend.as_str(), version.size_bytes), ("generic", "forest", 14));
    assert!(version.aliases.is_empty());

    let stored = fixture.registry.manifest(&version).await.unwrap();
    assert_eq!(stored.digest(), version.digest);
    let paths: Vec<&str> = stored.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["README.md", "golden/cases.json", "model.ubj"]);

    let files = fixture.registry.fetch(&version).await.unwrap();
    assert_eq!(fs_err::read(files.path("model.ubj").unwrap()).unwrap(), b"trees");
    assert_eq!(files.iter().count(), 3);
    for (_, place) in files.iter() {
        assert_eq!(fs_err::metadata(place).unwrap().permissions().mode() & 0o222, 0, "read-only");
    }
    assert!(fixture.registry.verify_files(&version).await.iter().all(|check| check.ok));
    assert!(fixture.staged().is_empty());
}

#[tokio::test]
async fn the_same_content_is_the_same_version_however_it_comes() {
    let fixture = Fixture::new().await;
    let plain = manifest("adder", "");
    let dir = source(&plain, &[("model.ubj", "trees"), ("README.md", "# Adder")]);
    let first = fixture.registry.import_dir(dir.path(), NOW_MS).await.unwrap();

    let again = fixture.registry.import_dir(dir.path(), NOW_MS + 1).await.unwrap();
    assert!(!again.created);
    assert_eq!(again.version, first.version);

    let files = [("README.md", &b"# Adder"[..]), ("model.ubj", b"trees")];
    let again = fixture.registry.import_files(&plain, files, NOW_MS + 1).await.unwrap();
    assert_eq!((again.created, &again.version), (false, &first.version));

    let full = manifest("adder", &(listed("model.ubj", b"trees") + &listed("README.md", b"# Adder")));
    let again = fixture.registry.import_files(&full, files, NOW_MS + 1).await.unwrap();
    assert_eq!((again.created, &again.version), (false, &first.version));

    let other = fixture.registry.import_files(&plain, [files[1]], NOW_MS).await.unwrap();
    assert_eq!((other.created, other.version.version), (true, 2), "without its card it is another version");
}

#[tokio::test]
async fn a_listed_file_must_be_what_is_listed() {
    let fixture = Fixture::new().await;
    let dir = |rest: &str| source(&manifest("adder", rest), &[("model.ubj", "trees")]);
    let wrong = dir(&listed("model.ubj", b"other"));
    let error = fixture.registry.import_dir(wrong.path(), NOW_MS).await.unwrap_err();
    assert!(matches!(&error, RegistryError::DigestMismatch { file, .. } if file == "model.ubj"), "{error}");
    let long = dir(&listed("model.ubj", b"longer"));
    let error = fixture.registry.import_dir(long.path(), NOW_MS).await.unwrap_err();
    assert!(matches!(error, RegistryError::SizeMismatch { expected: 6, found: 5, .. }), "{error}");
    let absent = dir(&listed("more.txt", b""));
    let error = fixture.registry.import_dir(absent.path(), NOW_MS).await.unwrap_err();
    assert!(matches!(&error, RegistryError::MissingFile { file } if file == "more.txt"), "{error}");
    assert!(fixture.staged().is_empty() && fixture.stored().is_empty());
}

#[tokio::test]
async fn links_and_what_is_no_file_are_refused() {
    let fixture = Fixture::new().await;
    let secret = source("", &[("secret", "secret"), ("deep/secret", "secret")]);
    let refused = async |dir: &tempfile::TempDir| {
        let error = fixture.registry.import_dir(dir.path(), NOW_MS).await.unwrap_err();
        let RegistryError::RefusedFile { file, .. } = error else { panic!("{error}") };
        file
    };

    let dir = source(&manifest("adder", ""), &[]);
    symlink(secret.path().join("secret"), dir.path().join("model.ubj")).unwrap();
    assert_eq!(refused(&dir).await, "model.ubj");

    let dir = source(&manifest_with_head("adder", "deep/secret", ""), &[]);
    symlink(secret.path().join("deep"), dir.path().join("deep")).unwrap();
    assert_eq!(refused(&dir).await, "deep/secret");

    let dir = source(&manifest("adder", ""), &[("model.ubj", "trees")]);
    symlink(secret.path().join("secret"), dir.path().join("README.md")).unwrap();
    assert_eq!(refused(&dir).await, "README.md");

    let dir = source(&manifest("adder", ""), &[("model.ubj/inner", "")]);
    assert_eq!(refused(&dir).await, "model.ubj");

    let dir = source(&manifest("adder", ""), &[]);
    let socket = std::os::unix::net::UnixListener::bind(dir.path().join("model.ubj")).unwrap();
    assert_eq!(refused(&dir).await, "model.ubj");
    drop(socket);

    let dir = tempfile::tempdir().unwrap();
    symlink(secret.path().join("secret"), dir.path().join("manifest.toml")).unwrap();
    assert_eq!(refused(&dir).await, "manifest.toml");
}

#[tokio::test]
async fn paths_out_of_the_directory_and_pickles_are_refused() {
    let fixture = Fixture::new().await;
    for head in ["../model.ubj", "/etc/passwd", "a/../../b", "a//b", ".", "", "model.pkl"] {
        let dir = source(&manifest_with_head("adder", head, ""), &[]);
        let error = fixture.registry.import_dir(dir.path(), NOW_MS).await.unwrap_err();
        assert!(matches!(error, RegistryError::InvalidManifest(_)), "{head}: {error}");
    }
}

#[tokio::test]
async fn a_directory_without_a_manifest_says_so() {
    let fixture = Fixture::new().await;
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("nowhere")] {
        let error = fixture.registry.import_dir(&path, NOW_MS).await.unwrap_err();
        assert!(matches!(&error, RegistryError::NotFound { what } if what.contains("manifest.toml")), "{error}");
    }
    fs_err::write(dir.path().join("manifest.toml"), [0xff, 0xfe]).unwrap();
    let error = fixture.registry.import_dir(dir.path(), NOW_MS).await.unwrap_err();
    assert!(matches!(error, RegistryError::InvalidManifest(_)), "{error}");
}

#[tokio::test]
async fn limits_hold() {
    let limits = Limits { max_file_bytes: 8, max_total_bytes: 12, max_files: 2 };
    let fixture = Fixture::with_limits(limits).await;
    let import = async |manifest: String, files: &[(&str, &str)]| {
        let dir = source(&manifest, files);
        let from_dir = fixture.registry.import_dir(dir.path(), NOW_MS).await.unwrap_err();
        let files: Vec<_> = files.iter().map(|(path, content)| (*path, content.as_bytes().to_vec())).collect();
        let from_memory = fixture.registry.import_files(&manifest, files, NOW_MS).await.unwrap_err();
        assert_eq!(from_dir.to_string(), from_memory.to_string());
        from_dir.to_string()
    };
    let two = [("model.ubj", "12345678"), ("golden/cases.json", "12345")];
    assert_eq!(import(manifest("a", ""), &[("model.ubj", "123456789")]).await, "`model.ubj` has more than 8 bytes");
    assert_eq!(import(manifest("a", GOLDEN), &two).await, "the version has more than 12 bytes");
    let three = manifest("a", &(GOLDEN.to_owned() + "\n" + &listed("more", b"")));
    assert_eq!(import(three, &two).await, "the manifest names 3 files, expected at most 2");
    let huge = manifest("a", &listed("model.ubj", b"").replace("size = 0", "size = 4000000000000000000"));
    assert_eq!(import(huge, &[]).await, "`model.ubj` has more than 8 bytes");
    assert!(fixture.stored().is_empty() && fixture.staged().is_empty());
}

#[tokio::test]
async fn files_in_memory_must_be_those_the_manifest_names() {
    let fixture = Fixture::new().await;
    let plain = manifest("adder", "");
    let import = async |files: &[(&'static str, &'static str)]| {
        fixture.registry.import_files(&plain, files.iter().copied(), NOW_MS).await.unwrap_err()
    };
    let error = import(&[]).await;
    assert!(matches!(&error, RegistryError::MissingFile { file } if file == "model.ubj"), "{error}");
    let error = import(&[("model.ubj", "trees"), ("more", "")]).await;
    assert!(matches!(&error, RegistryError::UnknownFile { file } if file == "more"), "{error}");
    let error = import(&[("model.ubj", "trees"), ("model.ubj", "trees")]).await;
    assert!(matches!(&error, RegistryError::OutOfOrder { file } if file == "model.ubj"), "{error}");
}

#[tokio::test]
async fn bundles_are_registered_all_or_none() {
    let fixture = Fixture::new().await;
    let bundle = |name: &str| Bundle::new(manifest(name, ""), [("model.ubj", name.to_owned())]);
    let bad = Bundle::new(manifest("bad", ""), [("other", "")]);
    fixture.registry.import_bundles(vec![bundle("a"), bad], NOW_MS).await.unwrap_err();
    assert!(fixture.registry.get("a", &VersionChoice::Number(1)).await.is_err());
    let imported = fixture.registry.import_bundles(vec![bundle("b"), bundle("a"), bundle("b")], NOW_MS).await.unwrap();
    let seen: Vec<_> = imported.iter().map(|done| (done.version.model.as_str(), done.created)).collect();
    assert_eq!(seen, [("b", true), ("a", true), ("b", false)]);
}
