//! Listening and accepting.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::cores::Cores;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}: {advice}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// `gRPC` or `HTTP`.
    pub purpose: &'static str,
    /// What to do.
    pub advice: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Connections the kernel keeps while all permits are taken.
const BACKLOG: i32 = 1024;

/// Binds a listener.
///
/// # Errors
///
/// [`ListenError`] when the port is taken, forbidden, or the address is not this machine's.
pub(crate) fn listen(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| {
        let advice = match source.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "the port is taken; stop the other process, or choose another port, such as :{}",
                    address.port().wrapping_add(1)
                )
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 need privileges; choose a higher one".to_owned(),
            io::ErrorKind::AddrNotAvailable => "the address is not one of this machine's".to_owned(),
            _ => "the system refuses it".to_owned(),
        };
        ListenError { address, purpose, advice, source }
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // A restart must not wait for the connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Hands connections to the cores until draining begins; the listener closes then.
pub(crate) async fn accept(
    listener: TcpListener,
    cores: Arc<Cores>,
    connections_max: usize,
    draining: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(connections_max));
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit,
            () = draining.cancelled() => return,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.cancelled() => return,
        };
        match accepted.and_then(|(stream, _)| stream.set_nodelay(true).and_then(|()| stream.into_std())) {
            Ok(stream) => cores.hand(stream, permit),
            Err(error) => {
                // Out of file descriptors, mostly: those that close make room.
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
