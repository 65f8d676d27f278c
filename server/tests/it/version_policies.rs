//! Versions that are loaded whatever the aliases point at: latest, named, all; set, configured, bounded.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ev_client::{Client, Code, VersionRef};
use ev_proto::{
    ev::{
        range::v1::PredictRequest,
        registry::v1::{
            SetVersionPolicyRequest, VersionNumbers, VersionPolicy, VersionState,
            model_registry_client::ModelRegistryClient, version_policy::Policy,
        },
    },
    inference::{
        ModelMetadataRequest, RepositoryIndexRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    },
};

use crate::{
    rollouts::{registered, times},
    support::{assert_eventually, refusal::Refusal, server::TestServer},
};

fn tesla(version: &str) -> PredictRequest {
    let selector = (!version.is_empty()).then(|| version.parse::<VersionRef>().expect("a reference").into());
    PredictRequest {
        make: "Tesla".to_owned(),
        model: "Model 3".to_owned(),
        model_selector: selector,
        ..PredictRequest::default()
    }
}

/// The version that answers, or why none does.
async fn answers(client: &Client, version: &str) -> Result<u32, Refusal> {
    let answer = client.range().predict(tesla(version)).await.map_err(Refusal::from)?;
    Ok(answer.info.and_then(|info| info.model).expect("a model version").version)
}

/// Of versions 1 to `count`, those that answer.
async fn served(client: &Client, count: u32) -> Vec<u32> {
    let mut served = Vec::new();
    for version in 1..=count {
        if answers(client, &format!("ev-range:{version}")).await.is_ok_and(|answered| answered == version) {
            served.push(version);
        }
    }
    served
}

async fn set(client: &Client, policy: Option<Policy>) -> BTreeMap<u32, VersionState> {
    let policy = policy.map(|policy| VersionPolicy { policy: Some(policy) });
    let response = client.registry().set_version_policy("ev-range", policy).await.expect("set");
    response.versions.iter().map(|version| (version.version, version.state())).collect()
}

