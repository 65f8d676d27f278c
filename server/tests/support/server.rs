//! The server in this process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ev_client::{Client, RetryPolicy};
use ev_server::{Config, Server, StartError};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint as TonicEndpoint};

/// A server of one test's own, with a data directory of its own.
pub(crate) struct TestServer {
    server: Server,
    directory: TempDir,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) grpc: SocketAddr,
    pub(crate) telemetry: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// Ports of the system's choice, one serving core, so that many servers run side by side.
pub(crate) fn config(directory: &Path, overrides: &[(&str, &str)]) -> Config {
    let directory = directory.display().to_string();
    let all = [
        ("data.directory", directory.as_str()),
        ("grpc.address", "127.0.0.1:0"),
        ("telemetry.address", "127.0.0.1:0"),
        ("http.address", "127.0.0.1:0"),
        ("grpc.serving_cores", "1"),
        // Many servers run side by side: what gives way to all of them would wait for the last test.
        ("batching.worker_priority", "normal"),
    ];
    let all = all.iter().chain(overrides).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Config::load(None, [], all).expect("a valid configuration")
}

/// Starts a server in a directory.
pub(crate) async fn start_in(directory: &Path, overrides: &[(&str, &str)]) -> Result<Server, StartError> {
    Server::start(config(directory, overrides)).await
}

/// A server for tests that change nothing: started once, used by all of them.
pub(crate) fn shared() -> Endpoint {
    static SHARED: OnceLock<Endpoint> = OnceLock::new();
    *SHARED.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shared-server");
        let _ = fs_err::remove_dir_all(&directory);
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let server = start_in(&directory, &[]).await.expect("the shared server starts");
                sender.send(Endpoint::of(&server)).expect("somebody waits");
                std::future::pending::<()>().await;
            });
        });
        receiver.recv().expect("the shared server starts")
    })
}

// === impl TestServer ===

impl TestServer {
    pub(crate) async fn start(overrides: &[(&str, &str)]) -> TestServer {
        TestServer::start_on(tempfile::tempdir().expect("a temporary directory"), overrides).await
    }

    /// Starts on a data directory that another server used before.
    pub(crate) async fn start_on(directory: TempDir, overrides: &[(&str, &str)]) -> TestServer {
        let server = start_in(directory.path(), overrides).await.expect("the server starts");
        TestServer { server, directory }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::of(&self.server)
    }

    pub(crate) async fn client(&self) -> Client {
        self.endpoint().client().await
    }

    /// Stops, and hands the data directory on.
    pub(crate) async fn stop(self) -> TempDir {
        self.server.stop().await;
        self.directory
    }

    /// The server alone, for tests of how it ends; the directory goes when the guard does.
    pub(crate) fn into_parts(self) -> (Server, TempDir) {
        (self.server, self.directory)
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> &Path {
        self.directory.path()
    }
}

/// Folder of the stored files of a data directory.
pub(crate) fn artifacts(data: &Path) -> PathBuf {
    data.join("registry/artifacts/sha256")
}

// === impl Endpoint ===

impl Endpoint {
    pub(crate) fn of(server: &Server) -> Endpoint {
        Endpoint { grpc: server.grpc_address(), telemetry: server.telemetry_address(), http: server.http_address() }
    }

    /// The real client, without retries: a test wants to see the first answer.
    pub(crate) async fn client(&self) -> Client {
        let client = Client::connect(self.grpc.to_string()).await.expect("the server answers");
        client.with_retry(RetryPolicy::never()).with_deadline(std::time::Duration::from_secs(60))
    }

    /// A connection to the listener of gateways.
    pub(crate) async fn telemetry_channel(&self) -> Channel {
        let endpoint = TonicEndpoint::from_shared(format!("http://{}", self.telemetry)).expect("an address");
        endpoint.connect().await.expect("the server answers")
    }

    /// A connection for generated clients.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = TonicEndpoint::from_shared(format!("http://{}", self.grpc)).expect("an address");
        endpoint.connect().await.expect("the server answers")
    }
}
