//! A server of the test's own: started on some processors, asked for its memory, killed.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Longest wait for a server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where and how a server runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The program `evserve`.
    pub program: PathBuf,
    /// Its processors, as `taskset -c` takes them; empty: all.
    pub processors: String,
    /// Further settings, as `--set` takes them.
    pub settings: Vec<String>,
}

/// The server cannot be started or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It cannot be run.
    #[error("cannot run `{program}`")]
    Run {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended, or did not become ready.
    #[error("the server is not ready: {0}")]
    NotReady(String),
    /// What the system says of it cannot be read.
    #[error("cannot read `{0}` of the server")]
    Unreadable(&'static str, #[source] std::io::Error),
}

/// A running server with an empty data directory; killed and forgotten when dropped.
pub(super) struct Server {
    child: Child,
    grpc: SocketAddr,
    _data: TempDir,
}

/// What a server holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Memory {
    /// `VmRSS`.
    pub(super) resident: u64,
    /// `Pss`: pages that others hold too count in part.
    pub(super) proportional: u64,
}

// === impl Server ===

impl Server {
    /// Starts `evserve serve` without the bundled models on one serving thread, and waits until it is ready.
    pub(super) fn start(place: &Place) -> Result<Server, ServerError> {
        let run = |source| ServerError::Run { program: place.program.display().to_string(), source };
        let data = tempfile::tempdir().map_err(run)?;
        let (grpc, telemetry, http) = (free_address(), free_address(), free_address());
        let (grpc, telemetry, http) = (grpc.map_err(run)?, telemetry.map_err(run)?, http.map_err(run)?);
        let mut command = if place.processors.is_empty() {
            Command::new(&place.program)
        } else {
            let mut command = Command::new("taskset");
            command.args(["-c", &place.processors]).arg(&place.program);
            command
        };
        let fixed = ["grpc.serving_cores=1", "observability.log=error", "data.bundled_models=false"];
        let settings = fixed.into_iter().chain(place.settings.iter().map(String::as_str));
        let child = command
            .args(["serve", "--grpc-address", &grpc.to_string(), "--http-address", &http.to_string()])
            .args(["--telemetry-address", &telemetry.to_string()])
            .args(settings.flat_map(|setting| ["--set", setting]))
            .arg("--data-directory")
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(run)?;
        let mut server = Server { child, grpc, _data: data };
        server.wait(http)?;
        Ok(server)
    }

    /// Where it serves gRPC.
    pub(super) fn address(&self) -> String {
        self.grpc.to_string()
    }

    /// Processor time that its living threads have used.
    pub(super) fn used(&self) -> Result<Duration, ServerError> {
        let unreadable = |error| ServerError::Unreadable("schedstat", error);
        let mut used = Duration::ZERO;
        for entry in fs_err::read_dir(format!("/proc/{}/task", self.child.id())).map_err(unreadable)? {
            // A thread may end while its folder is read.
            let Ok(stat) = fs_err::read_to_string(entry.map_err(unreadable)?.path().join("schedstat")) else {
                continue;
            };
            let ns = stat.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0);
            used += Duration::from_nanos(ns);
        }
        Ok(used)
    }

    /// What it holds now.
    pub(super) fn memory(&self) -> Result<Memory, ServerError> {
        let read = |file: &'static str, field: &str| {
            let unreadable = |error| ServerError::Unreadable(file, error);
            let text = fs_err::read_to_string(format!("/proc/{}/{file}", self.child.id())).map_err(unreadable)?;
            let line = text.lines().find_map(|line| line.strip_prefix(field));
            let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            kib.map(|kib| kib * 1024).ok_or_else(|| unreadable(std::io::ErrorKind::InvalidData.into()))
        };
        Ok(Memory { resident: read("status", "VmRSS:")?, proportional: read("smaps_rollup", "Pss:")? })
    }

    fn wait(&mut self, http: SocketAddr) -> Result<(), ServerError> {
        let end = Instant::now() + PATIENCE;
        while !is_ready(http) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(ServerError::NotReady(format!("it ended: {status}")));
            }
            if Instant::now() > end {
                return Err(ServerError::NotReady(format!("it was waited for {PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn is_ready(http: SocketAddr) -> bool {
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(http)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    asked().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
