//! One connection: HTTP/2, or HTTP/1.1 for gRPC-Web; limits, keepalive, age, drain.

use std::{pin::Pin, time::Duration};

use hyper::{
    Error,
    server::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{
    cores::GrpcService,
    first_word::{FirstWord, first_word},
    lingering::Lingering,
    patient::Patient,
    peer::{Peer, WithPeer},
};

/// What every connection is held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionConfig {
    /// Calls in flight.
    pub(crate) streams_max: u32,
    /// Bytes of a call's headers.
    pub(crate) header_list_size_max: u32,
    /// Asked to reconnect after this, give or take a tenth.
    pub(crate) age_max: Duration,
    /// Probe of silence.
    pub(crate) keepalive_interval: Duration,
    /// Time to answer it, and for a new client to say its first word, or over HTTP/1.1 its next one.
    pub(crate) keepalive_timeout: Duration,
}

/// Bytes a client may send on one stream before the service has read them: the tensor of a picture of 224 by 224 pixels
/// (588 KiB) comes without a pause for permission.
const STREAM_WINDOW: u32 = 640 * 1024;
/// The same for the whole connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Largest frame a client may send, eight times what it may without being told: large messages come in fewer pieces. Pieces
/// that do not fit into a processor's own cache are slower again.
const FRAME_MAX: u32 = 128 * 1024;
/// Bytes of an HTTP/1.1 connection that were read and not yet used, or wait to be written.
const BUFFER: usize = 64 * 1024;
/// Headers of an HTTP/1.1 request; a browser sends about twenty.
const HEADERS_MAX: usize = 100;

/// Serves one connection until it ends, is drained, or is aborted.
pub(super) async fn serve(
    stream: TcpStream,
    service: impl GrpcService,
    config: ConnectionConfig,
    draining: CancellationToken,
    abort: CancellationToken,
) {
    let peer = stream.peer_addr().ok().map(|address| Peer(address.ip().to_canonical()));
    let service = WithPeer { inner: service, peer };
    let said = tokio::select! {
        // What was sent before draining began is answered.
        biased;
        said = tokio::time::timeout(config.keepalive_timeout, first_word(&stream)) => said.ok().flatten(),
        () = draining.cancelled() => None,
    };
    match said {
        Some(FirstWord::Http2) => serve_http2(stream, service, config, draining, abort).await,
        // Boxed: every connection's task has room for this one, and hardly any is one.
        Some(FirstWord::Http1) => Box::pin(serve_http1(stream, service, config, draining, abort)).await,
        None => {}
    }
}

async fn serve_http2(
    stream: TcpStream,
    service: impl GrpcService,
    config: ConnectionConfig,
    draining: CancellationToken,
    abort: CancellationToken,
) {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.streams_max)
        .max_header_list_size(config.header_list_size_max)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout);
    let connection = std::pin::pin!(builder.serve_connection(TokioIo::new(Lingering::new(stream)), service));
    run(connection, |connection| connection.graceful_shutdown(), config.age_max, draining, abort).await;
}

/// The same bounds by other means: HTTP/1.1 has one call at a time and no pings.
///
/// A head, or the next request, has the time that a probe has to be answered; a request that pauses inside is the
/// service's to end; an answer that is not read ends the connection after the time that HTTP/2 would need to notice.
async fn serve_http1(
    stream: TcpStream,
    service: impl GrpcService,
    config: ConnectionConfig,
    draining: CancellationToken,
    abort: CancellationToken,
) {
    // A peer that is gone while a long answer has nothing to say is found by the kernel, in whole seconds.
    let probes = socket2::TcpKeepalive::new().with_time(config.keepalive_interval.max(Duration::from_secs(1)));
    if let Err(error) = socket2::SockRef::from(&stream).set_tcp_keepalive(&probes) {
        tracing::debug!(error = &error as &dyn std::error::Error, "no keepalive");
    }
    let head_max = usize::try_from(config.header_list_size_max).unwrap_or(usize::MAX);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(config.keepalive_timeout)
        .max_headers(HEADERS_MAX)
        .max_header_size(head_max)
        .max_buf_size(BUFFER.max(head_max));
    let stream = Patient::new(Lingering::new(stream), config.silence_max());
    let connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    run(connection, |connection| connection.graceful_shutdown(), config.age_max, draining, abort).await;
}

/// Runs a connection until it ends, and asks it to end when it is old or the server drains.
async fn run<C: Future<Output = Result<(), Error>>>(
    mut connection: Pin<&mut C>,
    graceful_shutdown: impl FnOnce(Pin<&mut C>),
    age_max: Duration,
    draining: CancellationToken,
    abort: CancellationToken,
) {
    let age = age_max.mul_f64(0.9 + 0.2 * fastrand::f64());
    tokio::select! {
        // What has arrived is looked at first: HTTP/1.1 would take it for an idle connection.
        biased;
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
            }
            return;
        }
        () = tokio::time::sleep(age) => {}
        () = draining.cancelled() => {}
        () = abort.cancelled() => return,
    }
    graceful_shutdown(connection.as_mut());
    tokio::select! {
        _ = connection => {}
        () = abort.cancelled() => {}
    }
}

// === impl ConnectionConfig ===

impl ConnectionConfig {
    /// How long one side can be silent before the other gives it up.
    pub(crate) fn silence_max(&self) -> Duration {
        self.keepalive_interval + self.keepalive_timeout
    }
}
