//! A network that breaks: connections go through it until they are cut, or stand still.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What becomes of a connection once so many bytes went from the client to the server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// It is closed on both sides.
    Cut(u64),
    /// Nothing more goes through from the client until the server closes it.
    Stall(u64),
}

/// Passes connections on. The first fate is that of every connection until one has met it, then it is the second, and in the
/// end none: a server that dies takes connections for a moment through which nothing goes.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    passed: Arc<AtomicU64>,
    met: watch::Receiver<usize>,
}

// === impl Proxy ===

impl Proxy {
    pub(crate) async fn start(target: SocketAddr, fates: Vec<Fate>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let target = Arc::new(Mutex::new(target));
        let (passed, (meet, met)) = (Arc::new(AtomicU64::new(0)), watch::channel(0));
        let (to, count) = (Arc::clone(&target), Arc::clone(&passed));
        tokio::spawn(async move {
            let (fates, meet) = (Arc::new(fates), Arc::new(meet));
            while let Ok((client, _)) = listener.accept().await {
                let target = *to.lock().expect("no panic");
                let Ok(server) = TcpStream::connect(target).await else { continue };
                let (count, meet) = (Arc::clone(&count), Arc::clone(&meet));
                let fate = fates.get(*meet.borrow()).copied();
                tokio::spawn(async move {
                    pass(client, server, fate, &count, &meet).await;
                });
            }
        });
        Proxy { address, target, passed, met }
    }

    /// Where connections go from now on.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().expect("no panic") = target;
    }

    /// Bytes that went from clients to servers.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Waits until so many connections have met their fates.
    pub(crate) async fn met(&mut self, fates: usize) {
        self.met.wait_for(|met| *met >= fates).await.expect("the proxy runs");
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    fate: Option<Fate>,
    passed: &AtomicU64,
    met: &watch::Sender<usize>,
) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let back = async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    let forth = async move {
        let mut left = fate.map_or(u64::MAX, |fate| match fate {
            Fate::Cut(bytes) | Fate::Stall(bytes) => bytes,
        });
        let mut buffer = vec![0; 16 << 10];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let Ok(count @ 1..) = from_client.read(&mut buffer[..most]).await else { return };
            if to_server.write_all(&buffer[..count]).await.is_err() {
                return;
            }
            passed.fetch_add(count as u64, Ordering::Relaxed);
            left -= count as u64;
        }
        met.send_modify(|met| *met += 1);
        if matches!(fate, Some(Fate::Stall(_))) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = back => {}
        () = forth => {}
    }
}
