//! Starting: on what was there before, on what is broken, and after a death.

use std::path::Path;

use ev_client::{Code, ServingStatus};
use ev_proto::ev::{
    range::v1::PredictRequest,
    registry::v1::{SetAliasRequest, VersionState},
    thermal::v1::AssessRequest,
};
use ev_registry::{RegistryConfig, VersionChoice};

use crate::support::{
    assert_eventually, golden,
    process::Evserve,
    refusal::Refusal,
    server::{TestServer, artifacts},
    zoo::{Model, Registry, bundled, piece},
};

/// Overwrites a stored file of the version that `production` points at, in a data directory.
pub(crate) async fn corrupt(data: &Path, model: &str, file: &str) {
    let registry = ev_registry::Registry::open(&RegistryConfig::new(data.join("registry"))).await.expect("opened");
    let version = registry.get(model, &VersionChoice::Alias("production".into())).await.expect("registered");
    let files = registry.fetch(&version).await.expect("whole");
    let place = files.path(file).expect("a file of the model");
    let mut permissions = fs_err::metadata(place).expect("stored").permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a stored file is read-only; breaking it is the point")]
    permissions.set_readonly(false);
    fs_err::set_permissions(place, permissions).expect("changed");
    fs_err::write(place, b"not trees").expect("overwritten");
    registry.close().await;
}

fn tesla() -> PredictRequest {
    PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() }
}

fn pack() -> AssessRequest {
    AssessRequest { cell_temperature_max_celsius: Some(35.0), ..Default::default() }
}

#[tokio::test]
async fn a_corrupt_artifact_stops_its_own_version_only() {
    let directory = TestServer::start(&[]).await.stop().await;
    corrupt(directory.path(), "thermal-risk", "point.ubj").await;
    // Without the bundled models there is nothing to repair it from.
    let mut evserve = Evserve::start(directory.path(), &[("data.bundled_models", "false")]).await;
    let client = evserve.endpoint().client().await;

    let shown = client.registry().get_version("thermal-risk".parse().expect("a name")).await.expect("found");
    let version = shown.version.expect("a version");
    assert_eq!(version.state(), VersionState::Failed);
    let reason = &version.state_reason;
    assert!(reason.starts_with("DATA_LOSS: stored file `point.ubj` is corrupt: its digest is sha256:"), "{reason}");
    let logged = |line: &serde_json::Value| {
        line["level"] == "ERROR" && line["fields"]["model"] == "thermal-risk" && line["fields"]["reason"] == **reason
    };
    assert!(evserve.logs().iter().any(logged), "{:#?}", evserve.logs());

    let refused = client.thermal().assess(pack()).await.map_err(Refusal::from).expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &["version 1 of model `thermal-risk`", "DATA_LOSS"]);
    client.range().predict(tesla()).await.expect("the others serve");
    for (service, expected) in [
        ("", ServingStatus::Serving),
        ("ev.range.v1.RangePrediction", ServingStatus::Serving),
        ("ev.charging.v1.ChargingUtilization", ServingStatus::Serving),
        ("ev.battery.v1.BatteryHealth", ServingStatus::Serving),
        ("ev.thermal.v1.ThermalRisk", ServingStatus::NotServing),
    ] {
        assert_eventually!(client.health().check(service).await.expect("known") == expected, "{service}");
    }
    assert_eq!(evserve.endpoint().get("/readyz").await, (200, "ready".to_owned()));
    assert_eq!(evserve.endpoint().metric("ev_deploy_versions{state=\"failed\"}").await, 1.0);
    evserve.terminate().await;
    assert!(evserve.exited().await.success());
}

#[tokio::test]
async fn a_corrupt_bundled_model_is_repaired_from_the_program() {
    let directory = TestServer::start(&[]).await.stop().await;
    corrupt(directory.path(), "thermal-risk", "point.ubj").await;
    let server = TestServer::start_on(directory, &[]).await;
    server.client().await.thermal().assess(pack()).await.expect("answered");
    server.stop().await;
}

#[tokio::test]
async fn one_battery_model_that_fails_leaves_the_other_targets_alone() {
    let directory = TestServer::start(&[]).await.stop().await;
    corrupt(directory.path(), "battery-failure", "point.ubj").await;
    let server = TestServer::start_on(directory, &[("data.bundled_models", "false")]).await;
    let battery = server.client().await.battery();
    let [cell, _] = golden::full_and_least("battery-soh");
    let cell: ev_proto::ev::battery::v1::PredictRequest = golden::request("ev.battery.v1.PredictRequest", &cell);
    let answer = battery.predict(cell.clone()).await.expect("answered");
    assert!(answer.state_of_health.is_some() && answer.failure.is_none(), "{answer:?}");
    let failure = ev_proto::ev::battery::v1::Target::Failure;
    assert!(answer.unanswered.iter().any(|unanswered| unanswered.target() == failure), "{answer:?}");
    // Asked for by name, it is an error that says why.
    let asked = ev_proto::ev::battery::v1::PredictRequest { targets: vec![failure.into()], ..cell };
    let refused = battery.predict(asked).await.map_err(Refusal::from).expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &["battery-failure", "DATA_LOSS"]);
    server.stop().await;
}

