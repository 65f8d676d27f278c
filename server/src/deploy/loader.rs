//! The thread that versions are loaded and freed on, which has what time serving threads leave once there are requests.
//!
//! One thread for all of them: what one version leaves behind in the allocators, the next one takes. Threads that come and
//! go leave it to nobody.

use ev_batching::{Budget, WorkerPriority, take_place};
use tokio::sync::{mpsc, oneshot};

/// Work that waits for the thread; who has more waits to hand it over.
const WAITING_MAX: usize = 64;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does one piece of work after the other.
pub(crate) struct Loader {
    work: mpsc::Sender<Work>,
}

// === impl Loader ===

impl Loader {
    /// Starts the thread. Workers of `budget` are above it while it does something.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub(crate) fn start(name: &str, budget: Budget) -> std::io::Result<Loader> {
        let (work, mut waiting) = mpsc::channel::<Work>(WAITING_MAX);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(work) = waiting.blocking_recv() {
                let _background = budget.background();
                // Who waits for it is told by the sender that is dropped.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            }
        })?;
        Ok(Loader { work })
    }

    /// Gives the thread the lowest priority from now on, unless `workers` have that of every thread; there is no way back.
    /// A start is waited for, and what starts beside others that keep all processors busy would never be ready.
    pub(crate) fn lower(&self, workers: WorkerPriority) {
        if workers != WorkerPriority::Normal {
            let _ = self.work.try_send(Box::new(|| take_place(WorkerPriority::Idle)));
        }
    }

    /// Does something there; none when it panicked.
    ///
    /// # Cancel safety
    ///
    /// What was begun is done even when nobody waits any more.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        let work = Box::new(move || drop(done.send(work())));
        self.work.send(work).await.ok()?;
        result.await.ok()
    }

    /// Frees something there; here where too much waits already.
    pub(crate) fn free<T: Send + 'static>(&self, what: T) {
        let _ = self.work.try_send(Box::new(move || drop(what)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_turn_and_a_panic_is_one_works_own() {
        let loader = Loader::start("load", Budget::new(1)).expect("a thread");
        loader.lower(WorkerPriority::Idle);
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(loader.run(name).await, Some(Some("load".to_owned())));
        assert_eq!(loader.run(|| panic!("a bug")).await, None::<()>);
        let first = loader.run(|| std::thread::current().id()).await;
        assert!(first.is_some() && first == loader.run(|| std::thread::current().id()).await);
    }

    #[tokio::test]
    async fn what_is_freed_is_dropped_on_the_thread() {
        struct Tells(std::sync::mpsc::Sender<Option<String>>);
        impl Drop for Tells {
            fn drop(&mut self) {
                let _ = self.0.send(std::thread::current().name().map(str::to_owned));
            }
        }
        let (sender, dropped) = std::sync::mpsc::channel();
        let loader = Loader::start("load", Budget::new(1)).expect("a thread");
        loader.free(Tells(sender));
        assert_eq!(dropped.recv().expect("dropped"), Some("load".to_owned()));
    }
}
