//! The real server, where it has been built: `EVSERVE_BIN`, or `evserve` beside `evctl`.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// A server with the bundled models and a temporary data directory.
pub(crate) struct RealServer {
    pub(crate) url: String,
    /// Where it takes readings in.
    pub(crate) ingest: String,
    child: Child,
}

// === impl RealServer ===

impl RealServer {
    /// Starts it; `None`, and a message, where there is none to start.
    pub(crate) fn start() -> Option<RealServer> {
        RealServer::start_with(&[])
    }

    /// As [`RealServer::start`], with settings such as `("EVSERVE_ALERTS__LIFE__LOWER_AFTER", "1s")`.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Option<RealServer> {
        let mut command = Command::new(program()?);
        command
            .args(["demo", "--vehicles", "0"])
            .envs(settings.iter().copied())
            .env("EVSERVE_GRPC__ADDRESS", "127.0.0.1:0")
            .env("EVSERVE_TELEMETRY__ADDRESS", "127.0.0.1:0");
        Some(RealServer::run(command))
    }

    /// Starts it on a data directory and ports of its caller's, so that it can be killed and started again.
    pub(crate) fn start_on(
        directory: &Path,
        grpc: SocketAddr,
        ingest: SocketAddr,
        settings: &[(&str, &str)],
    ) -> Option<RealServer> {
        let mut command = Command::new(program()?);
        command
            .arg("serve")
            .envs(settings.iter().copied())
            .env("EVSERVE_DATA__DIRECTORY", directory)
            .env("EVSERVE_GRPC__ADDRESS", grpc.to_string())
            .env("EVSERVE_TELEMETRY__ADDRESS", ingest.to_string());
        Some(RealServer::run(command))
    }

    fn run(mut command: Command) -> RealServer {
        let mut child = command
            .env("EVSERVE_HTTP__ADDRESS", "127.0.0.1:0")
            .env("EVSERVE_OBSERVABILITY__LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("evserve starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find(|line| line.to_string().contains("evserve ready"))
            .expect("evserve becomes ready");
        let url = |name: &str| format!("http://{}", find(&ready, name).expect("evserve says where it listens"));
        let (url, ingest) = (url("grpc"), url("telemetry"));
        // Its log must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        RealServer { url, ingest, child }
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn program() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_evctl")).with_file_name("evserve");
    let program = env::var_os("EVSERVE_BIN").map_or(beside, PathBuf::from);
    if program.is_file() {
        return Some(program);
    }
    eprintln!("skipped: {} has not been built; build it, or set EVSERVE_BIN", program.display());
    None
}

/// A text field, wherever the log's layout has it.
fn find(value: &Value, key: &str) -> Option<String> {
    let object = value.as_object()?;
    let here = object.get(key).and_then(Value::as_str).map(str::to_owned);
    here.or_else(|| object.values().find_map(|inner| find(inner, key)))
}
