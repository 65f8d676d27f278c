//! Uploads that are cut off, by the network and by the server's death, and go on.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use ev_client::{Client, Code, Config, UploadEvent};
use ev_models_core::Digest;
use ev_proto::ev::registry::v1::{
    FileChunk, GetUploadRequest, GetVersionRequest, RegisterVersionRequest, RegisterVersionResponse, UploadFile,
    UploadStart, get_version_request, register_version_request::Part,
};
use tempfile::TempDir;

use crate::support::{
    assert_eventually,
    process::Evserve,
    proxy::{Fate, Proxy},
    refusal::Refusal,
    server::{TestServer, shared},
    zoo::{Model, Registry, upload},
};

/// Bytes of the model card that makes a version large.
const CARD_BYTES: usize = 6 << 20;

/// What an upload said of itself.
#[derive(Debug, Default, Clone)]
struct Told {
    interrupted: usize,
    resumed: Vec<u64>,
    last_sent: u64,
}

/// A version's directory, with a card that takes a while to send.
fn directory(name: &str) -> TempDir {
    let model = Model::named_as("charging-utilization", name);
    let directory = tempfile::tempdir().expect("a directory");
    fs_err::write(directory.path().join("manifest.toml"), model.manifest_toml()).expect("written");
    for (path, bytes) in &model.files {
        fs_err::write(directory.path().join(path), bytes).expect("written");
    }
    let mut random = fastrand::Rng::with_seed(11);
    let card: Vec<u8> = b"# A card".iter().copied().chain((0..CARD_BYTES).map(|_| random.u8(..))).collect();
    fs_err::write(directory.path().join("README.md"), card).expect("written");
    directory
}

fn total_bytes(directory: &Path) -> u64 {
    let sizes =
        fs_err::read_dir(directory).expect("listed").flatten().map(|entry| entry.metadata().expect("seen").len());
    let manifest = fs_err::metadata(directory.join("manifest.toml")).expect("seen").len();
    sizes.sum::<u64>() - manifest
}

fn client(address: std::net::SocketAddr) -> Client {
    // A busy machine may be slow to start a server again.
    let config = Config { upload_patience: Duration::from_secs(240), ..Config::default() };
    Client::lazy(address.to_string(), config).expect("an address")
}

