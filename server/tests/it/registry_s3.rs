//! Model files in an object store: replicas share them, and serve while it is away.
//!
//! The S3 server is the one that `EVSERVE_TEST_S3` names: `scripts/with-s3.sh cargo test -p ev-server --test it registry_s3`.

use std::{io::Write as _, path::Path};

use ev_client::Code;
use ev_proto::ev::{range::v1::PredictRequest, registry::v1::VersionState};

use crate::{
    rollouts::times,
    support::{
        assert_eventually,
        postgres::Postgres,
        process::{Evserve, free_port, run_in},
        proxy::Proxy,
        refusal::Refusal,
        zoo::Registry,
    },
};

const SERVER: &str = "EVSERVE_TEST_S3";

/// A prefix of its own on the server, and who may read it.
struct S3 {
    server: String,
    key: String,
    secret: String,
    url: String,
}

// === impl S3 ===

impl S3 {
    fn new() -> Option<S3> {
        let Ok(server) = std::env::var(SERVER) else {
            // Said past the test's own output, which nobody sees of a test that passes.
            let _ = writeln!(std::io::stderr(), "skipped: {SERVER} names no S3 server");
            return None;
        };
        let variable = |name: &str| std::env::var(name).expect("with-s3.sh sets it");
        let url = format!("s3://evserve-test/server/{:016x}", fastrand::u64(..));
        let (key, secret) = ("EVSERVE_TEST_S3_ACCESS_KEY_ID", "EVSERVE_TEST_S3_SECRET_ACCESS_KEY");
        Some(S3 { server, key: variable(key), secret: variable(secret), url })
    }

    /// The environment of a server that asks this endpoint.
    fn variables<'a>(&'a self, endpoint: &'a str) -> [(&'a str, &'a Path); 4] {
        [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", &self.key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name, Path::new(value)))
    }
}

/// The version that answers.
async fn serving(server: &Evserve) -> Option<u32> {
    let request = PredictRequest { make: "Tesla".into(), model: "Model 3".into(), ..Default::default() };
    let answer = server.endpoint().client().await.range().predict(request).await.ok()?;
    answer.info.and_then(|info| info.model).map(|model| model.version)
}

async fn upload(server: &Evserve, factor: f64) -> Result<u32, Refusal> {
    let registry = Registry::new(server.endpoint().channel().await);
    let uploaded = times(factor).upload(&registry).await?;
    Ok(uploaded.version.expect("a version").version)
}

async fn promote(server: &Evserve, version: u32, before: u32) {
    let client = server.endpoint().client().await;
    client.registry().set_alias("ev-range", "production", version, Some(before)).await.expect("set");
}

