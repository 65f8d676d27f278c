//! Where the process listens.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::{Config, ListenError, serving::listen};

/// Ports that are bound, and not served yet.
pub(super) struct Ports {
    pub(super) grpc: TcpListener,
    pub(super) telemetry: TcpListener,
    pub(super) http: TcpListener,
    pub(super) addresses: Addresses,
}

/// Where the ports are; of port 0 the ones that the system chose.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) grpc: SocketAddr,
    pub(super) telemetry: SocketAddr,
    pub(super) http: SocketAddr,
}

// === impl Ports ===

impl Ports {
    pub(super) fn bind(config: &Config) -> Result<Ports, ListenError> {
        let grpc = listen(config.grpc.address, "gRPC")?;
        let telemetry = listen(config.telemetry.address, "telemetry")?;
        let http = listen(config.http.address, "HTTP")?;
        let addresses = Addresses {
            grpc: local(&grpc, config.grpc.address),
            telemetry: local(&telemetry, config.telemetry.address),
            http: local(&http, config.http.address),
        };
        Ok(Ports { grpc, telemetry, http, addresses })
    }
}

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
