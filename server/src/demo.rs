//! The fleet of `evserve demo`: `evsim`, which streams as any gateway would, started and ended with the server.
//!
//! A program of its own: the server that is shown is the one that is shipped, and neither its memory nor its start grow by it.

use std::{
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Vehicles, unless told otherwise.
pub(crate) const VEHICLES: u32 = 20;
/// What the vehicles have behind them, which the thermal rule knows them by.
const HISTORY_S: u32 = 600;
/// A cell of the first vehicle shorts ten seconds from the start. Of this seed it is hot half a minute later.
const SEED: u32 = 1;
const SHORT_AT_S: u32 = HISTORY_S + 10;
/// How long the fleet may take to end: it waits for its last readings to become durable.
const STOP_WAIT_MAX: Duration = Duration::from_secs(3);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A fleet that streams; it also ends when this process does, however it does.
pub(crate) struct Fleet(Child);

// === impl Fleet ===

impl Fleet {
    /// Starts it. Without `evsim` there is none, and a message that says how to get it.
    pub(crate) fn start(vehicles: u32, telemetry: SocketAddr) -> Option<Fleet> {
        let program = program();
        let started = command(&program, vehicles, telemetry).spawn();
        match started {
            Ok(child) => {
                tracing::info!(vehicles, "a simulated fleet streams; the pack of sim-0 will alarm within a minute");
                Some(Fleet(child))
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    program = %program.display(),
                    "no fleet streams: the simulator is not beside this program; build it with `cargo build --release -p evsim`"
                );
                None
            }
        }
    }

    /// Has it end in good order, or ends it.
    pub(crate) async fn stop(mut self) {
        // It ends with its input.
        drop(self.0.stdin.take());
        let ended = async {
            while matches!(self.0.try_wait(), Ok(None)) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(STOP_WAIT_MAX, ended).await.is_err() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Beside this program; where that is not known, wherever the system finds it.
fn program() -> PathBuf {
    env::current_exe().map_or_else(|_| PathBuf::from("evsim"), |path| path.with_file_name("evsim"))
}

fn command(program: &Path, vehicles: u32, telemetry: SocketAddr) -> Command {
    let fault = format!("0:short@{SHORT_AT_S}");
    let mut command = Command::new(program);
    command
        .args(["run", "--until-input-ends", "--start", "driving", "--batch-seconds", "1", "--gateway", "demo"])
        .args(["--fault", &fault, "--to", &format!("http://{}", reachable(telemetry))])
        .args(["--vehicles", &vehicles.to_string(), "--seed", &SEED.to_string(), "--history", &HISTORY_S.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    command
}

/// Where one connects to that listens on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleet_connects_to_where_the_server_listens() {
        let check = |listens: &str, expected: &str| {
            assert_eq!(reachable(listens.parse().expect("an address")).to_string(), expected);
        };
        check("127.0.0.1:50052", "127.0.0.1:50052");
        check("0.0.0.0:1", "127.0.0.1:1");
        check("[::]:1", "[::1]:1");
        check("10.0.0.7:1", "10.0.0.7:1");
    }
}