async fn state(server: &Evserve, version: u32) -> Option<VersionState> {
    let client = server.endpoint().client().await;
    let versions = client.registry().list_versions("ev-range").await.expect("listed");
    versions.iter().find(|found| found.version == version).map(|found| found.state())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_registered_on_one_server_serves_on_another_and_while_the_store_is_away() {
    let (Some(postgres), Some(s3)) = (Postgres::start().await, S3::new()) else { return };
    let place = s3.server.strip_prefix("http://").expect("in clear").parse().expect("an address");
    let proxy = Proxy::start(place, Vec::new()).await;
    let through = format!("http://{}", proxy.address);
    let database = postgres.url();
    let overrides = [("registry.database_url", database.as_str()), ("registry.artifacts_url", s3.url.as_str())];
    let directory = || tempfile::tempdir().expect("a temporary directory");
    let (here, there) = (directory(), directory());
    // At the same moment, into an empty store.
    let one = Evserve::spawn_in(&s3.variables(&s3.server), here.path(), &overrides);
    let other = Evserve::spawn_in(&s3.variables(&through), there.path(), &overrides);
    let (one, other) = tokio::join!(one.ready(), other.ready());
    assert_eq!(upload(&one, 1.002).await.expect("registered"), 2);
    promote(&one, 2, 1).await;
    assert_eventually!(serving(&one).await == Some(2) && serving(&other).await == Some(2), "it does not follow");
    let registry = other.endpoint().client().await.registry();
    let verified = registry.verify_version("ev-range:2".parse().expect("a version")).await.expect("answered");
    assert!(verified.ok, "{verified:?}");
    // Both had it all fetched for them, or sent it themselves; what they load lies here.
    let metric = async |name: &str| other.endpoint().metric(&format!("ev_registry_cache_{name}")).await;
    assert!(metric("size_bytes").await > 0.0 && metric("misses_total").await > 0.0 && metric("hits_total").await > 0.0);
    assert_eq!(metric("evicted_total").await, 0.0);
    for data in [&here, &there] {
        assert!(!data.path().join("registry/artifacts").exists(), "files are elsewhere");
        assert!(data.path().join("registry/cache/sha256").exists());
    }

    // A death, and a start without the store: what is on the disk is served.
    other.kill().await;
    proxy.lead_to(([127, 0, 0, 1], free_port()).into());
    let other = Evserve::spawn_in(&s3.variables(&through), there.path(), &overrides).ready().await;
    assert_eventually!(serving(&other).await == Some(2), "it does not serve what it has");
    let warned = |words: &str| {
        let says =
            |line: &serde_json::Value| line["fields"]["message"].as_str().is_some_and(|text| text.contains(words));
        other.logs().iter().any(says)
    };
    assert!(warned("the artifact store does not answer"), "{:#?}", other.logs());
    let refused = upload(&other, 1.003).await.expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "STORE_UNREACHABLE"));
    assert!(refused.message.contains(&s3.url), "{refused:?}");
    // What it has not, it is without for as long, and answers as before.
    assert_eq!(upload(&one, 1.004).await.expect("registered"), 3);
    promote(&one, 3, 2).await;
    assert_eventually!(serving(&one).await == Some(3), "it does not serve");
    assert_eventually!(warned("the files of a model version cannot be had for now"), "{:#?}", other.logs());
    assert_eq!((serving(&other).await, state(&other, 3).await), (Some(2), Some(VersionState::Loading)));
    proxy.lead_to(place);
    assert_eventually!(serving(&other).await == Some(3), "it does not fetch: {:#?}", other.logs());
    assert_eq!(upload(&other, 1.003).await.expect("registered"), 4);
    let secret = s3.secret.as_str();
    assert!(!format!("{:?}", other.logs()).contains(secret), "a secret is logged");
    other.kill().await;

    // Copies that were damaged are had anew, whoever takes their digests.
    damage(&there.path().join("registry/cache/sha256"));
    let other = Evserve::spawn_in(&s3.variables(&through), there.path(), &overrides).ready().await;
    assert_eq!((serving(&other).await, state(&other, 3).await), (Some(3), Some(VersionState::Ready)));
    assert!(other.endpoint().metric("ev_registry_cache_misses_total").await > 1.0);
    other.kill().await;
    one.kill().await;
}

/// Puts other bytes in every file's place.
fn damage(copies: &Path) {
    for folder in fs_err::read_dir(copies).expect("copies").flatten() {
        for file in fs_err::read_dir(folder.path()).expect("a folder").flatten() {
            fs_err::remove_file(file.path()).expect("removed");
            fs_err::write(file.path(), "weeds").expect("written");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_used_ends_the_start_with_what_to_correct() {
    let Some(s3) = S3::new() else { return };
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let bucket = s3.url.clone();
    let check = async |url: &str, variables: [(&str, &Path); 4], expected: &[&str]| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (data, setting) = (directory.path().to_str().expect("a path"), format!("registry.artifacts_url={url}"));
        let ports = ["grpc.address", "telemetry.address", "http.address"].map(|name| format!("{name}=127.0.0.1:0"));
        let mut arguments = vec!["serve", "--data-directory", data, "--set", &setting];
        arguments.extend(ports.iter().flat_map(|port| ["--set", port.as_str()]));
        let output = run_in(&variables, &arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(expected.iter().all(|words| said.contains(words)) && !said.contains(&s3.secret), "{said}");
    };
    let advice = "correct `registry.artifacts_url`, or the AWS_* variables of the environment";
    let good = s3.variables(&s3.server);
    check("s3://no-such-bucket", good, &["the artifact store s3://no-such-bucket cannot be used", advice]).await;
    let mut wrong = good;
    wrong[2].1 = Path::new("wrong");
    check(&bucket, wrong, &[advice, "the credentials are not taken; check AWS_ACCESS_KEY_ID"]).await;
    // There is something new to put into it.
    check(&bucket, s3.variables(&nowhere), &[advice, "does not answer"]).await;
    check("s3://", good, &["registry.artifacts_url is `s3://`, expected s3://bucket or s3://bucket/prefix"]).await;
}