fn numbers(numbers: &[u32]) -> Option<Policy> {
    Some(Policy::Versions(VersionNumbers { numbers: numbers.to_vec() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_loads_and_unloads_versions_and_production_stays() {
    let server = TestServer::start(&[]).await;
    let client = server.client().await;
    for version in 2..=4 {
        assert_eq!(registered(&server, times(1.0 + f64::from(version) / 1_000.0)).await.version, version);
    }
    assert_eq!(served(&client, 4).await, [1]);
    let refused = answers(&client, "ev-range:3").await.expect_err("refused");
    let words = ["version 3", "those that are: 1;", "evctl models serve ev-range versions:3"];
    refused.says(Code::NotFound, "VERSION_NOT_SERVED", &words);

    let ready = VersionState::Ready;
    let check = async |policy: Option<Policy>, expected: &[u32]| {
        let states = set(&client, policy.clone()).await;
        assert_eq!(states, expected.iter().map(|version| (*version, ready)).collect(), "{policy:?}");
        assert_eq!(served(&client, 4).await, expected, "{policy:?}");
        assert_eq!(answers(&client, "").await.expect("answered"), 1, "production is where it was");
    };
    check(Some(Policy::Latest(2)), &[1, 3, 4]).await;
    check(numbers(&[2]), &[1, 2]).await;
    check(Some(Policy::All(true)), &[1, 2, 3, 4]).await;
    // A version that is registered later is one of the newest.
    check(Some(Policy::Latest(1)), &[1, 4]).await;
    registered(&server, times(1.009)).await;
    assert_eq!(served(&client, 5).await, [1, 5]);
    check(numbers(&[3, 4]), &[1, 3, 4]).await;

    // What is served is told to clients of the generic protocol.
    let mut oip = GrpcInferenceServiceClient::new(server.endpoint().channel().await);
    let metadata = ModelMetadataRequest { name: "ev-range".to_owned(), version: "3".to_owned() };
    let metadata = oip.model_metadata(metadata).await.expect("answered").into_inner();
    assert_eq!(metadata.versions, ["1", "3", "4"]);
    let index = RepositoryIndexRequest { repository_name: String::new(), ready: true };
    let index = oip.repository_index(index).await.expect("answered").into_inner().models;
    let versions: Vec<_> = index.iter().filter(|it| it.name == "ev-range").map(|it| it.version.as_str()).collect();
    assert_eq!(versions, ["1", "3", "4"]);

    // A version that a policy names is not deleted, and the log tells who said what.
    let kept = client.registry().delete_version("ev-range", 3).await.map_err(Refusal::from).expect_err("refused");
    kept.says(Code::FailedPrecondition, "VERSION_IN_USE", &["version policy"]);
    let shown = client.registry().version_policy("ev-range").await.expect("shown");
    assert!(!shown.is_configured, "{shown:?}");
    let server = TestServer::start_on(server.stop().await, &[("deploy.serve.ev-range", "latest:1")]).await;
    let client = server.client().await;
    assert_eq!(
        served(&client, 5).await,
        [1, 3, 4],
        "what was set goes before what is configured, also after a restart"
    );
    assert_eq!(set(&client, None).await, BTreeMap::from([(1, ready), (5, ready)]));
    let shown = client.registry().version_policy("ev-range").await.expect("shown");
    let latest = VersionPolicy { policy: Some(Policy::Latest(1)) };
    assert_eq!((shown.policy, shown.is_configured), (Some(latest), true));
    server.stop().await;
}

/// Callers go on without a failed request while what is loaded beside production changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_changes_under_load_and_no_request_fails() {
    let server = TestServer::start(&[("deploy.serve.ev-range", "versions:2")]).await;
    let client = server.client().await;
    for version in 2..=3 {
        registered(&server, times(1.0 + f64::from(version) / 1_000.0)).await;
    }
    assert_eq!(served(&client, 3).await, [1, 2], "a policy may name a version before it is registered");
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = Vec::new();
    for reference in ["", "ev-range:1", "ev-range:2"] {
        let (client, stop, asked) = (server.client().await, Arc::clone(&stop), Arc::clone(&asked));
        callers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let version = answers(&client, reference).await.expect("no request fails");
                assert_eq!(version, if reference == "ev-range:2" { 2 } else { 1 });
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for _ in 0..5 {
        set(&client, numbers(&[2, 3])).await;
        assert_eq!(served(&client, 3).await, [1, 2, 3]);
        set(&client, numbers(&[2])).await;
        assert_eq!(served(&client, 3).await, [1, 2]);
    }
    let before = asked.load(Ordering::Relaxed);
    assert_eventually!(asked.load(Ordering::Relaxed) > before, "nobody asks any more");
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no request failed");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_does_not_load_leaves_the_others_alone_and_limits_hold() {
    let limits = [("deploy.policy_versions_max", "2")];
    let server = TestServer::start(&limits).await;
    let client = server.client().await;
    registered(&server, times(1.002)).await;
    let mut broken = times(1.003);
    broken.edit_golden(|golden| golden["cases"][0]["expected"]["q50"] = 1.0.into());
    registered(&server, broken).await;
    let states = set(&client, Some(Policy::Latest(2))).await;
    let expected = [(1, VersionState::Ready), (2, VersionState::Ready), (3, VersionState::Failed)];
    assert_eq!(states, BTreeMap::from(expected));
    let refused = answers(&client, "ev-range:3").await.expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &["golden request 0"]);
    assert_eq!(served(&client, 3).await, [1, 2]);

    // Two versions for all policies together, the newest first; what an alias points at is no matter of theirs.
    registered(&server, times(1.004)).await;
    set(&client, Some(Policy::All(true))).await;
    assert_eq!(served(&client, 4).await, [1, 4]);
    let refused = answers(&client, "ev-range:2").await.expect_err("refused");
    refused.says(Code::NotFound, "VERSION_NOT_SERVED", &["those that are: 1, 4", "deploy.policy_versions_max"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_obeys_signatures() {
    let server = TestServer::start(&[("registry.signatures", "require")]).await;
    let client = server.client().await;
    registered(&server, times(1.002)).await;
    let states = set(&client, Some(Policy::Latest(1))).await;
    assert_eq!(states, BTreeMap::from([(1, VersionState::Ready), (2, VersionState::Failed)]));
    let refused = answers(&client, "ev-range:2").await.expect_err("refused");
    refused.says(Code::FailedPrecondition, "NOT_SERVABLE", &["UNSIGNED"]);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_policy_is_refused_with_what_is_wrong() {
    let server = TestServer::start(&[]).await;
    let registry = ModelRegistryClient::new(server.endpoint().channel().await);
    let check = async |model: &str, policy: Option<Policy>, code: Code, reason: &str, words: &[&str]| {
        let policy = Some(VersionPolicy { policy });
        let request = SetVersionPolicyRequest { model: model.to_owned(), policy };
        let refused = registry.clone().set_version_policy(request).await.map_err(Refusal::from);
        refused.expect_err("refused").says(code, reason, words);
    };
    let invalid = Code::InvalidArgument;
    check("", Some(Policy::All(true)), invalid, "MISSING_FIELD", &["model"]).await;
    check("ev-range", None, invalid, "MISSING_FIELD", &["policy", "`latest`"]).await;
    check("ev-range", Some(Policy::Latest(0)), invalid, "OUT_OF_RANGE", &["policy.latest", "is 0, expected 1 to 64"])
        .await;
    check("ev-range", numbers(&[]), invalid, "OUT_OF_RANGE", &["policy.versions.numbers"]).await;
    check("ev-range", Some(Policy::All(false)), invalid, "OUT_OF_RANGE", &["policy.all", "is false"]).await;
    check("ev-range", numbers(&[7]), Code::NotFound, "NOT_FOUND", &["version 7"]).await;
    check("nonesuch", Some(Policy::All(true)), Code::NotFound, "NOT_FOUND", &["nonesuch"]).await;
    // A refused policy changes nothing.
    let shown = server.client().await.registry().version_policy("ev-range").await.expect("shown");
    assert!(shown.is_configured, "{shown:?}");
    server.stop().await;
}
