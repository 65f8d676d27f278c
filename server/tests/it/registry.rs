//! The registry over gRPC: uploads, aliases, pages, verification.

use ev_client::Code;
use ev_proto::ev::{
    common::v1::{ModelSelector, model_selector::VersionChoice},
    range::v1::PredictRequest,
    registry::v1::{
        GetVersionRequest, ListModelsRequest, ListVersionsRequest, SetAliasRequest, SetAliasResponse,
        VerifyVersionRequest, VersionState, get_version_request,
    },
};

use crate::support::{
    refusal::Refusal,
    server::TestServer,
    zoo::{Model, Registry, bundled},
};

fn tesla(name: &str, version_choice: Option<VersionChoice>) -> PredictRequest {
    PredictRequest {
        make: "Tesla".into(),
        model: "Model 3".into(),
        model_selector: Some(ModelSelector { name: name.to_owned(), version_choice }),
        ..Default::default()
    }
}

async fn registry(server: &TestServer) -> Registry {
    Registry::new(server.endpoint().channel().await)
}

async fn set_alias(
    registry: &Registry,
    model: &str,
    alias: &str,
    version: u32,
    expected_version: Option<u32>,
) -> Result<SetAliasResponse, Refusal> {
    let request = SetAliasRequest { model: model.to_owned(), alias: alias.to_owned(), version, expected_version };
    let set = registry.clone().set_alias(request).await;
    set.map(tonic::Response::into_inner).map_err(Refusal::from)
}

#[tokio::test]
async fn an_uploaded_copy_serves_under_its_own_name() {
    let server = TestServer::start(&[]).await;
    let (registry, client) = (registry(&server).await, server.client().await);
    let copy = Model::named_as("ev-range", "my-range");
    let registered = copy.upload(&registry).await.expect("registered");
    let version = registered.version.expect("a version");
    assert!(registered.created);
    assert_eq!((version.model.as_str(), version.version, version.state()), ("my-range", 1, VersionState::Registered));
    assert_eq!((version.task.as_str(), version.backend.as_str()), ("range", "forest"));
    assert!(version.size_bytes > 0 && version.created_at.is_some());

    // Registered, but nobody said it should serve.
    let refused = client.range().predict(tesla("my-range", Some(VersionChoice::Version(1)))).await;
    let refused = refused.map_err(Refusal::from).expect_err("refused");
    let words = ["those that are: none", "no alias points at it", "evctl models alias my-range", "evctl models serve"];
    refused.says(Code::NotFound, "VERSION_NOT_SERVED", &words);

    let set = set_alias(&registry, "my-range", "production", 1, Some(0)).await.expect("set");
    assert_eq!(set.previous_version, 0);
    let version = set.version.expect("a version");
    assert_eq!((version.state(), version.aliases), (VersionState::Ready, vec!["production".to_owned()]));
    assert!(!version.runtime_description.is_empty());
    let mine = client.range().predict(tesla("my-range", None)).await.expect("answered");
    let bundled = client.range().predict(tesla("ev-range", None)).await.expect("answered");
    assert_eq!(mine.range_q50_km.to_bits(), bundled.range_q50_km.to_bits(), "the same trees");
    assert_eq!(mine.info.and_then(|info| info.model).map(|model| model.digest), Some(version.digest));

    // The same content again is the same version, in whatever pieces it comes.
    let again = crate::support::zoo::upload(&registry, copy.parts(1000)).await.expect("registered");
    assert_eq!((again.created, again.version.map(|version| version.version)), (false, Some(1)));
    server.stop().await;
}

#[tokio::test]
async fn a_generic_model_is_registered_but_answers_no_typed_request() {
    let server = TestServer::start(&[]).await;
    let registry = registry(&server).await;
    let mut copy = Model::named_as("charging-utilization", "anything");
    copy.set("task", "generic");
    let version = copy.upload(&registry).await.expect("registered").version.expect("a version");
    assert_eq!(version.task, "generic");
    set_alias(&registry, "anything", "production", 1, None).await.expect("it loads and serves");
    let refused = server.client().await.range().predict(tesla("anything", None)).await.map_err(Refusal::from);
    let message = "model `anything` is for task `generic`, expected `range`";
    refused.expect_err("refused").is(Code::InvalidArgument, "WRONG_TASK", message);
    server.stop().await;
}

