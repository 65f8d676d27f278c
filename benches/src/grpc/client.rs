//! What loads a server: h2load where it is installed, and the load test.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use prost::Message as _;
use serde::{Deserialize, de::DeserializeOwned};

use super::process::{pinned, sibling};

/// Where a load goes, and where it comes from.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// Processors of the client, as `taskset -c` takes them.
    pub processors: String,
}

/// Requests of a closed loop: answered ones, and how many a second.
#[derive(Debug, Clone, Copy)]
pub struct Calls {
    /// Answered requests.
    pub count: f64,
    /// A second.
    pub per_second: f64,
}

/// The part of a load test's JSON that is read here.
#[derive(Debug, Clone, Deserialize)]
pub struct LoadReport {
    /// Requests sent a second.
    pub sent_per_second: f64,
    /// Requests sent.
    pub sent: f64,
    /// Requests answered with an error.
    pub failed: f64,
    /// Requests answered a second.
    pub per_second: f64,
    /// From due to answered.
    pub latency_us: Latency,
    /// The client's own lateness.
    pub lag_us: Latency,
    /// Running the model.
    pub inference_us: Latency,
    /// The pipeline.
    pub server_us: Latency,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// One in a hundred is above.
    pub p99: f64,
}

/// h2load (Debian: nghttp2-client), which costs less a request than any gRPC client. It looks at no gRPC status.
#[derive(Debug, Clone, Copy)]
pub struct H2load;

// === impl H2load ===

impl H2load {
    /// None where it is not installed.
    #[must_use]
    pub fn find() -> Option<H2load> {
        let found = Command::new("h2load").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success()).then_some(H2load)
    }

    /// Range predictions in a closed loop.
    ///
    /// # Errors
    ///
    /// When it fails or says nothing that can be read.
    pub fn unary(
        self,
        target: &Target,
        body: &Path,
        connections: usize,
        in_flight: usize,
        requests: usize,
    ) -> anyhow::Result<Calls> {
        let output = pinned(&target.processors, Path::new("h2load"))
            .args(["-n", &requests.to_string(), "-c", &connections.to_string(), "-m", &in_flight.to_string()])
            .args(["-t", "1", "-H", "content-type: application/grpc", "-H", "te: trailers", "-d"])
            .arg(body)
            .arg(format!("http://{}/ev.range.v1.RangePrediction/Predict", target.address))
            .output()
            .context("cannot run h2load")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = |after: &str, before: &str| -> Option<f64> {
            let (_, rest) = text.split_once(after)?;
            rest.split_once(before)?.0.trim().rsplit(' ').next()?.parse().ok()
        };
        match (number("finished in ", " req/s"), number("done, ", " succeeded")) {
            (Some(per_second), Some(count)) if count > 0.0 => Ok(Calls { count, per_second }),
            _ => bail!("h2load: {text}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

/// Runs the load test with these arguments.
///
/// # Errors
///
/// When a threshold is not kept, or it cannot run.
pub fn load(target: &Target, arguments: &[&str]) -> anyhow::Result<LoadReport> {
    run(target, arguments)
}

/// The same of two servers that take turns within the test; the client's processors are the first one's.
///
/// # Errors
///
/// As [`load`].
pub fn load_beside(target: &Target, other: &Target, arguments: &[&str]) -> anyhow::Result<[LoadReport; 2]> {
    let other = other.address.to_string();
    run(target, &[&["--beside", &other], arguments].concat())
}

fn run<T: DeserializeOwned>(target: &Target, arguments: &[&str]) -> anyhow::Result<T> {
    let output = pinned(&target.processors, &sibling("ev-loadtests")?)
        .args(["-o", "json", "--endpoint", &target.address.to_string()])
        .args(arguments)
        .output()
        .context("cannot run ev-loadtests")?;
    if !output.status.success() {
        bail!("ev-loadtests {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("ev-loadtests said no JSON")
}

/// Writes a gRPC-framed request for h2load, and gives its size.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_body(path: &Path) -> anyhow::Result<usize> {
    let request = ev_loadtests::cars().into_iter().next().context("no cars")?;
    let message = request.encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
    body.extend_from_slice(&message);
    fs_err::write(path, &body)?;
    Ok(message.len())
}
