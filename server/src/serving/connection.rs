//! One HTTP/2 connection: limits, keepalive, age, drain.

use std::{convert::Infallible, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

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
    /// Time to answer it.
    pub(crate) keepalive_timeout: Duration,
}

/// Bytes a client may send on one stream before the service has read them.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for the whole connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A client has this long to say its first word.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// Serves one connection until it ends, is drained, or is aborted.
pub(super) async fn serve<S>(
    stream: TcpStream,
    service: S,
    config: ConnectionConfig,
    draining: CancellationToken,
    abort: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let spoke = tokio::select! {
        readable = tokio::time::timeout(FIRST_BYTE, stream.readable()) => matches!(readable, Ok(Ok(()))),
        () = draining.cancelled() => false,
    };
    if !spoke {
        return;
    }
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.streams_max)
        .max_header_list_size(config.header_list_size_max)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout);
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let age = config.age_max.mul_f64(0.9 + 0.2 * fastrand::f64());
    tokio::select! {
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
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = abort.cancelled() => {}
    }
}