#[tokio::test]
async fn requests_follow_an_alias_at_once() {
    let server = TestServer::start(&[]).await;
    let (registry, client) = (registry(&server).await, server.client().await);
    Model::of("ev-range").upload(&registry).await.expect("registered");
    for version in [2, 1, 2] {
        set_alias(&registry, "ev-range", "production", version, None).await.expect("set");
        let answer = client.range().predict(tesla("", None)).await.expect("answered");
        assert_eq!(answer.info.and_then(|info| info.model).map(|model| model.version), Some(version));
    }
    // What nothing points at any more does not serve any more.
    let left = client.range().predict(tesla("", Some(VersionChoice::Version(1)))).await.map_err(Refusal::from);
    left.expect_err("refused").says(Code::NotFound, "VERSION_NOT_SERVED", &["version 1", "those that are: 2"]);
    set_alias(&registry, "ev-range", "fallback", 1, None).await.expect("set");
    client.range().predict(tesla("", Some(VersionChoice::Alias("fallback".into())))).await.expect("answered");
    server.stop().await;
}

#[tokio::test]
async fn an_alias_moves_only_from_where_the_caller_saw_it() {
    let server = TestServer::start(&[]).await;
    let registry = registry(&server).await;
    Model::of("ev-range").upload(&registry).await.expect("registered");
    for expected in [0, 2, 7] {
        let refused = set_alias(&registry, "ev-range", "production", 2, Some(expected)).await.expect_err("refused");
        let message = "alias `production` of model `ev-range` points at version 1";
        refused.is(Code::Aborted, "ALIAS_MOVED", message);
    }
    let refused = set_alias(&registry, "ev-range", "canary", 2, Some(1)).await.expect_err("refused");
    refused.is(Code::Aborted, "ALIAS_MOVED", "alias `canary` of model `ev-range` points at nothing");
    let set = set_alias(&registry, "ev-range", "production", 2, Some(1)).await.expect("set");
    assert_eq!(set.previous_version, 1);
    // Of many that saw the same, one wins.
    let racers = (0..8).map(|_| set_alias(&registry, "ev-range", "production", 1, Some(2)));
    let results = futures_util::future::join_all(racers).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    server.stop().await;
}

#[tokio::test]
async fn an_alias_points_only_at_what_there_is() {
    let server = TestServer::start(&[]).await;
    let registry = registry(&server).await;
    let refused = set_alias(&registry, "ev-range", "production", 9, None).await.expect_err("refused");
    refused.is(Code::NotFound, "NOT_FOUND", "version 9 of model `ev-range` does not exist");
    let refused = set_alias(&registry, "nonesuch", "production", 1, None).await.expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "NOT_FOUND"));
    let refused = set_alias(&registry, "ev-range", "Not An Alias", 1, None).await.expect_err("refused");
    refused.says(Code::InvalidArgument, "INVALID_ALIAS", &["`Not An Alias` is no alias"]);
    server.client().await.range().predict(tesla("", None)).await.expect("production serves on");
    server.stop().await;
}

