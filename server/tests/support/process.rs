//! The real program: signals, exit codes, and deaths.

use std::{
    ffi::OsStr,
    path::Path,
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};

use super::server::Endpoint;

/// A running `evserve serve`; killed when dropped.
pub(crate) struct Evserve {
    child: Child,
    logs: Arc<Mutex<Vec<serde_json::Value>>>,
    ready: watch::Receiver<Option<Endpoint>>,
}

fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evserve"));
    // The environment of whoever runs the tests is no part of them.
    command.env_clear().args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command that ends by itself.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    run_in(&[], arguments).await
}

/// As [`run`], with variables in its environment.
pub(crate) async fn run_in(environment: &[(&str, &Path)], arguments: &[&str]) -> Output {
    command(arguments).envs(environment.iter().copied()).output().await.expect("evserve runs")
}

/// A port below those that the system gives to whoever asks for any: between a death and the next start nobody takes it.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..30_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

// === impl Evserve ===

impl Evserve {
    /// Starts, and returns before it is ready; with the configuration file `evserve.toml` in the directory, if there is one.
    pub(crate) fn spawn(directory: &Path, overrides: &[(&str, &str)]) -> Evserve {
        Evserve::spawn_in(&[], directory, overrides)
    }

    /// As [`Evserve::spawn`], with variables in its environment.
    pub(crate) fn spawn_in(environment: &[(&str, &Path)], directory: &Path, overrides: &[(&str, &str)]) -> Evserve {
        let mut arguments = vec!["serve".to_owned(), "--data-directory".to_owned(), directory.display().to_string()];
        let fixed = [
            ("grpc.address", "127.0.0.1:0"),
            ("telemetry.address", "127.0.0.1:0"),
            ("http.address", "127.0.0.1:0"),
            ("grpc.serving_cores", "1"),
            ("batching.worker_priority", "normal"),
            ("observability.log_format", "json"),
        ];
        let file = directory.join("evserve.toml");
        if file.is_file() {
            arguments.extend(["--config".to_owned(), file.display().to_string()]);
        }
        for (key, value) in fixed.iter().chain(overrides) {
            arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        let mut command = command(arguments);
        command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("evserve runs");
        let logs = Arc::new(Mutex::new(Vec::new()));
        let (sender, ready) = watch::channel(None);
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        tokio::spawn(collect(lines, Arc::clone(&logs), sender));
        Evserve { child, logs, ready }
    }

    /// Starts and waits until it serves.
    pub(crate) async fn start(directory: &Path, overrides: &[(&str, &str)]) -> Evserve {
        Evserve::spawn(directory, overrides).ready().await
    }

    /// Waits until it serves.
    pub(crate) async fn ready(mut self) -> Evserve {
        let ready = self.ready.wait_for(Option::is_some).await.is_ok();
        assert!(ready, "evserve did not start: {:#?}", self.logs());
        self
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.ready.borrow().expect("ready")
    }

    /// SIGTERM.
    pub(crate) async fn terminate(&self) {
        let id = self.child.id().expect("running").to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill");
        assert!(sent.success());
    }

    /// SIGKILL, and the end.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Waits for the end.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        self.child.wait().await.expect("waited for")
    }

    /// What it logged so far.
    pub(crate) fn logs(&self) -> Vec<serde_json::Value> {
        self.logs.lock().expect("no panic").clone()
    }
}

async fn collect(
    lines: BufReader<tokio::process::ChildStderr>,
    logs: Arc<Mutex<Vec<serde_json::Value>>>,
    ready: watch::Sender<Option<Endpoint>>,
) {
    let mut lines = lines.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| line.clone().into());
        if line["fields"]["message"] == "evserve ready" {
            let address = |name: &str| line["fields"][name].as_str().and_then(|text| text.parse().ok());
            let addresses = (address("grpc"), address("telemetry"), address("http"));
            if let (Some(grpc), Some(telemetry), Some(http)) = addresses {
                ready.send_replace(Some(Endpoint { grpc, telemetry, http }));
            }
        }
        logs.lock().expect("no panic").push(line);
    }
}
