//! Versions that come over several connections.

use bytes::Bytes;
use ev_models_core::{Digest, manifest::FileEntry};
use ev_registry::{Imported, Registry, RegistryConfig, RegistryError, ResumableUpload, StagedLimits, Swept};

use crate::support::{Fixture, GOLDEN, NOW_MS, listed, manifest, overwrite};

/// Later than anything that the tests write, by the clock of the file system.
const LATER_MS: i64 = 32_503_680_000_000;

fn entry(path: &str, content: &[u8]) -> FileEntry {
    FileEntry { path: path.to_owned(), sha256: Digest::of(content), size: content.len() as u64 }
}

fn noise(random: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
    // Begins as no pickle and no archive does.
    [b"model".to_vec(), (0..bytes).map(|_| random.u8(..)).collect()].concat()
}

async fn begin(registry: &Registry, files: &[(&str, &[u8])]) -> Result<ResumableUpload, RegistryError> {
    let entries = files.iter().map(|(path, content)| entry(path, content)).collect();
    registry.resume_upload(&manifest("adder", ""), entries, NOW_MS).await
}

/// Sends what is not there, as a client does.
async fn finish(registry: &Registry, files: &[(&str, &[u8])]) -> Result<Imported, RegistryError> {
    let entries: Vec<FileEntry> = files.iter().map(|(path, content)| entry(path, content)).collect();
    let received = registry.received(&entries).await?;
    let mut upload = begin(registry, files).await?;
    for ((path, content), received) in files.iter().zip(received) {
        let rest = &content[usize::try_from(received).unwrap()..];
        upload.write(path, received, Bytes::copy_from_slice(rest)).await?;
    }
    upload.finish(NOW_MS).await
}

fn partials(fixture: &Fixture) -> usize {
    let files = crate::support::files_below(&fixture.dir.path().join("artifacts/partial"));
    files.iter().filter(|path| !path.ends_with("lock")).count()
}

#[tokio::test]
async fn an_upload_cut_off_anywhere_goes_on_from_there() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20 {
        let fixture = Fixture::new().await;
        let (model, card) = (noise(&mut random, 5_000), noise(&mut random, 300));
        let files = [("model.ubj", &model[..]), ("README.md", &card[..])];
        let entries = files.map(|(path, content)| entry(path, content));
        let mut last = 0;
        loop {
            // Another process, as after a death.
            let registry = fixture.open_again().await;
            let received = registry.received(&entries).await.unwrap();
            let sum = received.iter().sum();
            assert!(sum >= last, "what had come is there");
            last = sum;
            let mut upload = begin(&registry, &files).await.unwrap();
            let mut until_cut = random.usize(..3_000);
            let mut cut = false;
            for ((path, content), received) in files.iter().zip(received) {
                let mut at = usize::try_from(received).unwrap();
                while at < content.len() && !cut {
                    let count = random.usize(1..=700).min(content.len() - at).min(until_cut);
                    cut = count == 0;
                    let piece = Bytes::copy_from_slice(&content[at..at + count]);
                    upload.write(path, at as u64, piece).await.unwrap();
                    (at, until_cut) = (at + count, until_cut - count);
                }
            }
            if !cut {
                let imported = upload.finish(NOW_MS).await.unwrap();
                assert!(imported.created);
                let stored = registry.fetch(&imported.version).await.unwrap();
                assert_eq!(fs_err::read(stored.path("model.ubj").unwrap()).unwrap(), model);
                assert_eq!(fs_err::read(stored.path("README.md").unwrap()).unwrap(), card);
                break;
            }
        }
        assert_eq!((partials(&fixture), fixture.staged().len()), (0, 0));
    }
}

#[tokio::test]
async fn what_came_otherwise_is_the_same_version_and_is_not_sent_again() {
    let fixture = Fixture::new().await;
    let files = [("model.ubj", &b"trees"[..])];
    let first = fixture.registry.import_files(&manifest("adder", ""), files, NOW_MS).await.unwrap();
    let received = fixture.registry.received(&[entry("model.ubj", b"trees"), entry("x", b"other")]).await.unwrap();
    assert_eq!(received, [5, 0]);
    let upload = begin(&fixture.registry, &files).await.unwrap();
    let again = upload.finish(NOW_MS).await.unwrap();
    assert_eq!((again.created, again.version), (false, first.version));
    assert_eq!(partials(&fixture), 0);
}

#[tokio::test]
async fn two_that_send_the_same_help_each_other() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..10 {
        let fixture = Fixture::new().await;
        let model = noise(&mut random, 20_000);
        let files = [("model.ubj", &model[..])];
        let other = fixture.open_again().await;
        let mut uploads = [begin(&fixture.registry, &files).await.unwrap(), begin(&other, &files).await.unwrap()];
        let mut at = [0, 0];
        while at.iter().any(|at| *at < model.len()) {
            let who = random.usize(..2);
            let end = (at[who] + random.usize(1..2_000)).min(model.len());
            let piece = Bytes::copy_from_slice(&model[at[who]..end]);
            uploads[who].write("model.ubj", at[who] as u64, piece).await.unwrap();
            at[who] = end;
        }
        let [one, two] = uploads;
        let (one, two) = tokio::join!(one.finish(NOW_MS), two.finish(NOW_MS));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.version, two.version);
        assert!(one.created != two.created, "one of them registered it");
        fixture.registry.fetch(&one.version).await.unwrap();
        assert_eq!(partials(&fixture), 0);
    }
}

