//! Telling that the registry has changed.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

/// How often it is looked whether another process has changed something: a fraction of the second in which replicas
/// shall follow.
pub(super) const POLL: Duration = Duration::from_millis(250);

/// The number of the last change as far as this process knows, and the task that keeps it current. Clones share both.
#[derive(Debug, Clone)]
pub(super) struct Changes {
    seen: Arc<watch::Sender<u64>>,
    _task: Arc<Task>,
}

/// Ends with its last owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

// === impl Changes ===

impl Changes {
    /// From a number on, with a task that calls [`note`].
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        seen: u64,
        keep_current: impl FnOnce(Arc<watch::Sender<u64>>) -> F,
    ) -> Changes {
        let seen = Arc::new(watch::Sender::new(seen));
        let task = tokio::spawn(keep_current(Arc::clone(&seen)));
        Changes { seen, _task: Arc::new(Task(task)) }
    }

    /// This process has changed something itself.
    pub(super) fn note(&self, sequence: u64) {
        note(&self.seen, sequence);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.seen.subscribe()
    }
}

/// Tells a newer number to whoever waits.
pub(super) fn note(seen: &watch::Sender<u64>, sequence: u64) {
    seen.send_if_modified(|seen| {
        let newer = sequence > *seen;
        *seen = sequence.max(*seen);
        newer
    });
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
