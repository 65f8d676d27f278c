//! One HTTP/2 connection: limits, keepalive, age, drain.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
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
    /// Time to answer it, and for a new client to say its first word.
    pub(crate) keepalive_timeout: Duration,
}

/// Bytes a client may send on one stream before the service has read them.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for the whole connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The first word of every HTTP/2 client.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often a first word that came in part is looked at again; a client that splits it is rare, and not in a hurry.
const PREFACE_RETRY: Duration = Duration::from_millis(10);

/// How long a connection that has said all it has to say goes on reading, for its client to read that and hang up.
const LINGER: Duration = Duration::from_secs(1);

/// A socket that is closed in two steps: after its end it reads on, and throws away what comes.
///
/// Closing a socket with unread bytes in it makes the kernel reset the connection at once, and what is still to be sent
/// is lost: a client in the middle of sending would not see its last answers, nor why its stream ended.
struct Lingering {
    stream: TcpStream,
    linger: Option<Pin<Box<Sleep>>>,
}

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
        // What was sent before draining began is answered.
        biased;
        spoke = tokio::time::timeout(config.keepalive_timeout, spoken(&stream)) => spoke.unwrap_or(false),
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
    let mut connection = std::pin::pin!(
        builder.serve_connection(TokioIo::new(Lingering::new(stream)), TowerToHyperService::new(service))
    );
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

/// Waits until a client has said its first word, or something else, which HTTP/2 will refuse; false when it hung up.
///
/// Keepalive only begins after that: without a bound here, a client that stops in the middle would keep its place.
async fn spoken(stream: &TcpStream) -> bool {
    let mut word = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut word).await {
            Ok(0) | Err(_) => return false,
            Ok(length) if length == PREFACE.len() || !PREFACE.starts_with(&word[..length]) => return true,
            // Readiness tells of bytes that came, and they did; looking takes none away.
            Ok(_) => tokio::time::sleep(PREFACE_RETRY).await,
        }
    }
}

// === impl Lingering ===

impl Lingering {
    fn new(stream: TcpStream) -> Lingering {
        Lingering { stream, linger: None }
    }
}

impl AsyncRead for Lingering {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if linger.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut ignored = [0; 16 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut ignored);
            match ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // It hung up, which is what was waited for, however it did it.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
