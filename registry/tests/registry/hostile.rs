//! What somebody would send who means harm: refused with the reason, before disk or memory grow.

use bytes::Bytes;
use ev_models_core::{Digest, manifest::FileEntry};
use ev_registry::{Limits, Page, RegistryError};

use crate::support::{Fixture, NOW_MS, files_below, listed, manifest, manifest_with_head, source};

const MIB: u64 = 1 << 20;
/// Of which there can be no directory.
const FOLDER: &str = "which is a file";

/// Bytes on disk of everything that was not there when the registry was opened.
fn grown(fixture: &Fixture) -> u64 {
    let artifacts = fixture.dir.path().join("artifacts");
    files_below(&artifacts).iter().map(|path| fs_err::metadata(path).unwrap().len()).sum()
}

fn entry(path: &str, content: &[u8]) -> FileEntry {
    FileEntry { path: path.to_owned(), sha256: Digest::of(content), size: content.len() as u64 }
}

fn chain(error: &RegistryError) -> String {
    let sources = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Sends a version in every way there is; each refuses it, says `expected`, and leaves nothing.
async fn refused(manifest_toml: &str, files: &[(&str, &[u8])], expected: &str) {
    let fixture = Fixture::with_limits(Limits { max_file_bytes: MIB, max_total_bytes: 2 * MIB, max_files: 8 }).await;
    let registry = &fixture.registry;
    let check = |way: &str, error: RegistryError| {
        let said = chain(&error);
        assert!(said.contains(expected), "{way}: {said:?}, expected {expected:?}");
        assert_eq!(grown(&fixture), 0, "{way}: {said}");
    };

    let in_memory = files.iter().map(|(path, content)| (*path, content.to_vec()));
    check("in memory", registry.import_files(manifest_toml, in_memory, NOW_MS).await.unwrap_err());

    let streamed = async {
        let mut upload = registry.begin_upload(manifest_toml).await?;
        for (path, content) in files {
            upload.write(path, Bytes::new()).await?;
            for piece in content.chunks(700) {
                upload.write(path, Bytes::copy_from_slice(piece)).await?;
            }
        }
        upload.finish(NOW_MS).await
    };
    check("streamed", streamed.await.unwrap_err());

    let resumed = async {
        let entries = files.iter().map(|(path, content)| entry(path, content)).collect();
        let mut upload = registry.resume_upload(manifest_toml, entries, NOW_MS).await?;
        for (path, content) in files {
            upload.write(path, 0, Bytes::copy_from_slice(content)).await?;
        }
        upload.finish(NOW_MS).await
    };
    let error = resumed.await.unwrap_err();
    // Of the other files, what has come may be gone on with.
    registry.sweep_uploads(i64::MAX).await.unwrap();
    check("resumed", error);

    // A directory has no file of the same name twice, and none that leads out of it.
    let plain = |path: &str| {
        let first = path.chars().next().is_some_and(char::is_alphabetic);
        first && path != "manifest.toml" && !path.ends_with('/') && !path.contains(['\0', '\\'])
    };
    if expected != FOLDER && files.iter().all(|(path, content)| plain(path) && std::str::from_utf8(content).is_ok()) {
        let files: Vec<_> =
            files.iter().map(|(path, content)| (*path, std::str::from_utf8(content).unwrap())).collect();
        let dir = source(manifest_toml, &files);
        if let Err(error) = registry.import_dir(dir.path(), NOW_MS).await {
            check("from a directory", error);
        } else {
            // What the manifest does not name is not looked at there.
            assert!(expected.contains("not named"), "{expected}");
        }
    }
    let listing = fixture.registry.list_models(&Page::default()).await.unwrap();
    assert!(expected.contains("not named") || listing.items.is_empty());
}

#[tokio::test]
async fn paths_that_lead_elsewhere_are_refused() {
    for head in [
        "../model.ubj",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "a/",
        ".",
        "..",
        "",
        "a\\\\b",
        "C:model.ubj",
        "a\\u0000b",
        "a b",
        "a\\nb",
        "~/model.ubj",
        "mod\u{e8}le.ubj",
        "mode\u{300}le.ubj",
        "\u{202e}jbu.ledom",
        "\u{ff0e}\u{ff0e}/x",
    ] {
        refused(&manifest_with_head("adder", head, ""), &[], "expected a relative path of letters").await;
    }
    refused(&manifest_with_head("adder", &"a".repeat(256), ""), &[], "expected a relative path of letters").await;
    let model: (&str, &[u8]) = ("model.ubj", b"trees");
    for path in
        ["../x", "/etc/passwd", "", "a\0b", "model.ubj\0", "MODEL.UBJ", "./model.ubj", "model.ubj/", "manifest.toml"]
    {
        refused(&manifest("adder", ""), &[model, (path, b"")], "is not named by the manifest").await;
    }
}

#[tokio::test]
async fn names_that_are_one_on_some_disk_are_refused() {
    let twice: [(&str, &[u8]); 2] = [("model.ubj", b"trees"), ("model.ubj", b"trees")];
    refused(&manifest("adder", ""), &twice[..0], "missing").await;
    let check = async |other: &str, expected: &str| {
        let text = manifest("adder", &listed(other, b""));
        refused(&text, &[("model.ubj", b"trees"), (other, b"")], expected).await;
    };
    check("Model.ubj", "differs from it in case only").await;
    check("readme.MD", "differs from it in case only").await;
    check("model.ubj/inner", FOLDER).await;
    check("MODEL.ubj/inner", FOLDER).await;
    let again = listed("model.ubj", b"trees");
    refused(&manifest("adder", &format!("{again}{again}")), &[("model.ubj", b"trees")], "is listed twice").await;
}

#[tokio::test]
async fn pickles_and_archives_are_refused_by_name_and_by_content() {
    for name in ["model.pkl", "model.PKL", "a/model.pickle", "model.joblib", "model.pt", "model.pth", "model.sav"] {
        refused(&manifest_with_head("adder", name, ""), &[], "pickled models run arbitrary code").await;
    }
    let tar = [vec![b'm'; 257], b"ustar\x0000".to_vec(), vec![0; 1000]].concat();
    let check = async |content: &[u8], expected: &str| {
        refused(&manifest("adder", ""), &[("model.ubj", content)], expected).await;
    };
    check(b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system", "it is a pickle").await;
    check(b"\x80\x05\x95\x1a\0\0\0\0\0\0\0\x8c\x17sklearn.ensemble", "it is a pickle").await;
    check(b"cposix\nsystem\n(S'id'\ntR.", "it is a pickle").await;
    check(b"x\x9c\x4b\x2a\x4e\0\0\0\0\0", "it is zlib").await;
    check(b"ZF0x1a             ", "joblib").await;
    check(b"PK\x03\x04\x14\0\0\0\x08\0", "it is a ZIP archive").await;
    check(b"\x1f\x8b\x08\0\0\0\0\0\0", "it is gzip").await;
    check(&tar, "it is a tar archive").await;
}

#[tokio::test]
async fn claims_of_ten_gigabytes_are_refused_before_a_byte_comes() {
    let claim = |size: u64| listed("model.ubj", b"trees").replace("size = 5", &format!("size = {size}"));
    for size in [10 << 30, u64::from(u32::MAX) + 1, i64::MAX as u64] {
        refused(&manifest("adder", &claim(size)), &[], "has more than 1048576 bytes").await;
    }
    let many: String =
        (0..5).map(|file| listed(&format!("part-{file}"), b"").replace("size = 0", &format!("size = {MIB}"))).collect();
    refused(&manifest("adder", &many), &[], "the version has more than 2097152 bytes").await;
    let thousands: String = (0..5_000).map(|file| listed(&format!("file-{file}"), b"")).collect();
    refused(&manifest("adder", &thousands), &[], "5001 files, expected at most").await;
    refused(&"#".repeat(64 << 20), &[], "the manifest is refused").await;

    let fixture = Fixture::with_limits(Limits { max_file_bytes: MIB, max_total_bytes: 2 * MIB, max_files: 8 }).await;
    let files = vec![FileEntry { path: "model.ubj".into(), sha256: Digest::of(b""), size: 10 << 30 }];
    let error = fixture.registry.resume_upload(&manifest("adder", ""), files, NOW_MS).await.unwrap_err();
    assert!(chain(&error).contains("has more than 1048576 bytes"), "{error}");
    assert_eq!(grown(&fixture), 0);
}

#[tokio::test]
async fn what_is_said_to_be_small_and_streamed_without_end_stops_at_its_bound() {
    let fixture = Fixture::with_limits(Limits { max_file_bytes: MIB, max_total_bytes: 2 * MIB, max_files: 8 }).await;
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    let check = async |rest: &str, bound: u64, expected: &str| {
        let mut upload = fixture.registry.begin_upload(&manifest("adder", rest)).await.unwrap();
        let error = loop {
            if let Err(error) = upload.write("model.ubj", piece.clone()).await {
                break error;
            }
            assert!(grown(&fixture) <= bound, "{} bytes on disk", grown(&fixture));
        };
        assert!(chain(&error).contains(expected), "{error}");
        drop(upload);
        assert_eq!(grown(&fixture), 0);
    };
    check("", MIB, "`model.ubj` has more than 1048576 bytes").await;
    check(&listed("model.ubj", &[b'x'; 100_000]), 100_000, "its manifest says 100000").await;

    let files = vec![entry("model.ubj", &[b'x'; 100_000])];
    let mut upload = fixture.registry.resume_upload(&manifest("adder", ""), files, NOW_MS).await.unwrap();
    upload.write("model.ubj", 0, piece.clone()).await.unwrap();
    let error = upload.write("model.ubj", piece.len() as u64, piece).await.unwrap_err();
    assert!(matches!(error, RegistryError::SizeMismatch { expected: 100_000, .. }), "{error}");
    assert!(grown(&fixture) <= 100_000);
}
