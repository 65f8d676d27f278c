//! The thread that versions are loaded and freed on, which has what time serving threads leave once there are requests.
//!
//! One thread for all of them: what one version leaves behind in the allocators, the next one takes. Threads that come and
//! go leave it to nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ev_batching::{Budget, WorkerPriority, take_place};
use ev_models_core::Backend;
use tokio::sync::{mpsc, oneshot};

/// Work that waits for the thread; who has more waits to hand it over.
const WAITING_MAX: usize = 64;
/// So long after the last piece of work, engines keep the memory it left for the next one.
const MEMORY_KEPT: Duration = Duration::from_secs(5);

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does one piece of work after the other.
pub(crate) struct Loader {
    work: mpsc::Sender<Work>,
    /// Set once there are requests.
    serves: Arc<AtomicBool>,
}

// === impl Loader ===

impl Loader {
    /// Starts the thread. Workers of `budget` are above it while it does something, and `backends` keep memory for it.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub(crate) fn start(name: &str, budget: Budget, backends: Vec<Arc<dyn Backend>>) -> std::io::Result<Loader> {
        Loader::start_keeping(MEMORY_KEPT, name, budget, backends)
    }

    fn start_keeping(
        memory_kept: Duration,
        name: &str,
        budget: Budget,
        backends: Vec<Arc<dyn Backend>>,
    ) -> std::io::Result<Loader> {
        let (work, mut waiting) = mpsc::channel::<Work>(WAITING_MAX);
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let serves = Arc::new(AtomicBool::new(false));
        let is_serving = Arc::clone(&serves);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut is_kept = false;
            let mut keep = |kept| {
                if kept != std::mem::replace(&mut is_kept, kept) {
                    backends.iter().for_each(|backend| backend.keep_memory(kept));
                }
            };
            loop {
                let soon = clock.block_on(async { tokio::time::timeout(memory_kept, waiting.recv()).await });
                let work = soon.unwrap_or_else(|_| {
                    keep(false);
                    waiting.blocking_recv()
                });
                let Some(work) = work else { return };
                // What a start loads stays loaded, and what it leaves behind nobody needs.
                keep(is_serving.load(Ordering::Relaxed));
                let _background = budget.background();
                // Who waits for it is told by the sender that is dropped.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            }
        })?;
        Ok(Loader { work, serves })
    }

    /// Says that there are requests from now on. The thread has the lowest priority then, unless `workers` have that of every
    /// thread; there is no way back. A start is waited for, and what starts beside others that keep all processors busy would
    /// never be ready.
    pub(crate) fn lower(&self, workers: WorkerPriority) {
        self.serves.store(true, Ordering::Relaxed);
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
    use ev_models_core::{ArtifactDir, LoadError, LoadOptions, Model};

    use super::*;

    #[tokio::test]
    async fn work_is_done_in_turn_and_a_panic_is_one_works_own() {
        let loader = Loader::start("load", Budget::new(1), Vec::new()).expect("a thread");
        loader.lower(WorkerPriority::Idle);
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(loader.run(name).await, Some(Some("load".to_owned())));
        assert_eq!(loader.run(|| panic!("a bug")).await, None::<()>);
        let first = loader.run(|| std::thread::current().id()).await;
        assert!(first.is_some() && first == loader.run(|| std::thread::current().id()).await);
    }

    #[tokio::test]
    async fn engines_keep_memory_while_versions_are_swapped() {
        struct Tells(std::sync::mpsc::Sender<bool>);
        impl Backend for Tells {
            fn name(&self) -> &'static str {
                "tells"
            }
            fn load(&self, _: &ArtifactDir, options: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
                Err(LoadError::Unreadable { file: options.file.clone(), reason: "of a test".to_owned() })
            }
            fn keep_memory(&self, is_kept: bool) {
                let _ = self.0.send(is_kept);
            }
        }
        let (sender, told) = std::sync::mpsc::channel();
        let (backends, kept): (Vec<Arc<dyn Backend>>, _) = (vec![Arc::new(Tells(sender))], Duration::from_millis(50));
        let loader = Loader::start_keeping(kept, "load", Budget::new(1), backends).expect("a thread");
        assert_eq!(loader.run(|| ()).await, Some(()));
        assert!(told.try_recv().is_err(), "a start is not followed by another");
        loader.lower(WorkerPriority::Normal);
        for _ in 0..3 {
            assert_eq!(loader.run(|| ()).await, Some(()));
        }
        let next = || told.recv_timeout(Duration::from_secs(60)).expect("told");
        assert_eq!((next(), next()), (true, false), "once for all three, and that it is over");
        assert_eq!(loader.run(|| ()).await, Some(()));
        assert!(next(), "and again");
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
        let loader = Loader::start("load", Budget::new(1), Vec::new()).expect("a thread");
        loader.free(Tells(sender));
        assert_eq!(dropped.recv().expect("dropped"), Some("load".to_owned()));
    }
}