#[tokio::test]
async fn a_second_start_keeps_versions_aliases_and_answers() {
    let server = TestServer::start(&[]).await;
    let mut registry = Registry::new(server.endpoint().channel().await);
    Model::of("ev-range").upload(&registry).await.expect("registered");
    for (alias, version) in [("production", 2), ("fallback", 1)] {
        let alias = alias.to_owned();
        let request = SetAliasRequest { model: "ev-range".into(), alias, version, expected_version: None };
        registry.set_alias(request).await.expect("set");
    }
    let client = server.client().await;
    let before = client.range().predict(tesla()).await.expect("answered");
    let versions = client.registry().list_versions("ev-range").await.expect("listed");
    let directory = server.stop().await;

    let server = TestServer::start_on(directory, &[]).await;
    let client = server.client().await;
    let after = client.range().predict(tesla()).await.expect("answered");
    let numbers = |answer: &ev_proto::ev::range::v1::PredictResponse| {
        [answer.range_q10_km, answer.range_q50_km, answer.range_q90_km].map(f32::to_bits)
    };
    assert_eq!(numbers(&before), numbers(&after));
    let model = |answer: ev_proto::ev::range::v1::PredictResponse| answer.info.and_then(|info| info.model);
    assert_eq!(model(before), model(after));
    let mut again = client.registry().list_versions("ev-range").await.expect("listed");
    // How long a row takes is measured anew.
    for (version, again) in versions.iter().zip(&mut again) {
        again.runtime_description.clone_from(&version.runtime_description);
    }
    assert_eq!(versions, again);
    assert_eq!(client.registry().list_models().await.expect("listed").len(), bundled().len());
    server.stop().await;
}

#[tokio::test]
async fn a_death_during_start_leaves_nothing_half_done() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let stored = || walk(&artifacts(directory.path())).len();
    // Further along each time: at once, with the folder, with the database, with a few files, with many.
    let reached: [&dyn Fn() -> bool; 5] = [
        &|| true,
        &|| directory.path().join("registry").exists(),
        &|| directory.path().join("registry/registry.db").exists(),
        &|| stored() >= 1,
        &|| stored() >= 12,
    ];
    for (point, reached) in reached.into_iter().enumerate() {
        let evserve = Evserve::spawn(directory.path(), &[]);
        assert_eventually!(reached(), "point {point} was never reached");
        evserve.kill().await;
    }
    let mut evserve = Evserve::start(directory.path(), &[]).await;
    let client = evserve.endpoint().client().await;
    let models = client.registry().list_models().await.expect("listed");
    assert_eq!(models.len(), bundled().len());
    for model in models {
        let production = model.production.expect("production");
        assert_eq!((model.version_count, production.version, production.state()), (1, 1, VersionState::Ready));
        let verified = client.registry().verify_version(model.name.parse().expect("a name")).await.expect("verified");
        assert!(verified.ok, "{verified:?}");
    }
    evserve.terminate().await;
    assert!(evserve.exited().await.success());
}

#[tokio::test]
async fn a_death_during_an_import_leaves_nothing_half_done() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let staging = directory.path().join("registry/artifacts/staging");
    let copy = Model::named_as("ev-range", "my-range");
    let evserve = Evserve::start(directory.path(), &[]).await;
    let registry = Registry::new(evserve.endpoint().channel().await);
    let (sender, parts) = tokio::sync::mpsc::channel(4);
    sender.send(copy.first()).await.expect("sent");
    sender.send(piece("point.ubj", &copy.files["point.ubj"][..100_000])).await.expect("sent");
    let mut uploading = registry.clone();
    let upload =
        tokio::spawn(
            async move { uploading.register_version(tokio_stream::wrappers::ReceiverStream::new(parts)).await },
        );
    let staged = || walk(&staging).iter().any(|file| fs_err::metadata(file).is_ok_and(|file| file.len() > 0));
    assert_eventually!(staged(), "nothing was staged");
    evserve.kill().await;
    upload.await.expect("no panic").expect_err("the server died");
    drop(sender);

    let mut evserve = Evserve::start(directory.path(), &[]).await;
    assert!(!staged(), "what was cut off is still there: {:?}", walk(&staging));
    let client = evserve.endpoint().client().await;
    assert_eq!(client.registry().list_models().await.expect("listed").len(), bundled().len());
    let registry = Registry::new(evserve.endpoint().channel().await);
    let version = copy.upload(&registry).await.expect("registered").version.expect("a version");
    assert_eq!(version.version, 1);
    evserve.terminate().await;
    assert!(evserve.exited().await.success());
}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
