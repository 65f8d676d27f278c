//! What each server really serves, as all of them tell it.

use std::time::Duration;

use ev_client::Client;
use ev_proto::ev::{
    outcomes::v1::{CompareRequest, Outcome, ReportRequest, ReportStatus, outcome::Actual},
    range::v1::PredictRequest,
    registry::v1::{Replica, VersionState},
};

use crate::{
    rollouts::{registered, times},
    support::{
        assert_eventually,
        postgres::Postgres,
        process::Evserve,
        server::{TestServer, config},
    },
};

/// The servers, with the version of the range model that is production on each; nothing of what is not ready.
async fn production(client: &Client) -> Vec<(String, bool, Option<u32>)> {
    let replicas = client.registry().list_replicas("ev-range").await.expect("listed");
    let of = |replica: &Replica| {
        let ready = replica.versions.iter().filter(|version| version.state() == VersionState::Ready);
        let mut production = ready.filter(|version| version.aliases.iter().any(|alias| alias == "production"));
        production.next().map(|version| version.version)
    };
    replicas.iter().map(|replica| (replica.address.clone(), replica.stale, of(replica))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_is_seen_on_every_server_and_one_that_ends_is_gone() {
    let Some(postgres) = Postgres::start().await else { return };
    let (url, files) = (postgres.url(), tempfile::tempdir().expect("a temporary directory"));
    let files = files.path().to_str().expect("a path");
    let place = |address| {
        [
            ("registry.database_url", url.as_str()),
            ("registry.artifacts_directory", files),
            ("deploy.advertised_address", address),
        ]
    };
    let (a, b) = (place("a:1"), place("b:2"));
    let (one, other) = tokio::join!(TestServer::start(&a), TestServer::start(&b));
    registered(&one, times(1.002)).await;
    let client = one.client().await;
    let expected = |version| vec![("a:1".to_owned(), false, Some(version)), ("b:2".to_owned(), false, Some(version))];
    assert_eventually!(production(&client).await == expected(1), "{:?}", production(&client).await);
    client.registry().set_alias("ev-range", "production", 2, Some(1)).await.expect("set");
    assert_eventually!(production(&client).await == expected(2), "{:?}", production(&client).await);
    // Both followed what the log tells.
    let replicas = client.registry().list_replicas("").await.expect("listed");
    let head = client.registry().verify_audit_log().await.expect("verified").head_sequence;
    assert!(replicas.iter().all(|replica| replica.revision <= head && replica.revision + 5 > head), "{replicas:?}");
    assert!(replicas.iter().all(|replica| replica.versions.len() > 5 && replica.more_versions == 0), "{replicas:?}");
    let digests: Vec<_> = replicas.iter().map(|replica| replica.versions.iter().map(|it| it.digest.clone())).collect();
    assert!(digests[0].clone().eq(digests[1].clone()), "the same versions");
    other.stop().await;
    assert_eventually!(production(&client).await == expected(2)[..1], "{:?}", production(&client).await);
    one.stop().await;
}

/// In one directory with SQLite, and with a real process that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_is_stale_and_then_forgotten() {
    let overrides = |address| [("deploy.report_interval", "200ms"), ("deploy.advertised_address", address)];
    let directory = tempfile::tempdir().expect("a temporary directory");
    let dead = Evserve::start(directory.path(), &overrides("dead:1")).await;
    let client = dead.endpoint().client().await;
    assert_eventually!(!production(&client).await.is_empty(), "it does not tell");
    dead.kill().await;
    let server = TestServer::start_on(directory, &overrides("living:2")).await;
    let client = server.client().await;
    let stale = |servers: Vec<(String, bool, Option<u32>)>| {
        servers.iter().any(|(address, stale, _)| address == "dead:1" && *stale)
    };
    assert_eventually!(stale(production(&client).await), "{:?}", production(&client).await);
    // Who remembers for less long forgets it with its first report.
    let forgetful = [&overrides("living:2")[..], &[("deploy.forget_replicas", "600ms")]].concat();
    let server = TestServer::start_on(server.stop().await, &forgetful).await;
    let client = server.client().await;
    let alone = || vec![("living:2".to_owned(), false, Some(1))];
    assert_eventually!(production(&client).await == alone(), "{:?}", production(&client).await);
    server.stop().await;
}

#[tokio::test]
async fn a_server_names_its_host_when_nothing_else_is_configured() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(config(directory.path(), &[]).deploy.report_interval, Duration::from_secs(10));
    let server = TestServer::start_on(directory, &[]).await;
    let client = server.client().await;
    let port = format!(":{}", server.endpoint().grpc.port());
    assert_eventually!(!production(&client).await.is_empty(), "it does not tell");
    let replicas = client.registry().list_replicas("").await.expect("listed");
    let [replica] = replicas.as_slice() else { panic!("{replicas:?}") };
    assert!(replica.address.ends_with(&port) && replica.address.len() > port.len(), "{replica:?}");
    assert_eq!(replica.release, env!("CARGO_PKG_VERSION"));
    server.stop().await;
}

/// Who reports need not know which server has answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_may_be_reported_to_any_server() {
    let Some(postgres) = Postgres::start().await else { return };
    let (url, files) = (postgres.url(), tempfile::tempdir().expect("a temporary directory"));
    let files = files.path().to_str().expect("a path");
    let overrides = [
        ("registry.database_url", url.as_str()),
        ("registry.artifacts_directory", files),
        ("predictions.log.share", "1"),
    ];
    let (one, other) = tokio::join!(TestServer::start(&overrides), TestServer::start(&overrides));
    let (client, elsewhere) = (one.client().await, other.client().await);
    assert_eventually!(production(&client).await.len() == 2, "{:?}", production(&client).await);
    let request = PredictRequest { make: "Tesla".to_owned(), model: "Model 3".to_owned(), ..PredictRequest::default() };
    let answer = client.range().predict(request).await.expect("answered");
    let outcome = |actual| Outcome {
        prediction_id: answer.info.as_ref().expect("info").prediction_id.clone(),
        actual: Some(Actual::Number(actual)),
        observed_time: None,
        supersede: false,
    };
    let report = async |client: &Client, outcome: Outcome| {
        let request = ReportRequest { outcomes: vec![outcome], source: "trip computer".to_owned() };
        client.outcomes().report(request).await.expect("reported").results.remove(0)
    };
    let compared = async || {
        let request = CompareRequest { model: "ev-range".to_owned(), ..CompareRequest::default() };
        client.outcomes().compare(request).await.expect("compared").comparisons.remove(0).scored
    };
    assert_eq!(report(&elsewhere, outcome(400.0)).await.status(), ReportStatus::Forwarded);
    assert_eventually!(compared().await == 1, "it is not taken");
    // Again, and with something else: the first one stays.
    assert_eq!(report(&elsewhere, outcome(400.0)).await.status(), ReportStatus::Forwarded);
    assert_eq!(report(&client, outcome(400.0)).await.status(), ReportStatus::AlreadyReported);
    assert_eq!(report(&client, outcome(410.0)).await.status(), ReportStatus::Refused);
    // Alone, nobody is waited for.
    other.stop().await;
    let unknown = Outcome { prediction_id: "01a3f6c2-7d2e-7c41-9b7e-5f0f0c6c1d11".to_owned(), ..outcome(1.0) };
    assert_eventually!(production(&client).await.len() == 1, "it is still known");
    let refused = report(&client, unknown).await;
    assert_eq!(refused.error.expect("refused").reason, "NOT_LOGGED");
    one.stop().await;
}
