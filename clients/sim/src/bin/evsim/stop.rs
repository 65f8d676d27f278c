//! What ends a stream before its time.

use std::{io, thread};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// Ctrl-C, SIGTERM, or the end of standard input.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    input: Option<oneshot::Receiver<()>>,
}

// === impl Stop ===

impl Stop {
    /// Listens from now on; to standard input if it shall.
    ///
    /// # Errors
    ///
    /// When the system does not tell signals.
    pub(crate) fn listen(until_input_ends: bool) -> anyhow::Result<Stop> {
        let listen = |kind| signal(kind).context("signals cannot be listened for");
        Ok(Stop {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            input: until_input_ends.then(input_end),
        })
    }

    /// Waits for one of them; one that came earlier counts.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = ended(&mut self.input) => {}
        }
    }
}

/// Returns once the input has ended, and never again.
async fn ended(input: &mut Option<oneshot::Receiver<()>>) {
    if let Some(end) = input {
        let _ = end.await;
        *input = None;
    } else {
        std::future::pending().await
    }
}

/// On a thread of its own, which ends with the program.
fn input_end() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        // An input that cannot be read has ended.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = sender.send(());
    });
    receiver
}
