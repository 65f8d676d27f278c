//! The registry in PostgreSQL: replicas follow each other, and serve while the database is away.

use std::time::{Duration, Instant};

use ev_client::Code;
use ev_proto::ev::{
    range::v1::PredictRequest,
    registry::v1::{SetAliasRequest, VerifyAuditLogRequest},
};

use crate::support::{
    assert_eventually,
    postgres::Postgres,
    refusal::Refusal,
    server::{TestServer, start_in},
    zoo::{Model, Registry},
};

/// In which replicas shall follow.
const WITHIN: Duration = Duration::from_secs(1);

async fn registry(server: &TestServer) -> Registry {
    Registry::new(server.endpoint().channel().await)
}

fn production(version: u32, expected: u32) -> SetAliasRequest {
    let (model, alias) = ("ev-range".into(), "production".into());
    SetAliasRequest { model, alias, version, expected_version: Some(expected) }
}

/// The version that answers.
async fn serving(server: &TestServer) -> Option<u32> {
    let request = PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() };
    let answer = server.client().await.range().predict(request).await.expect("answered");
    answer.info.and_then(|info| info.model).map(|model| model.version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_follow_within_a_second_and_serve_while_the_database_is_away() {
    let Some(postgres) = Postgres::start().await else { return };
    let (url, files) = (postgres.url(), tempfile::tempdir().expect("a temporary directory"));
    let files = files.path().to_str().expect("a path");
    let overrides =
        [("registry.database_url", url.as_str()), ("registry.artifacts_directory", files), ("telemetry.credit", "16")];
    // At the same moment, in an empty database.
    let (one, other, third) =
        tokio::join!(TestServer::start(&overrides), TestServer::start(&overrides), TestServer::start(&overrides));
    let (mut registry_one, mut registry_other) = (registry(&one).await, registry(&other).await);
    Model::of("ev-range").upload(&registry_one).await.expect("registered");
    let mut fastest = Duration::MAX;
    for (version, before) in [(2, 1), (1, 2), (2, 1)] {
        registry_one.set_alias(production(version, before)).await.expect("set");
        let moved = Instant::now();
        for replica in [&one, &other, &third] {
            assert_eventually!(serving(replica).await == Some(version), "it does not follow");
        }
        fastest = fastest.min(moved.elapsed());
    }
    // Of three: what others do with this machine's processors meanwhile is not the server's.
    assert!(fastest < WITHIN, "{fastest:?}");
    // Of two operators that saw the same, one wins, whomever they ask.
    let (first, second) =
        tokio::join!(registry_one.set_alias(production(1, 2)), registry_other.set_alias(production(1, 2)));
    assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1);

    for replica in [&one, &other, &third] {
        assert_eventually!(serving(replica).await == Some(1), "it does not follow");
    }
    postgres.stop("immediate").await;
    for replica in [&one, &other, &third] {
        assert_eventually!(serving(replica).await == Some(1), "it does not serve");
    }
    let refused = registry_one.set_alias(production(2, 1)).await.map_err(Refusal::from).expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "STORE_UNREACHABLE"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    postgres.start_again().await;
    let mut moved = registry_other.set_alias(production(2, 1)).await;
    assert_eventually!(
        {
            if moved.is_err() {
                moved = registry_other.set_alias(production(2, 1)).await;
            }
            moved.is_ok()
        },
        "it does not come back: {moved:?}"
    );
    for replica in [&one, &other, &third] {
        assert_eventually!(serving(replica).await == Some(2), "it does not follow");
    }
    let verified = registry_one.verify_audit_log(VerifyAuditLogRequest {}).await.expect("answered").into_inner();
    assert!(verified.ok, "{verified:?}");
    for server in [one, other, third] {
        let directory = server.stop().await;
        assert!(!directory.path().join("registry/registry.db").exists(), "nothing of it is in the data directory");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_one_directory_follow_each_other() {
    let server = TestServer::start(&[]).await;
    let registry = ev_registry::RegistryConfig::new(server.data().join("registry"));
    let registry = ev_registry::Registry::open(&registry).await.expect("opened by another process");
    let canary = ev_registry::AliasChange::set("ev-range", "canary", 1, ev_registry::ExpectedVersion::Absent);
    registry.move_alias(&canary, 0).await.expect("moved");
    let moved = Instant::now();
    let client = server.client().await;
    let request = || {
        use ev_proto::ev::common::v1::{ModelSelector, model_selector::VersionChoice};
        let version_choice = Some(VersionChoice::Alias("canary".into()));
        let model_selector = Some(ModelSelector { name: String::new(), version_choice });
        PredictRequest { make: "Tesla".into(), model: "Model 3".into(), model_selector, ..Default::default() }
    };
    assert_eventually!(client.range().predict(request()).await.is_ok(), "it does not follow");
    assert!(moved.elapsed() < WITHIN, "{:?}", moved.elapsed());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_or_is_none_is_named_at_the_start() {
    let Some(postgres) = Postgres::start().await else { return };
    let url = postgres.url();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let refused = async |url: &str, wait: &str| {
        let overrides = [("registry.database_url", url), ("registry.database_wait", wait)];
        let error = start_in(directory.path(), &overrides).await.err().expect("refused");
        let mut told = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            told = format!("{told}: {error}");
            source = error.source();
        }
        assert!(!told.contains("secret"), "{told}");
        told
    };
    // What waiting does not change is told at once.
    let told = refused(&format!("{}/nonesuch", url.trim_end_matches("/postgres")), "1h").await;
    for word in ["evserve:***@127.0.0.1", "registry.database_url", "\"nonesuch\" does not exist"] {
        assert!(told.contains(word), "`{word}` in {told}");
    }
    postgres.stop("fast").await;
    let told = refused(&url, "500ms").await;
    for word in ["did not answer for 500ms", "registry.database_url", "registry.database_wait", "efused"] {
        assert!(told.contains(word), "`{word}` in {told}");
    }
}
