//! A server as a process: started, asked for its use of processors and memory, killed.

use std::{
    ffi::OsStr,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// Longest wait for a server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a server runs.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Processors, as `taskset -c` takes them.
    pub processors: String,
    /// Serving threads.
    pub cores: usize,
}

/// A running server; killed when dropped.
pub struct Process {
    child: Child,
    grpc: SocketAddr,
    telemetry: SocketAddr,
}

// === impl Process ===

impl Process {
    /// Starts `evserve serve` with the bundled models, and waits until it is ready; the time that took is the second value.
    ///
    /// # Errors
    ///
    /// When the program is missing, ends, or does not become ready.
    pub fn evserve(place: &Placement, data: &Path) -> anyhow::Result<(Process, Duration)> {
        Process::evserve_with(place, data, &[])
    }

    /// The same with settings, each as `--set` takes it.
    ///
    /// # Errors
    ///
    /// As [`Process::evserve`].
    pub fn evserve_with(place: &Placement, data: &Path, settings: &[String]) -> anyhow::Result<(Process, Duration)> {
        let (grpc, telemetry, http) = (free_address()?, free_address()?, free_address()?);
        let started = Instant::now();
        let child = pinned(&place.processors, &sibling("evserve")?)
            .args(["serve", "--grpc-address", &grpc.to_string(), "--http-address", &http.to_string()])
            .args(["--telemetry-address", &telemetry.to_string()])
            .args(["--set", &format!("grpc.serving_cores={}", place.cores), "--set", "observability.log=error"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .arg("--data-directory")
            .arg(data)
            .stdout(Stdio::null())
            .spawn()?;
        let mut process = Process { child, grpc, telemetry };
        process.wait(|| is_ready(http))?;
        Ok((process, started.elapsed()))
    }

    /// Registers the model in a folder and makes it `production`; nothing happens where it is that already.
    ///
    /// # Errors
    ///
    /// What `evctl models import` says.
    pub fn import(&self, model: &Path) -> anyhow::Result<()> {
        self.import_as(model, "production")
    }

    /// The same with an alias of the caller's choice; any has the version loaded, and `production` alone asks the gates.
    ///
    /// # Errors
    ///
    /// What `evctl models import` says.
    pub fn import_as(&self, model: &Path, alias: &str) -> anyhow::Result<()> {
        let arguments = [OsStr::new("import"), OsStr::new("--alias"), OsStr::new(alias), model.as_os_str()];
        self.evctl(arguments)
    }

    /// Makes the first version of a model `production` that these promotion gates are right to refuse: it is measured only.
    ///
    /// # Errors
    ///
    /// What `evctl` says.
    pub fn import_waiving(&self, model: &Path, name: &str, gates: &[&str]) -> anyhow::Result<()> {
        self.import_as(model, "candidate")?;
        let waivers = gates.iter().flat_map(|gate| ["--waive".to_owned(), format!("{gate}=measured, not believed")]);
        self.evctl(["alias", name, "production", "1"].map(str::to_owned).into_iter().chain(waivers))
    }

    fn evctl(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> anyhow::Result<()> {
        let output = Command::new(sibling("evctl")?)
            .args(["--server", &self.grpc.to_string(), "models"])
            .args(arguments)
            .output()
            .context("cannot run evctl")?;
        if !output.status.success() {
            bail!("evctl models: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Starts the floor.
    ///
    /// # Errors
    ///
    /// When the program is missing, ends, or does not listen.
    pub fn floor(place: &Placement) -> anyhow::Result<Process> {
        Process::floor_of(place, &[])
    }

    /// Starts a server that takes readings in as evserve does, and forgets them.
    ///
    /// # Errors
    ///
    /// As [`Process::floor`].
    pub fn receiving(place: &Placement) -> anyhow::Result<Process> {
        Process::floor_of(place, &["receiving"])
    }

    fn floor_of(place: &Placement, arguments: &[&str]) -> anyhow::Result<Process> {
        let grpc = free_address()?;
        let child = pinned(&place.processors, &sibling("floor")?)
            .args([grpc.to_string(), place.cores.to_string()])
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()?;
        let mut process = Process { child, grpc, telemetry: grpc };
        process.wait(|| TcpStream::connect(grpc).is_ok())?;
        Ok(process)
    }

    /// Where it serves gRPC.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.grpc
    }

    /// Where it takes readings in; of the floor, where it serves gRPC.
    #[must_use]
    pub fn telemetry(&self) -> SocketAddr {
        self.telemetry
    }

    /// Processor time all its threads have used.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn used(&self) -> anyhow::Result<Duration> {
        Ok(self.used_by_thread()?.into_iter().map(|(_, used)| used).sum())
    }

    /// Processor time of each thread by name.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn used_by_thread(&self) -> anyhow::Result<Vec<(String, Duration)>> {
        let mut threads = Vec::new();
        for entry in fs_err::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let folder = entry?.path();
            // A thread may end while its folder is read.
            let (Ok(name), Ok(stat)) =
                (fs_err::read_to_string(folder.join("comm")), fs_err::read_to_string(folder.join("schedstat")))
            else {
                continue;
            };
            let ns = stat.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0);
            threads.push((name.trim().to_owned(), Duration::from_nanos(ns)));
        }
        threads.sort();
        Ok(threads)
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.split_whitespace().next().context("no number")?.parse()?;
        Ok(kib * 1024)
    }

    fn wait(&mut self, is_ready: impl Fn() -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended: {status}");
            }
            if Instant::now() > end {
                bail!("the server is not ready after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processors this runs on, such as `2 x AMD EPYC, AVX-512`.
#[must_use]
pub fn machine() -> String {
    let text = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    let flags = field("flags").unwrap_or_default();
    let vectors = if flags.contains("avx512_vbmi") {
        ", AVX-512 with VBMI"
    } else if flags.contains("avx512bw") {
        ", AVX-512"
    } else {
        ""
    };
    format!("{count} x {}{vectors}", field("model name").unwrap_or_else(|| "unknown".to_owned()))
}

/// A program pinned to some processors.
pub(super) fn pinned(processors: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", processors]).arg(program).stdin(Stdio::null());
    command
}

/// A program built beside this one.
pub(super) fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!("there is no `{}`; `benches/run.sh` builds it", path.display());
    }
    Ok(path)
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
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