#[tokio::test]
async fn one_that_sends_on_after_another_has_finished_is_no_fault() {
    let fixture = Fixture::new().await;
    let files = [("model.ubj", &b"trees"[..])];
    let mut slow = begin(&fixture.registry, &files).await.unwrap();
    slow.write("model.ubj", 0, Bytes::from_static(b"tr")).await.unwrap();
    let first = finish(&fixture.registry, &files).await.unwrap();
    slow.write("model.ubj", 2, Bytes::from_static(b"ees")).await.unwrap();
    let second = slow.finish(NOW_MS).await.unwrap();
    assert_eq!((first.created, second.created, first.version), (true, false, second.version));
}

#[tokio::test]
async fn lies_about_digest_and_size_are_found_and_leave_nothing() {
    let fixture = Fixture::new().await;
    let files = [("model.ubj", &b"trees"[..])];
    let mut upload = begin(&fixture.registry, &files).await.unwrap();
    upload.write("model.ubj", 0, Bytes::from_static(b"wr")).await.unwrap();
    let error = upload.write("model.ubj", 2, Bytes::from_static(b"ong")).await.unwrap_err();
    assert!(matches!(&error, RegistryError::DigestMismatch { file, .. } if file == "model.ubj"), "{error}");
    assert!(matches!(upload.finish(NOW_MS).await, Err(RegistryError::UploadFailed)));
    assert_eq!(partials(&fixture), 0);

    let mut upload = begin(&fixture.registry, &files).await.unwrap();
    let error = upload.write("model.ubj", 0, Bytes::from_static(b"treess")).await.unwrap_err();
    assert!(matches!(error, RegistryError::SizeMismatch { expected: 5, found: 6, .. }), "{error}");
    let mut upload = begin(&fixture.registry, &files).await.unwrap();
    let error = upload.write("model.ubj", u64::MAX, Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(error, RegistryError::SizeMismatch { .. }), "{error}");
    let mut upload = begin(&fixture.registry, &files).await.unwrap();
    let error = upload.write("model.ubj", 3, Bytes::from_static(b"es")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Gap { received: 0, expected: 3, .. }), "{error}");
    let mut upload = begin(&fixture.registry, &files).await.unwrap();
    upload.write("model.ubj", 0, Bytes::from_static(b"tree")).await.unwrap();
    let error = upload.finish(NOW_MS).await.unwrap_err();
    assert!(matches!(error, RegistryError::Gap { received: 4, expected: 5, .. }), "{error}");
    assert!(fixture.stored().is_empty());

    finish(&fixture.registry, &files).await.unwrap();
}

#[tokio::test]
async fn what_is_said_of_files_is_held_against_manifest_and_limits_before_any_come() {
    let fixture = Fixture::new().await;
    let check = async |rest: &str, files: &[FileEntry], expected: &str| {
        let refused = fixture.registry.resume_upload(&manifest("adder", rest), files.to_vec(), NOW_MS).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}, expected {expected}");
        assert_eq!(partials(&fixture), 0);
    };
    let model = entry("model.ubj", b"trees");
    let huge = FileEntry { size: 10 << 30, ..model.clone() };
    check("", &[], "`model.ubj` is named by the manifest and missing").await;
    check("", &[model.clone(), model.clone()], "`model.ubj` goes on after it ended").await;
    check("", &[model.clone(), entry("../x", b"")], "`../x` is not named by the manifest").await;
    check("", &[huge], "`model.ubj` has more than 536870912 bytes").await;
    check(&listed("model.ubj", b"other"), std::slice::from_ref(&model), "`model.ubj` has the digest").await;
    check(
        &listed("model.ubj", b"longer"),
        std::slice::from_ref(&model),
        "`model.ubj` has 5 bytes, its manifest says 6",
    )
    .await;
    check(GOLDEN, &[model], "`golden/cases.json` is named by the manifest and missing").await;
}

