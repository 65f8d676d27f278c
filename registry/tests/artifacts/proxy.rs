//! Stands between a client and the S3 server, counts requests, and cuts connections.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// At which request, counted from one, something happens, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The store never sees it.
    Before(usize),
    /// The store has done it, and nobody is told.
    After(usize),
}

/// What came through.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Methods and paths of requests, the last one being that at which everything stopped, if it has.
    pub(crate) requests: Vec<String>,
    /// Bytes from the server.
    pub(crate) received: usize,
    pub(crate) stopped: bool,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    stop_at: Option<At>,
    /// The request that is kept, with its connection: nobody answers it, and nobody is told.
    swallow_at: Option<usize>,
    /// Bytes that may still come from the server.
    receive_max: Option<usize>,
    connections: Vec<TcpStream>,
}

/// Whose turn it is on a connection: the client speaks first, and asks anew when it speaks after the server has.
#[derive(Debug)]
struct Turn {
    answered: bool,
    /// Of the request, among all.
    number: usize,
}

/// A listener on a port of its own; its threads end with the test.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

// === impl Proxy ===

impl Proxy {
    pub(crate) fn start() -> Proxy {
        let server = std::env::var("EVSERVE_TEST_S3").unwrap();
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy { address: listener.local_addr().unwrap(), state: Arc::default() };
        let served = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                served.join(client, &server);
            }
        });
        proxy
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets everything through from now on, and forgets what it has seen.
    pub(crate) fn mend(&self) {
        let mut state = self.state.0.lock().unwrap();
        (state.seen, state.stop_at, state.swallow_at, state.receive_max) = (Seen::default(), None, None, None);
    }

    /// Lets nothing through from a request on.
    pub(crate) fn stop_at(&self, at: At) {
        self.state.0.lock().unwrap().stop_at = Some(at);
    }

    /// Lets a request through no further, and leaves its connection open.
    pub(crate) fn swallow(&self, request: usize) {
        self.state.0.lock().unwrap().swallow_at = Some(request);
    }

    /// Lets nothing through at all.
    pub(crate) fn stop(&self) {
        stop(&mut self.state.0.lock().unwrap());
    }

    /// Lets nothing through once so many bytes have come from the server.
    pub(crate) fn stop_after(&self, bytes: usize) {
        self.state.0.lock().unwrap().receive_max = Some(bytes);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.state.0.lock().unwrap().seen.clone()
    }

    /// Waits until it lets nothing through, or until somebody else is done.
    pub(crate) fn wait_until(&self, mut done: impl FnMut() -> bool) -> Seen {
        let mut state = self.state.0.lock().unwrap();
        while !state.seen.stopped && !done() {
            let pause = std::time::Duration::from_millis(20);
            state = self.state.1.wait_timeout(state, pause).unwrap().0;
        }
        state.seen.clone()
    }

    fn join(&self, client: TcpStream, server: &str) {
        let mut state = self.state.0.lock().unwrap();
        if state.seen.stopped {
            return;
        }
        let Ok(server) = TcpStream::connect(server) else { return };
        let pairs = [(&client, &server, true), (&server, &client, false)];
        let pairs = pairs.map(|(from, to, asks)| (from.try_clone().unwrap(), to.try_clone().unwrap(), asks));
        state.connections.extend([client, server]);
        let turn = Arc::new(Mutex::new(Turn { answered: true, number: 0 }));
        for (from, to, asks) in pairs {
            let (proxy, turn) = (self.clone(), turn.clone());
            thread::spawn(move || proxy.copy(from, to, asks, &turn));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, asks: bool, turn: &Mutex<Turn>) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut turn = turn.lock().unwrap();
            let begins = std::mem::replace(&mut turn.answered, !asks) == asks;
            let mut state = self.state.0.lock().unwrap();
            if state.seen.stopped {
                break;
            }
            if asks && begins {
                let line = buffer[..count].split(|byte| *byte == b'\r').next().unwrap_or_default();
                state.seen.requests.push(String::from_utf8_lossy(line).into_owned());
                turn.number = state.seen.requests.len();
            }
            if asks && state.swallow_at == Some(turn.number) {
                continue;
            }
            let mut passes = count;
            if !asks {
                passes = passes.min(state.receive_max.map_or(count, |max| max - state.seen.received.min(max)));
                state.seen.received += passes;
            }
            let stops = match state.stop_at {
                Some(At::Before(at)) => asks && begins && at == turn.number,
                Some(At::After(at)) => !asks && at == turn.number,
                None => passes < count,
            };
            if stops {
                let _ = to.write_all(&buffer[..if state.stop_at.is_some() { 0 } else { passes }]);
                stop(&mut state);
                self.state.1.notify_all();
                break;
            }
            drop((state, turn));
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

fn stop(state: &mut State) {
    state.seen.stopped = true;
    for connection in state.connections.drain(..) {
        let _ = connection.shutdown(Shutdown::Both);
    }
}
