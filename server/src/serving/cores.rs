//! Serving threads: one current-thread runtime a core.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use http::{Request, Response};
use hyper::{body::Incoming, service::Service};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;

use super::{
    connection::{self, ConnectionConfig},
    slice::shorten_slice,
};
use crate::deploy::enter_core;

/// What every connection's calls go to.
pub(crate) trait GrpcService:
    Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S> GrpcService for S where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

/// The serving threads.
pub(crate) struct Cores {
    cores: Vec<Core>,
}

struct Core {
    sender: mpsc::UnboundedSender<Accepted>,
    connections: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// A connection on its way to a core. The permit bounds how many there are.
struct Accepted {
    stream: std::net::TcpStream,
    _permit: OwnedSemaphorePermit,
}

/// Counts a core's connections down when one ends, however it ends.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Cores ===

impl Cores {
    /// Starts `count` serving threads, named after what they serve. Each connection has a service of its own.
    ///
    /// # Errors
    ///
    /// When the system gives no more threads or file descriptors.
    pub(crate) fn start<S: GrpcService>(
        name: &str,
        count: usize,
        service: impl Fn() -> S + Clone + Send + 'static,
        config: ConnectionConfig,
        draining: &CancellationToken,
        abort: &CancellationToken,
    ) -> io::Result<Cores> {
        let cores = (0..count)
            .map(|core| Core::start(name, core, service.clone(), config, draining.clone(), abort.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Cores { cores })
    }

    /// Hands a connection to the core with the fewest.
    pub(crate) fn hand(&self, stream: std::net::TcpStream, permit: OwnedSemaphorePermit) {
        let fewest = self.cores.iter().min_by_key(|core| core.connections.load(Ordering::Relaxed));
        if let Some(core) = fewest {
            core.connections.fetch_add(1, Ordering::Relaxed);
            if core.sender.send(Accepted { stream, _permit: permit }).is_err() {
                core.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Connections on all cores.
    pub(crate) fn connections(&self) -> Arc<dyn Fn() -> usize + Send + Sync> {
        let counts: Vec<_> = self.cores.iter().map(|core| Arc::clone(&core.connections)).collect();
        Arc::new(move || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum())
    }

    /// Ends the threads once their connections have ended. Blocking.
    pub(crate) fn join(self) {
        for core in self.cores {
            drop(core.sender);
            if core.thread.join().is_err() {
                tracing::error!("a serving thread panicked");
            }
        }
    }
}

// === impl Core ===

impl Core {
    fn start<S: GrpcService>(
        name: &str,
        core: usize,
        service: impl Fn() -> S + Send + 'static,
        config: ConnectionConfig,
        draining: CancellationToken,
        abort: CancellationToken,
    ) -> io::Result<Core> {
        // Unbounded, but bounded by the permits: never more than `grpc.connections_max` connections exist.
        let (sender, mut receiver) = mpsc::unbounded_channel::<Accepted>();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("{name}-{core}")).spawn(move || {
            enter_core(core);
            shorten_slice();
            let tracker = TaskTracker::new();
            runtime.block_on(async {
                while let Some(Accepted { stream, _permit: permit }) = receiver.recv().await {
                    let counted = Counted(Arc::clone(&counter));
                    let (service, draining, abort) = (service(), draining.clone(), abort.clone());
                    tracker.spawn(async move {
                        let (_counted, _permit) = (counted, permit);
                        match tokio::net::TcpStream::from_std(stream) {
                            Ok(stream) => connection::serve(stream, service, config, draining, abort).await,
                            Err(error) => {
                                tracing::warn!(error = &error as &dyn std::error::Error, "cannot take a connection")
                            }
                        }
                    });
                }
                tracker.close();
                tracker.wait().await;
            });
        })?;
        Ok(Core { sender, connections, thread })
    }
}