#[tokio::test]
async fn uploads_that_have_not_ended_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let staged = StagedLimits { max_bytes: 100, max_files: 3 };
    let config = RegistryConfig { staged, ..RegistryConfig::new(dir.path()) };
    let registry = Registry::open(&config).await.unwrap();
    let begin_at = async |content: &[u8], now_ms| {
        registry.resume_upload(&manifest("adder", ""), vec![entry("model.ubj", content)], now_ms).await.map(|_| ())
    };
    begin_at(&[b'a'; 60], NOW_MS).await.unwrap();
    // The same content takes no more room.
    begin_at(&[b'a'; 60], NOW_MS).await.unwrap();
    let error = begin_at(&[b'b'; 60], NOW_MS).await.unwrap_err();
    assert!(matches!(error, RegistryError::StagingFull { what: "bytes", max: 100 }), "{error}");
    begin_at(b"1", NOW_MS).await.unwrap();
    begin_at(b"2", NOW_MS).await.unwrap();
    let error = begin_at(b"3", NOW_MS).await.unwrap_err();
    assert!(matches!(error, RegistryError::StagingFull { what: "files", max: 3 }), "{error}");

    registry.count_staged().await.unwrap();
    let counts = registry.staged_counts();
    assert_eq!((counts.files(), counts.bytes()), (3, 62));
    assert_eq!((counts.swept(Swept::Displaced), counts.swept(Swept::GivenUp)), (0, 0));

    // Long after the last byte came, what has stopped makes room, the oldest first.
    begin_at(&[b'b'; 60], LATER_MS).await.unwrap();
    let received = registry.received(&[entry("a", &[b'a'; 60]), entry("b", &[b'b'; 60])]).await.unwrap();
    assert_eq!(received, [0, 0]);
    let count = || fs_err::read_dir(dir.path().join("artifacts/partial")).unwrap().count() - 1;
    assert!(count() <= 3, "{}", count());
    let displaced = counts.swept(Swept::Displaced);
    assert!(displaced > 0);
    assert_eq!(counts.files() + displaced, 4, "the three of before, and this one");

    assert_eq!(registry.sweep_uploads(NOW_MS).await.unwrap().files, 0, "written after that");
    let swept = registry.sweep_uploads(LATER_MS).await.unwrap();
    assert!(swept.files > 0 && swept.bytes >= 60, "{swept:?}");
    assert_eq!(count(), 0);
    assert_eq!((counts.swept(Swept::Displaced), counts.swept(Swept::GivenUp)), (displaced, swept.files));
    registry.count_staged().await.unwrap();
    assert_eq!((counts.files(), counts.bytes()), (0, 0));
    assert_eq!(counts.resumed(), 0, "no byte had come of any");
}

#[tokio::test]
async fn uploads_that_go_on_are_counted() {
    let fixture = Fixture::new().await;
    let files = [("model.ubj", &b"trees"[..])];
    let counts = fixture.registry.staged_counts();
    drop(begin(&fixture.registry, &files).await.unwrap());
    let mut upload = begin(&fixture.registry, &files).await.unwrap();
    assert_eq!((counts.resumed(), counts.files(), counts.bytes()), (0, 1, 5), "nothing had come");
    upload.write("model.ubj", 0, Bytes::from_static(b"tr")).await.unwrap();
    drop(upload);
    finish(&fixture.registry, &files).await.unwrap();
    assert_eq!(counts.resumed(), 1);
    // What is stored is no upload.
    drop(begin(&fixture.registry, &files).await.unwrap());
    fixture.registry.count_staged().await.unwrap();
    assert_eq!((counts.resumed(), counts.files(), counts.bytes()), (1, 0, 0));
}

#[tokio::test]
async fn a_swept_upload_is_told_and_begins_again() {
    let fixture = Fixture::new().await;
    let files = [("model.ubj", &b"trees"[..])];
    let mut upload = begin(&fixture.registry, &files).await.unwrap();
    upload.write("model.ubj", 0, Bytes::from_static(b"tr")).await.unwrap();
    fixture.registry.sweep_uploads(LATER_MS).await.unwrap();
    let error = upload.write("model.ubj", 2, Bytes::from_static(b"ees")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Gap { received: 0, .. }), "{error}");
    finish(&fixture.registry, &files).await.unwrap();
}

#[tokio::test]
async fn a_corrupt_file_of_the_store_is_put_right() {
    let fixture = Fixture::new().await;
    let files = [("model.ubj", &b"trees"[..])];
    let version = finish(&fixture.registry, &files).await.unwrap().version;
    overwrite(&fixture.place(&Digest::of(b"trees")), b"treez");
    fixture.registry.fetch(&version).await.unwrap_err();
    // The first question is answered without reading; the upload reads, and the second question tells.
    let error = finish(&fixture.registry, &files).await.unwrap_err();
    assert!(matches!(error, RegistryError::Gap { received: 0, expected: 5, .. }), "{error}");
    let again = finish(&fixture.registry, &files).await.unwrap();
    assert_eq!((again.created, again.version.version), (false, version.version));
    fixture.registry.fetch(&version).await.unwrap();
}

#[tokio::test]
async fn a_stored_file_is_read_only_however_it_came() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::new().await;
    finish(&fixture.registry, &[("model.ubj", &b"trees"[..])]).await.unwrap();
    for place in fixture.stored() {
        assert_eq!(fs_err::metadata(place).unwrap().permissions().mode() & 0o222, 0);
    }
}