async fn register(client: &Client, directory: &Path) -> (Result<RegisterVersionResponse, ev_client::Error>, Told) {
    let told = Arc::new(Mutex::new(Told::default()));
    let listener = Arc::clone(&told);
    let result = client
        .registry()
        .register_directory(directory, move |event| {
            let mut told = listener.lock().expect("no panic");
            match event {
                UploadEvent::Sent(progress) => told.last_sent = progress.sent_bytes,
                UploadEvent::Resumed { received_bytes, .. } => told.resumed.push(received_bytes),
                UploadEvent::Interrupted { .. } => told.interrupted += 1,
                _ => {}
            }
        })
        .await;
    let told = told.lock().expect("no panic").clone();
    (result, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_wherever_its_connections_are_cut() {
    let server = TestServer::start(&[("data.bundled_models", "false")]).await;
    let directory = directory("resumed");
    let fates: Vec<Fate> = (0..6).map(|_| Fate::Cut(fastrand::u64(100..1 << 20))).collect();
    let proxy = Proxy::start(server.endpoint().grpc, fates.clone()).await;
    let (registered, told) = register(&client(proxy.address), directory.path()).await;
    let registered = registered.unwrap_or_else(|error| panic!("{error}; {fates:?}; {told:?}"));
    assert!(registered.created);
    assert_eq!(told.interrupted, fates.len(), "{fates:?}; {told:?}");
    assert!(told.resumed.is_sorted(), "nothing that had come was lost: {told:?}");
    let total = total_bytes(directory.path());
    assert_eq!(told.last_sent, total);
    // What went twice was on its way when a connection was cut: less than buffers hold.
    let passed = proxy.passed();
    assert!(passed < total + total / 2, "{passed} bytes went for {total}; {told:?}");
    let registry = server.client().await.registry();
    let verified = registry.verify_version("resumed:1".parse().expect("a version")).await;
    assert!(verified.expect("verified").ok);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_after_the_server_was_killed() {
    let data = tempfile::tempdir().expect("a directory");
    let overrides = [("data.bundled_models", "false")];
    let evserve = Evserve::start(data.path(), &overrides).await;
    let directory = directory("resumed");
    let stalls = vec![Fate::Stall(1 << 20), Fate::Stall(2 << 20)];
    let mut proxy = Proxy::start(evserve.endpoint().grpc, stalls).await;
    let client = client(proxy.address);
    let path = directory.path().to_owned();
    let mut uploading = tokio::spawn(async move { register(&client, &path).await });
    let mut evserve = evserve;
    for death in 1..=2 {
        tokio::select! {
            () = proxy.met(death) => {}
            ended = &mut uploading => panic!("it ended before death {death}: {ended:?}"),
        }
        evserve.kill().await;
        evserve = Evserve::start(data.path(), &overrides).await;
        let mut registry = Registry::new(evserve.endpoint().channel().await);
        let request = GetVersionRequest {
            model: "resumed".into(),
            version_choice: Some(get_version_request::VersionChoice::Version(1)),
        };
        let seen = registry.get_version(request).await.map_err(Refusal::from).expect_err("half a version");
        seen.says(Code::NotFound, "NOT_FOUND", &[]);
        proxy.lead_to(evserve.endpoint().grpc);
    }
    let (registered, told) = uploading.await.expect("no panic");
    let version = registered.unwrap_or_else(|error| panic!("{error}; {told:?}")).version.expect("a version");
    assert_eq!(version.version, 1);
    assert!(told.interrupted >= 2 && told.resumed.iter().any(|received| *received > 1 << 20), "{told:?}");
    let verified =
        evserve.endpoint().client().await.registry().verify_version("resumed:1".parse().expect("a version")).await;
    assert!(verified.expect("verified").ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_may_upload_the_same_version_at_once() {
    let server = TestServer::start(&[("data.bundled_models", "false")]).await;
    let directory = directory("twice");
    let (one, two) = (client(server.endpoint().grpc), client(server.endpoint().grpc));
    let (one, two) = tokio::join!(register(&one, directory.path()), register(&two, directory.path()));
    let (one, two) = (one.0.expect("registered"), two.0.expect("registered"));
    assert_eq!(one.version.map(|version| version.version), Some(1));
    assert_eq!(two.version.map(|version| version.version), Some(1));
    assert!(one.created != two.created);
    // Once more: nothing is left to send.
    let (again, told) = register(&client(server.endpoint().grpc), directory.path()).await;
    assert!(!again.expect("registered").created);
    assert_eq!((told.resumed, told.last_sent), (vec![total_bytes(directory.path())], 0));
    server.stop().await;
}

fn start(model: &Model) -> UploadStart {
    let file = |(path, bytes): (&String, &Vec<u8>)| UploadFile {
        path: path.clone(),
        sha256: Digest::of(bytes).to_string(),
        size_bytes: bytes.len() as u64,
    };
    UploadStart { manifest_toml: model.manifest_toml(), files: model.files.iter().map(file).collect() }
}

fn message(part: Part) -> RegisterVersionRequest {
    RegisterVersionRequest { part: Some(part) }
}

fn piece(path: &str, offset_bytes: u64, data: &[u8]) -> RegisterVersionRequest {
    message(Part::Chunk(FileChunk { path: path.into(), data: data.to_vec(), offset_bytes }))
}

async fn refused(parts: Vec<RegisterVersionRequest>) -> Refusal {
    upload(&Registry::new(shared().channel().await), parts).await.expect_err("refused")
}

#[tokio::test]
async fn what_is_wrong_with_an_upload_is_told_at_its_start() {
    let model = Model::named_as("charging-utilization", "refused-at-start");
    let check = async |change: fn(&mut UploadStart), code, reason, words: &[&str]| {
        let mut start = start(&model);
        change(&mut start);
        refused(vec![message(Part::Start(start))]).await.says(code, reason, words);
    };
    let invalid = Code::InvalidArgument;
    check(
        |start| start.files[0].sha256 = "md5:0".into(),
        invalid,
        "INVALID_DIGEST",
        &["start.files[0].sha256", "is `md5:0`"],
    )
    .await;
    check(
        |start| start.files[1].size_bytes = 10 << 30,
        Code::ResourceExhausted,
        "TOO_LARGE",
        &["has more than 536870912 bytes"],
    )
    .await;
    check(|start| drop(start.files.pop()), invalid, "MISSING_FILE", &["is named by the manifest and missing"]).await;
    check(|start| start.files[0].path = "../golden.json".into(), invalid, "UNKNOWN_FILE", &["../golden.json"]).await;
    check(|start| start.manifest_toml = "= =".into(), invalid, "INVALID_MANIFEST", &[]).await;
    check(|start| start.files.push(start.files[0].clone()), invalid, "OUT_OF_ORDER", &[]).await;
}

#[tokio::test]
async fn pieces_that_do_not_fit_are_told() {
    let mut model = Model::named_as("charging-utilization", "refused-pieces");
    // What is stored already would be passed over.
    model.files.values_mut().for_each(|bytes| bytes.push(b' '));
    let begin = || message(Part::Start(start(&model)));
    let gap = refused(vec![begin(), piece("point.ubj", 5, b"x")]).await;
    gap.says(Code::Aborted, "UPLOAD_GAP", &["bytes 0 to 5 of `point.ubj` have not come"]);
    refused(vec![begin(), begin()]).await.is_field("OUT_OF_ORDER", "start", "comes once, in the first message");
    let early = refused(vec![begin()]).await;
    early.says(Code::Aborted, "UPLOAD_GAP", &["have not come"]);
    let plain = refused(vec![model.first(), piece("point.ubj", 5, b"x")]).await;
    let words = "is 5, expected none: only uploads that begin with `start` have it";
    plain.is_field("OUT_OF_ORDER", "chunk.offset_bytes", words);
    let files = start(&model).files;
    let request = GetUploadRequest { files: vec![UploadFile { sha256: "x".into(), ..files[0].clone() }] };
    let mut registry = Registry::new(shared().channel().await);
    let asked = registry.get_upload(request).await.map_err(Refusal::from).expect_err("refused");
    asked.is_field("INVALID_DIGEST", "files[0].sha256", "is `x`, expected `sha256:` and 64 hex digits");
}

#[tokio::test]
async fn wrong_bytes_of_another_are_no_end_of_the_right_upload() {
    let server = TestServer::start(&[("data.bundled_models", "false")]).await;
    let directory = directory("poisoned");
    let model = Model::named_as("charging-utilization", "poisoned");
    let card = fs_err::read(directory.path().join("README.md")).expect("read");
    let mut begin = start(&model);
    let sha256 = Digest::of(&card).to_string();
    begin.files.push(UploadFile { path: "README.md".into(), sha256, size_bytes: card.len() as u64 });
    let registry = Registry::new(server.endpoint().channel().await);
    let wrong = upload(&registry, vec![message(Part::Start(begin)), piece("README.md", 0, b"# Another")]).await;
    wrong.expect_err("not all has come").says(Code::Aborted, "UPLOAD_GAP", &[]);
    let (registered, told) = register(&client(server.endpoint().grpc), directory.path()).await;
    assert!(registered.expect("registered").created);
    assert_eq!((told.interrupted, told.resumed.first()), (1, Some(&9)));
    server.stop().await;
}

#[tokio::test]
async fn uploads_that_were_cut_off_are_on_metrics() {
    let server = TestServer::start(&[("data.bundled_models", "false"), ("registry.staged_files_max", "256")]).await;
    let endpoint = server.endpoint();
    let staged = async || {
        let files = endpoint.metric("ev_registry_staged_files").await;
        (files, endpoint.metric("ev_registry_staged_size_bytes").await)
    };
    let displaced = async || endpoint.metric("ev_registry_staged_swept_total{reason=\"displaced\"}").await;
    let resumed = async || endpoint.metric("ev_registry_uploads_resumed_total").await;
    assert_eq!((staged().await, displaced().await, resumed().await), ((0.0, 0.0), 0.0, 0.0));
    assert_eq!(endpoint.metric("ev_registry_staged_swept_total{reason=\"given_up\"}").await, 0.0);

    // Others gave up long ago, and with them there is no room for all of it.
    let partial = server.data().join("registry/artifacts/partial");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(1_200);
    for upload in 0..254 {
        let name = format!("{}.7", Digest::of(format!("{upload}").as_bytes()).hex());
        let file = fs_err::File::create_new(partial.join(name)).expect("a file");
        file.file().set_modified(long_ago).expect("modified");
    }
    let model = Model::named_as("charging-utilization", "measured");
    let registry = Registry::new(endpoint.channel().await);
    let begin = || message(Part::Start(start(&model)));
    let cut_off = upload(&registry, vec![begin(), piece("point.ubj", 0, &model.files["point.ubj"][..100])]).await;
    cut_off.expect_err("not all has come").says(Code::Aborted, "UPLOAD_GAP", &[]);
    let size: u64 = start(&model).files.iter().map(|file| file.size_bytes).sum();
    let bytes = f64::from(u32::try_from(size).expect("small")) + 253.0 * 7.0;
    assert_eventually!(staged().await == (256.0, bytes), "{:?}", staged().await);
    assert_eq!((displaced().await, resumed().await), (1.0, 0.0));

    // What is whole is no upload any more, which is seen at the next look.
    let pieces = model.files.iter().map(|(path, bytes)| piece(path, 0, bytes));
    let registered = upload(&registry, std::iter::once(begin()).chain(pieces).collect()).await;
    assert!(registered.expect("registered").created);
    assert_eq!(resumed().await, 1.0);
    assert_eventually!(staged().await == (253.0, 253.0 * 7.0), "{:?}", staged().await);
    server.stop().await;
}