#[tokio::test]
async fn pages_hold_every_model_and_version_once() {
    let server = TestServer::start(&[]).await;
    let mut registry = registry(&server).await;
    for description in ["Two.", "Three."] {
        let mut copy = Model::of("battery-cycle-life");
        copy.set("description", description);
        copy.upload(&registry).await.expect("registered");
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = registry.list_models(ListModelsRequest { page_size: 3, page_token }).await.expect("listed");
        let page = page.into_inner();
        assert!(page.models.len() <= 3);
        names.extend(page.models.iter().map(|model| (model.name.clone(), model.version_count)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), bundled().len(), "{names:?}");
    assert!(names.is_sorted() && names.contains(&("battery-cycle-life".to_owned(), 3)), "{names:?}");

    let request =
        |page_token: String| ListVersionsRequest { model: "battery-cycle-life".into(), page_size: 2, page_token };
    let first = registry.list_versions(request(String::new())).await.expect("listed").into_inner();
    let second = registry.list_versions(request(first.next_page_token.clone())).await.expect("listed").into_inner();
    let numbers: Vec<u32> = first.versions.iter().chain(&second.versions).map(|version| version.version).collect();
    assert_eq!((numbers, second.next_page_token.as_str()), (vec![3, 2, 1], ""));

    let refused = registry.list_models(ListModelsRequest { page_size: 1001, page_token: String::new() }).await;
    assert_eq!(refused.map_err(Refusal::from).expect_err("refused").reason, "INVALID_PAGE");
    let refused = registry.list_versions(request("nonsense".into())).await.map_err(Refusal::from);
    assert_eq!(refused.expect_err("refused").reason, "INVALID_PAGE");
    let missing = ListVersionsRequest { model: "nonesuch".into(), page_size: 0, page_token: String::new() };
    let refused = registry.list_versions(missing).await.map_err(Refusal::from).expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "NOT_FOUND"));
    server.stop().await;
}

#[tokio::test]
async fn a_version_is_shown_with_its_manifest() {
    let server = TestServer::start(&[]).await;
    let mut registry = registry(&server).await;
    let request = GetVersionRequest { model: "thermal-risk".into(), version_choice: None };
    let shown = registry.get_version(request).await.expect("found").into_inner();
    let manifest: serde_json::Value = serde_json::from_str(&shown.manifest_json).expect("JSON");
    assert_eq!(manifest["model"]["name"], "thermal-risk");
    assert_eq!(
        manifest["files"].as_array().map(|files| files.iter().any(|file| file["path"] == "point.ubj")),
        Some(true)
    );
    let alias = Some(get_version_request::VersionChoice::Alias("canary".into()));
    let refused = registry.get_version(GetVersionRequest { model: "thermal-risk".into(), version_choice: alias }).await;
    let refused = refused.map_err(Refusal::from).expect_err("refused");
    refused.is(Code::NotFound, "NOT_FOUND", "alias `canary` of model `thermal-risk` does not exist");
    server.stop().await;
}

#[tokio::test]
async fn verifying_reads_every_byte_again() {
    let server = TestServer::start(&[]).await;
    let mut registry = registry(&server).await;
    let request = VerifyVersionRequest { model: "battery-soh".into(), version_choice: None };
    let verified = registry.verify_version(request.clone()).await.expect("verified").into_inner();
    assert!(verified.ok && verified.checks.iter().all(|check| check.ok), "{verified:?}");
    for name in ["manifest", "file README.md", "file golden.json", "file point.ubj", "file spread.ubj"] {
        assert!(verified.checks.iter().any(|check| check.name == name), "no check of {name} in {verified:?}");
    }
    let golden = format!("{} golden requests; ", crate::support::golden::cases("battery-soh").len());
    assert!(verified.checks.last().is_some_and(|check| check.detail.starts_with(&golden)), "{verified:?}");

    crate::start::corrupt(server.data(), "battery-soh", "spread.ubj").await;
    let verified = registry.verify_version(request).await.expect("verified").into_inner();
    assert!(!verified.ok);
    let failed: Vec<_> = verified.checks.iter().filter(|check| !check.ok).collect();
    assert_eq!(failed.len(), 1, "{verified:?}");
    assert_eq!(failed[0].name, "file spread.ubj");
    assert!(failed[0].detail.contains("is corrupt"), "{failed:?}");
    // What is loaded serves on: it was read when it was whole.
    server.client().await.range().predict(tesla("", None)).await.expect("answered");
    server.stop().await;
}
