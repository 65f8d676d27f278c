//! Every write of a publish, and of a deletion, fails once, and is once the last thing a process does.
//!
//! The writes are those that the process asks of the system, SQLite's among them: a library loaded before libc counts them
//! (`faults.c`), and the test goes through them one after another. Without a C compiler it says that it is skipped.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bytes::Bytes;
use ev_models_core::{Digest, manifest::FileEntry};
use ev_registry::{Page, Registry, RegistryConfig, RegistryError, VersionChoice};

use crate::support::{NOW_MS, files_below, manifest};

const CHILD_DIRECTORY: &str = "EV_REGISTRY_TEST_FAULT_DIRECTORY";
const CHILD_DOES: &str = "EV_REGISTRY_TEST_FAULT_DOES";
/// Later than anything that the tests write, by the clock of the file system.
const LATER_MS: i64 = 32_503_680_000_000;
const OLD: &[u8] = b"old trees";
const NEW: &[u8] = b"new trees, which come in three pieces";
const CARD: &[u8] = b"# A card";

/// What a child did before it ended.
#[derive(Debug, Default)]
struct Seen {
    /// Writes it asked for; none of one that was killed.
    points: Option<u64>,
    done: bool,
    failed: Option<String>,
}

fn library(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/registry/faults.c"), folder.join("faults.so"));
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([source, "-ldl"]).status();
    match compiled {
        Ok(status) => {
            assert!(status.success(), "faults.c does not compile");
            Some(library)
        }
        Err(error) => {
            eprintln!("skipped: no C compiler ({error}), and the writes of a process are counted by a library in C");
            None
        }
    }
}

