//! The threads of a worker, and their place among all others of the machine.

use std::sync::mpsc::{self, Receiver, SyncSender};

use crate::{Budget, WorkerPriority, worker::Worker};

/// How much nicer than the process a worker of low priority is.
#[cfg(target_os = "linux")]
const LOW_NICE: i32 = 10;

/// A thread that runs a worker while it is its turn.
///
/// A thread of idle priority cannot leave it again without privileges, so that a worker that shall be above it for some
/// time goes to another thread.
pub(crate) struct Post {
    shift: Shift,
    relay: Option<Relay>,
}

/// Where a worker comes from, and goes to.
struct Relay {
    from: Receiver<Worker>,
    to: SyncSender<Worker>,
}

/// Whose turn it is to run a worker, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shift {
    /// There is no other thread.
    Only(WorkerPriority),
    /// The thread of idle priority, while there is no background work.
    Idle,
    /// The one that stands in for it, while there is some.
    StandIn,
}

/// The processor that this thread keeps to, where it keeps to one.
///
/// While background work goes on, a processor that has nothing else to do has that, and Linux takes no thread there from
/// a processor on which two are waiting: that is done where a processor has nothing to do at all (seen with 6.18). Two
/// workers shared one processor for as long as a model took to load, which had the other one. So where there are as many
/// places as processors, each place has its own meanwhile.
#[derive(Default)]
pub(crate) struct Spot {
    place: Option<usize>,
}

// === impl Post ===

impl Post {
    /// The post that a worker begins at, and the one that stands in for it where it has idle priority.
    pub(crate) fn of(priority: WorkerPriority) -> (Post, Option<Post>) {
        if priority != WorkerPriority::Idle {
            return (Post { shift: Shift::Only(priority), relay: None }, None);
        }
        // There is one worker: no place is ever waited for.
        let ((to_stand_in, from_usual), (to_usual, from_stand_in)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
        let usual = Relay { from: from_stand_in, to: to_stand_in };
        let stand_in = Relay { from: from_usual, to: to_usual };
        let usual = Post { shift: Shift::Idle, relay: Some(usual) };
        (usual, Some(Post { shift: Shift::StandIn, relay: Some(stand_in) }))
    }

    /// Runs the worker whenever it is here, until it ends.
    pub(crate) fn keep(self, worker: Option<Worker>) {
        let Post { shift, relay } = self;
        match shift {
            Shift::Only(priority) => take_place(priority),
            Shift::Idle => take_place(WorkerPriority::Idle),
            Shift::StandIn => take_place(WorkerPriority::Low),
        }
        let Some(Relay { from, to }) = relay else {
            worker.and_then(|worker| worker.work(shift));
            return;
        };
        let mut here = worker;
        // The other thread ends with its worker, and then nothing more comes from it.
        while let Some(worker) = here.or_else(|| from.recv().ok()) {
            here = None;
            match worker.work(shift) {
                Some(worker) => drop(to.send(worker)),
                None => return,
            }
        }
    }
}

// === impl Spot ===

impl Spot {
    /// Keeps this thread to the processor of a place, of so many, as far as the system allows. Who has no place stays.
    pub(crate) fn keep_to(&mut self, place: Option<(usize, usize)>) {
        if let Some((place, places)) = place
            && self.place != Some(place)
        {
            self.place = Some(place);
            keep_to_processor(place, places);
        }
    }
}

// === impl Shift ===

impl Shift {
    /// The worker is to go to the other thread.
    pub(crate) fn is_over(self, budget: &Budget) -> bool {
        match self {
            Shift::Only(_) => false,
            Shift::Idle => budget.has_background(),
            Shift::StandIn => !budget.has_background(),
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
        WorkerPriority::Low => {
            // The process's own, which is its first thread's: threads begin as low as the one that started them.
            if let Ok(usual) = rustix::process::getpriority_process(Some(rustix::process::getpid())) {
                let _ = rustix::process::setpriority_process(None, (usual + LOW_NICE).min(19));
            }
        }
        WorkerPriority::Idle => {
            let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
        }
    }
}

/// Keeps this thread to one of the processors that the process may use, if it may use `count` and not one: where it may use
/// more, there is room for everyone, and which of them are anybody's is not known.
#[cfg(target_os = "linux")]
fn keep_to_processor(index: usize, count: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    // The process's own are its first thread's, which keeps to none.
    let Ok(all) = sched_getaffinity(Some(rustix::process::getpid())) else { return };
    let mut processors = (0..CpuSet::MAX_CPU).filter(|processor| all.is_set(*processor));
    let found = processors.clone().count();
    if let Some(processor) = processors.nth(index).filter(|_| found == count && count > 1) {
        let mut own = CpuSet::new();
        own.set(processor);
        let _ = sched_setaffinity(None, &own);
    }
}

/// Elsewhere the system decides.
#[cfg(not(target_os = "linux"))]
fn keep_to_processor(_: usize, _: usize) {}

/// Takes the place of this thread among all others, where the system has places.
#[cfg(not(target_os = "linux"))]
pub fn take_place(_: WorkerPriority) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::thread::{CpuSet, sched_getaffinity};

    use super::*;

    fn own() -> Vec<usize> {
        let own = sched_getaffinity(None).expect("the system says");
        (0..CpuSet::MAX_CPU).filter(|processor| own.is_set(*processor)).collect()
    }

    #[test]
    fn a_place_has_a_processor_of_its_own_where_there_is_one_for_each() {
        let all = own();
        let kept = |place, places| {
            let keep = move || {
                Spot::default().keep_to(Some((place, places)));
                own()
            };
            std::thread::spawn(keep).join().expect("no panic")
        };
        if all.len() > 1 {
            for (place, processor) in all.iter().enumerate() {
                assert_eq!(kept(place, all.len()), [*processor]);
            }
        }
        assert_eq!(kept(0, all.len() + 1), all, "too few processors");
        assert_eq!(kept(all.len(), all.len()), all, "no such place");
        assert_eq!(kept(0, 1), all, "one place");
    }
}
