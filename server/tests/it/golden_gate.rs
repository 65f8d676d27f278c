//! A version that does not reproduce its golden answers never serves.

use ev_client::Code;
use ev_proto::ev::{
    common::v1::{ModelSelector, model_selector::VersionChoice},
    range::v1::PredictRequest,
    registry::v1::{SetAliasRequest, VerifyVersionRequest, VersionState, verify_version_request},
};
use ev_registry::{AliasChange, ExpectedVersion, Registry, RegistryConfig};

use crate::support::{
    refusal::Refusal,
    server::TestServer,
    zoo::{Model, Registry as RegistryClient},
};

/// A copy of the range model whose second golden answer is wrong.
fn liar() -> Model {
    let mut liar = Model::of("ev-range");
    liar.edit_golden(|golden| golden["cases"][1]["expected"]["q50"] = 9999.5.into());
    liar
}

fn version_2() -> PredictRequest {
    PredictRequest {
        make: "Tesla".into(),
        model: "Model 3".into(),
        model_selector: Some(ModelSelector { name: String::new(), version_choice: Some(VersionChoice::Version(2)) }),
        ..Default::default()
    }
}

/// What a reason must say: which case, what came, what was expected.
const WORDS: [&str; 3] = ["golden request 1", "9999.5", "the answer is ["];

#[tokio::test]
async fn production_does_not_move_to_a_version_that_lies() {
    let server = TestServer::start(&[]).await;
    let mut registry = RegistryClient::new(server.endpoint().channel().await);
    let registered = liar().upload(&registry).await.expect("registered").version.expect("a version");
    assert_eq!((registered.version, registered.state()), (2, VersionState::Registered));

    let request = VerifyVersionRequest {
        model: "ev-range".into(),
        version_choice: Some(verify_version_request::VersionChoice::Version(2)),
    };
    let verified = registry.verify_version(request).await.expect("verified").into_inner();
    assert!(!verified.ok);
    let failed: Vec<_> = verified.checks.iter().filter(|check| !check.ok).collect();
    assert_eq!(failed.len(), 1, "{verified:?}");
    assert!(WORDS.iter().all(|word| failed[0].detail.contains(word)), "{}", failed[0].detail);

    let request =
        SetAliasRequest { model: "ev-range".into(), alias: "production".into(), version: 2, expected_version: None };
    let refused = registry.set_alias(request).await.map_err(Refusal::from).expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &WORDS);

    let answer = server.client().await.range().predict(PredictRequest { model_selector: None, ..version_2() }).await;
    let model = answer.expect("answered").info.and_then(|info| info.model).expect("a model version");
    assert_eq!(model.version, 1, "production stays where it was");
    server.stop().await;
}

#[tokio::test]
async fn a_version_that_lies_is_refused_at_start() {
    let directory = TestServer::start(&[]).await.stop().await;
    // An alias that was moved behind the server's back, by an older release, say.
    let registry = Registry::open(&RegistryConfig::new(directory.path().join("registry"))).await.expect("opened");
    registry.import_bundles(vec![liar().bundle()], 0).await.expect("imported");
    registry.move_alias(&AliasChange::set("ev-range", "canary", 2, ExpectedVersion::Absent), 0).await.expect("set");
    registry.close().await;

    let server = TestServer::start_on(directory, &[]).await;
    let client = server.client().await;
    let version = client.registry().get_version("ev-range:2".parse().expect("a reference")).await.expect("found");
    let version = version.version.expect("a version");
    assert_eq!(version.state(), VersionState::Failed);
    assert!(version.state_reason.starts_with("FAILED_PRECONDITION: "), "{}", version.state_reason);
    assert!(WORDS.iter().all(|word| version.state_reason.contains(word)), "{}", version.state_reason);
    let refused = client.range().predict(version_2()).await.map_err(Refusal::from).expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &WORDS);
    client.range().predict(PredictRequest { model_selector: None, ..version_2() }).await.expect("version 1 serves");
    server.stop().await;
}
