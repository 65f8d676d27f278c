//! A disk without space: what only reads goes on, what writes is refused as a whole and says why.

use std::{path::Path, time::Duration};

use ev_client::Code;
use ev_proto::ev::{
    range::v1::PredictRequest,
    registry::v1::{
        GetVersionRequest, SetAliasRequest, SetAliasResponse, VerifyVersionRequest, get_version_request::VersionChoice,
        verify_version_request,
    },
};

use crate::support::{
    disk::SmallDisk,
    process::{Evserve, run},
    refusal::Refusal,
    server::{Endpoint, start_in},
    zoo::{Model, Registry},
};

const SIZE: &str = "32m";

fn tesla() -> PredictRequest {
    PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() }
}

async fn set_alias(registry: &mut Registry, model: &str) -> Result<SetAliasResponse, Refusal> {
    let request =
        SetAliasRequest { model: model.into(), alias: "production".into(), version: 1, expected_version: None };
    registry.set_alias(request).await.map(tonic::Response::into_inner).map_err(Refusal::from)
}

/// What imports have left behind, but for the locks.
fn staged(data: &Path) -> usize {
    let folders = fs_err::read_dir(data.join("registry/artifacts/staging")).expect("staging");
    let files = |folder: std::path::PathBuf| fs_err::read_dir(folder).into_iter().flatten();
    let files = folders.flatten().flat_map(|folder| files(folder.path())).flatten();
    files.filter(|file| file.file_name() != "lock").count()
}

#[tokio::test]
async fn a_full_disk_stops_the_registry_and_no_prediction() {
    let Some(disk) = SmallDisk::mount(SIZE) else { return };
    let server = start_in(disk.path(), &[]).await.expect("the server starts");
    let client = Endpoint::of(&server).client().await;
    let mut registry = Registry::new(Endpoint::of(&server).channel().await);
    Model::named_as("ev-range", "waiting").upload(&registry).await.expect("registered");
    let before = client.range().predict(tesla()).await.expect("answered");

    disk.fill(0);
    let refused = set_alias(&mut registry, "waiting").await.expect_err("refused");
    refused.says(Code::ResourceExhausted, "DISK_FULL", &["the disk is full", "free some space"]);
    let production = GetVersionRequest { model: "waiting".into(), version_choice: None };
    let unset = registry.get_version(production).await.map_err(Refusal::from).expect_err("the alias was not set");
    unset.says(Code::NotFound, "NOT_FOUND", &["alias `production`"]);
    let answer = client.range().predict(tesla()).await.expect("answered");
    assert_eq!(before.range_q50_km.to_bits(), answer.range_q50_km.to_bits());

    // From no space at all to enough of it: at every point in between the version is there as a whole or not at all.
    let mut model = Model::named_as("ev-range", "coming");
    let mut refusals = 0;
    for free in (0..).step_by(32 * 1024) {
        disk.fill(free);
        let asked = || GetVersionRequest { model: "coming".into(), version_choice: Some(VersionChoice::Version(1)) };
        match model.upload(&registry).await {
            Ok(registered) => {
                assert!(registered.created, "{registered:?}");
                registry.get_version(asked()).await.expect("found");
                break;
            }
            Err(refused) => {
                refused.says(Code::ResourceExhausted, "DISK_FULL", &["the disk is full", "free some space"]);
                registry.get_version(asked()).await.expect_err("nothing was registered");
            }
        }
        assert_eq!(staged(disk.path()), 0, "with {free} bytes free");
        client.range().predict(tesla()).await.expect("answered");
        refusals += 1;
    }
    assert!(refusals > 1, "{refusals}");

    disk.free();
    set_alias(&mut registry, "waiting").await.expect("set");
    set_alias(&mut registry, "coming").await.expect("set");
    model.set("description", "Another one.");
    let registered = model.upload(&registry).await.expect("registered");
    assert_eq!(registered.version.map(|version| version.version), Some(2));
    for version in [1, 2] {
        let version_choice = Some(verify_version_request::VersionChoice::Version(version));
        let request = VerifyVersionRequest { model: "coming".into(), version_choice };
        let verified = registry.verify_version(request).await.expect("verified").into_inner();
        assert!(verified.ok, "{verified:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_start_on_a_full_disk_says_what_to_do() {
    let Some(disk) = SmallDisk::mount(SIZE) else { return };
    let data = disk.path().join("data").display().to_string();
    let arguments = [
        "serve",
        "--data-directory",
        &data,
        "--grpc-address",
        "127.0.0.1:0",
        "--telemetry-address",
        "127.0.0.1:0",
        "--http-address",
        "127.0.0.1:0",
    ];
    let refused = async |free: u64| {
        disk.fill(free);
        let ended = tokio::time::timeout(Duration::from_secs(60), run(&arguments)).await;
        let output = ended.unwrap_or_else(|_| panic!("it started with {free} bytes free"));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "with {free} bytes free: {told}");
        let line = told.lines().find(|line| line.starts_with("evserve: ")).unwrap_or_else(|| panic!("{told}"));
        for word in [data.as_str(), "the disk is full", "free some space"] {
            assert!(line.contains(word), "with {free} bytes free: `{word}` in {line}");
        }
        assert!(!told.contains("panicked"), "{told}");
    };
    // An empty one: no room for the database, for a part of it, for the models.
    for pages in [0, 1, 2, 4, 8, 9, 10, 16, 32, 64, 256] {
        refused(pages * 4096).await;
    }
    disk.free();
    let evserve = Evserve::start(Path::new(&data), &[]).await;
    evserve.kill().await;
    // Killed, it has left the database's log: there is nothing to write, and a full disk is no reason not to serve.
    disk.fill(0);
    let mut evserve = Evserve::start(Path::new(&data), &[]).await;
    evserve.endpoint().client().await.range().predict(tesla()).await.expect("answered");
    disk.free();
    evserve.terminate().await;
    assert!(evserve.exited().await.success());
    // Ended in good order, it has not.
    refused(0).await;
    disk.free();
    let mut evserve = Evserve::start(Path::new(&data), &[]).await;
    evserve.endpoint().client().await.range().predict(tesla()).await.expect("answered");
    evserve.terminate().await;
    assert!(evserve.exited().await.success());
}