/// Runs a child on a directory, with a fault.
fn child(library: &Path, directory: &Path, does: &str, fault: Option<(&str, u64)>) -> Seen {
    let report = library.with_file_name("report");
    let _ = fs_err::remove_file(&report);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "faults::does_as_it_is_told_until_it_fails", "--nocapture", "--test-threads=1"])
        .envs([("LD_PRELOAD", library), ("FAULT_DIRECTORY", directory), ("FAULT_REPORT", &report)])
        .envs([(CHILD_DIRECTORY, directory.as_os_str()), (CHILD_DOES, does.as_ref())])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some((kind, at)) = fault {
        command.env("FAULT_KIND", kind).env("FAULT_AT", at.to_string());
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // Killed, or ended in order: never by a panic.
    let panicked = output.status.code().is_some_and(|code| code != 0);
    assert!(!panicked, "{does}, {fault:?}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    let points = fs_err::read_to_string(&report).ok().and_then(|text| text.parse().ok());
    let failed = said.lines().find_map(|line| line.strip_prefix("failed: ")).map(str::to_owned);
    Seen { points, done: said.lines().any(|line| line == "done"), failed }
}

/// Not a test of its own: what the processes of the other tests do.
#[test]
fn does_as_it_is_told_until_it_fails() {
    let (Some(directory), Ok(does)) = (std::env::var_os(CHILD_DIRECTORY), std::env::var(CHILD_DOES)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = RegistryConfig::new(directory);
        for attempt in 0.. {
            let result = match Registry::open(&config).await {
                Ok(registry) => {
                    let result = if does == "publish" { publish(&registry).await } else { delete(&registry).await };
                    registry.close().await;
                    result
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => return println!("\ndone"),
                // One fault is one error: the next attempt succeeds.
                Err(error) if attempt < 2 => println!("\nfailed: {error}"),
                Err(error) => panic!("{error:?}"),
            }
        }
    });
}

async fn publish(registry: &Registry) -> Result<(), RegistryError> {
    let entry =
        |path: &str, content| FileEntry { path: path.into(), sha256: Digest::of(content), size: content.len() as u64 };
    let files = vec![entry("model.ubj", NEW), entry("README.md", CARD)];
    let received = registry.received(&files).await?;
    let mut upload = registry.resume_upload(&manifest("adder", ""), files, NOW_MS).await?;
    for ((path, content), received) in [("model.ubj", NEW), ("README.md", CARD)].into_iter().zip(received) {
        let rest = content.chunks(13).enumerate().map(|(index, piece)| (index as u64 * 13, piece));
        for (offset, piece) in rest.filter(|(offset, piece)| offset + piece.len() as u64 > received) {
            upload.write(path, offset, Bytes::from_static(piece)).await?;
        }
    }
    upload.finish(NOW_MS).await.map(drop)
}

async fn delete(registry: &Registry) -> Result<(), RegistryError> {
    match registry.delete_version("adder", 1, &ev_registry::References::new(), NOW_MS).await {
        // By an attempt before.
        Ok(_) | Err(RegistryError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    registry.sweep_uploads(LATER_MS).await?;
    registry.collect_garbage(LATER_MS, NOW_MS).await.map(drop)
}

/// A directory with version 1 of a model.
async fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(&RegistryConfig::new(dir.path())).await.unwrap();
    registry.import_files(&manifest("adder", ""), [("model.ubj", OLD)], NOW_MS).await.unwrap();
    registry.close().await;
    dir
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").args(["-a"]).arg(from.join(".")).arg(to.path()).status().unwrap();
    assert!(copied.success());
    to
}

/// What holds after any end: the registry opens, what can be found is whole, and the log is what was written.
async fn check(directory: &Path, seen: &Seen, context: &str) -> Registry {
    let registry =
        Registry::open(&RegistryConfig::new(directory)).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
    let versions = match registry.list_versions("adder", &Page::default()).await {
        Ok(listing) => listing.items,
        Err(RegistryError::NotFound { .. }) => Vec::new(),
        Err(error) => panic!("{context}: {error:?}"),
    };
    for version in &versions {
        registry.fetch(version).await.unwrap_or_else(|error| panic!("{context}: {seen:?}: half a version: {error:?}"));
    }
    let verified = registry.verify_audit().await.unwrap();
    assert!(verified.fault.is_none(), "{context}: {verified:?}");
    let staging = files_below(&directory.join("artifacts/staging"));
    assert!(staging.iter().all(|path| path.to_string_lossy().ends_with("lock")), "{context}: {staging:?}");
    registry
}

/// Goes through every write; `after` looks at what is left.
async fn every_write(does: &str, after: impl AsyncFn(Registry, &Seen, &str)) {
    let tools = tempfile::tempdir().unwrap();
    let Some(library) = library(tools.path()) else { return };
    let template = prepared().await;
    let whole = copy(template.path());
    let counted = child(&library, whole.path(), does, None);
    let points = counted.points.expect("it ended in order");
    assert!(counted.done && points > 20, "{counted:?}: the library counts nothing");
    for kind in ["kill", "eio", "enospc"] {
        let mut reached = 0;
        for at in 1..=points {
            let dir = copy(template.path());
            let seen = child(&library, dir.path(), does, Some((kind, at)));
            let context = format!("{does}, {kind} at write {at} of {points}");
            if kind == "kill" {
                reached += u64::from(seen.points.is_none());
                assert!(seen.points.is_some() || !seen.done, "{context}: {seen:?}");
            } else {
                assert!(seen.done, "{context}: {seen:?}");
                reached += u64::from(seen.failed.is_some());
            }
            let registry = check(dir.path(), &seen, &context).await;
            after(registry, &seen, &context).await;
        }
        println!("{does}: {kind} at each of {points} writes, {reached} of them seen by the caller");
        assert!(reached > 0, "{does}, {kind}: no fault had an effect");
    }
}

#[tokio::test]
async fn every_write_of_a_publish_may_fail_or_be_the_last() {
    every_write("publish", async |registry, seen, context| {
        let old = registry.get("adder", &VersionChoice::Number(1)).await.unwrap();
        registry.fetch(&old).await.unwrap();
        if seen.done {
            registry.get("adder", &VersionChoice::Number(2)).await.unwrap_or_else(|error| panic!("{context}: {error}"));
        }
        // What was cut off is gone on with.
        publish(&registry).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        let new = registry.get("adder", &VersionChoice::Number(2)).await.unwrap();
        let files = registry.fetch(&new).await.unwrap();
        assert_eq!(fs_err::read(files.path("model.ubj").unwrap()).unwrap(), NEW, "{context}");
        assert!(registry.get("adder", &VersionChoice::Number(3)).await.is_err(), "{context}: registered twice");
    })
    .await;
}

#[tokio::test]
async fn every_write_of_a_deletion_may_fail_or_be_the_last() {
    every_write("delete", async |registry, seen, context| {
        let there = registry.get("adder", &VersionChoice::Number(1)).await.is_ok();
        assert!(!(seen.done && there), "{context}");
        // Done once more, it is done.
        delete(&registry).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
        assert!(registry.get("adder", &VersionChoice::Number(1)).await.is_err(), "{context}");
        publish(&registry).await.unwrap_or_else(|error| panic!("{context}: {error:?}"));
    })
    .await;
}
