//! The thread that versions are loaded and freed on, which has what time serving threads leave once there are requests.
//!
//! One thread for all of them: what one version leaves behind in the allocators, the next one takes. Threads that come and
//! go leave it to nobody.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use ev_batching::{WorkerPriority, take_place};
use tokio::sync::{mpsc, oneshot};

/// Work that waits for the thread; who has more waits to hand it over.
const WAITING_MAX: usize = 64;
/// Longest rest after a piece of work.
const REST_MAX: Duration = Duration::from_millis(100);

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does one piece of work after the other.
pub(crate) struct Loader {
    work: mpsc::Sender<Work>,
}

/// Lets batches of other models catch up between the pieces of a load.
///
/// Their workers have the lowest priority, too: while a load goes on they get every other moment, which is too little for
/// one that is busy more than half of its time. So a load rests for as long as it has worked.
pub(crate) struct Pace {
    rests: bool,
    worked_since: Cell<Instant>,
}

// === impl Loader ===

impl Loader {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub(crate) fn start(name: &str) -> std::io::Result<Loader> {
        let (work, mut waiting) = mpsc::channel::<Work>(WAITING_MAX);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(work) = waiting.blocking_recv() {
                // Who waits for it is told by the sender that is dropped.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            }
        })?;
        Ok(Loader { work })
    }

    /// Gives the thread this priority from now on; there is no way back. A start is waited for, and what starts beside
    /// others that keep all processors busy would never be ready.
    pub(crate) fn lower(&self, priority: WorkerPriority) {
        let _ = self.work.try_send(Box::new(move || take_place(priority)));
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

// === impl Pace ===

impl Pace {
    /// For as long as nobody is served there is nobody to rest for.
    pub(crate) fn new(rests: bool) -> Pace {
        Pace { rests, worked_since: Cell::new(Instant::now()) }
    }

    /// Rests for as long as was worked since the last rest.
    pub(crate) fn rest(&self) {
        if self.rests {
            std::thread::sleep(self.worked_since.get().elapsed().min(REST_MAX));
            self.worked_since.set(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_turn_and_a_panic_is_one_works_own() {
        let loader = Loader::start("load").expect("a thread");
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
        let loader = Loader::start("load").expect("a thread");
        loader.free(Tells(sender));
        assert_eq!(dropped.recv().expect("dropped"), Some("load".to_owned()));
    }

    #[test]
    fn a_rest_is_as_long_as_the_work() {
        let check = |rests: bool, worked: Duration, at_least: Duration| {
            let pace = Pace::new(rests);
            std::thread::sleep(worked);
            let began = Instant::now();
            pace.rest();
            assert!(began.elapsed() >= at_least, "{worked:?}");
            if !rests {
                // It does not sleep: nothing is due, however long the work was.
                assert!(pace.worked_since.get() < began);
            }
        };
        check(true, Duration::from_millis(20), Duration::from_millis(20));
        check(true, Duration::from_millis(150), REST_MAX);
        check(false, Duration::from_millis(20), Duration::ZERO);
    }
}
