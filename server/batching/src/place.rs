//! The threads of a worker, and their place among all others of the machine.

use std::sync::mpsc::{self, Receiver, SyncSender};

use crate::{Budget, WorkerPriority, worker::Worker};

/// How much nicer than the process a worker of low priority is.
#[cfg(target_os = "linux")]
const LOW_NICE: i32 = 10;
/// The same of a thread that stands in for one of idle priority: as little above it as there is. The system gives it five
/// times what it gives to one of idle priority, and a seventieth of what it gives to a usual one.
#[cfg(target_os = "linux")]
const STAND_IN_NICE: i32 = 19;

/// A thread that runs a worker while it is its turn.
///
/// A thread of idle priority cannot leave it again without privileges, so that a worker that shall be above it for some
/// time goes to another thread.
pub(crate) struct Post {
    place: Place,
    relay: Option<Relay>,
}

/// Where a worker comes from, and goes to.
struct Relay {
    from: Receiver<Worker>,
    to: SyncSender<Worker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Asked(WorkerPriority),
    StandIn,
}

// === impl Post ===

impl Post {
    /// The post that a worker begins at, and the one that stands in for it where it has idle priority.
    pub(crate) fn of(priority: WorkerPriority) -> (Post, Option<Post>) {
        if priority != WorkerPriority::Idle {
            return (Post { place: Place::Asked(priority), relay: None }, None);
        }
        // There is one worker: no place is ever waited for.
        let ((to_stand_in, from_usual), (to_usual, from_stand_in)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
        let usual = Relay { from: from_stand_in, to: to_stand_in };
        let stand_in = Relay { from: from_usual, to: to_usual };
        let usual = Post { place: Place::Asked(priority), relay: Some(usual) };
        (usual, Some(Post { place: Place::StandIn, relay: Some(stand_in) }))
    }

    /// Runs the worker whenever it is here, until it ends.
    pub(crate) fn keep(self, worker: Option<Worker>) {
        match self.place {
            Place::Asked(priority) => take_place(priority),
            Place::StandIn => stand_in(),
        }
        let Some(Relay { from, to }) = self.relay else {
            worker.and_then(|worker| worker.work(|_| false));
            return;
        };
        let stands_in = self.place == Place::StandIn;
        let is_relieved = |budget: &Budget| budget.has_background() != stands_in;
        let mut here = worker;
        // The other thread ends with its worker, and then nothing more comes from it.
        while let Some(worker) = here.or_else(|| from.recv().ok()) {
            here = None;
            match worker.work(is_relieved) {
                Some(worker) => drop(to.send(worker)),
                None => return,
            }
        }
    }
}

/// Takes the place of this thread among all others, as far as the system allows; a failure leaves it as it is, and rows
/// are run all the same.
#[cfg(target_os = "linux")]
pub fn take_place(priority: WorkerPriority) {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };
    match priority {
        WorkerPriority::Normal => {}
        WorkerPriority::Low => be_nicer(LOW_NICE),
        WorkerPriority::Idle => {
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
        }
    }
}

#[cfg(target_os = "linux")]
fn stand_in() {
    be_nicer(STAND_IN_NICE);
}

#[cfg(target_os = "linux")]
fn be_nicer(by: i32) {
    if let Ok(usual) = rustix::process::getpriority_process(None) {
        let _ = rustix::process::setpriority_process(None, (usual + by).min(19));
    }
}

/// Takes the place of this thread among all others, where the system has places.
#[cfg(not(target_os = "linux"))]
pub fn take_place(_: WorkerPriority) {}

#[cfg(not(target_os = "linux"))]
fn stand_in() {}
