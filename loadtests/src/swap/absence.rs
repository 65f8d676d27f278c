//! When the machine itself was away: times in which a processor ran none of its threads.
//!
//! A host takes the processors of a virtual machine away for milliseconds. What that does to a 99th percentile has nothing
//! to do with the server, and is more than what is measured here. A thread of real-time priority on each processor wakes
//! every millisecond; nothing of the server or the client can keep it from running, so that when it is late, the processor
//! was not there.

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// From one wake-up to the next.
const EVERY: Duration = Duration::from_millis(1);
/// Less is the time that waking takes.
const LATE: Duration = Duration::from_millis(1);

/// Notes when processors are away, until it is dropped or asked.
pub(super) struct Witness {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Range<Instant>>>>,
}

/// Times that are left out, one of which ends before the next begins.
#[derive(Debug, Default)]
pub(super) struct Absences {
    times: Vec<Range<Instant>>,
    /// How long processors were away, without what followed.
    pub(super) away: Duration,
}

// === impl Witness ===

impl Witness {
    /// Begins on these processors, and those of this thread.
    ///
    /// # Errors
    ///
    /// Where the system gives no real-time priority (it takes `CAP_SYS_NICE`).
    pub(super) fn start(processors: &str) -> io::Result<Witness> {
        let mut all = own()?;
        all.extend(listed(processors));
        all.sort_unstable();
        all.dedup();
        let (stop, mut threads) = (Arc::new(AtomicBool::new(false)), Vec::new());
        for processor in all {
            let (stop, (tell, told)) = (Arc::clone(&stop), std::sync::mpsc::sync_channel(1));
            let thread = std::thread::Builder::new().name(format!("witness-{processor}"));
            let watch = move || {
                let placed = place(processor);
                let is_placed = placed.is_ok();
                let _ = tell.send(placed);
                if is_placed { watch(&stop) } else { Vec::new() }
            };
            threads.push(thread.spawn(watch)?);
            told.recv().map_err(io::Error::other)??;
        }
        Ok(Witness { stop, threads })
    }

    /// Ends, and tells when the processors were away. What had to wait meanwhile is worked off by a server that is busy for
    /// a share of `load` in a time that is `load` / (1 - `load`) as long as the absence.
    pub(super) fn finish(mut self, load: f64) -> Absences {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.threads.drain(..).flat_map(|thread| thread.join().unwrap_or_default());
        Absences::of(found.collect(), load)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn watch(stop: &AtomicBool) -> Vec<Range<Instant>> {
    let (mut absences, mut seen) = (Vec::new(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let due = seen + EVERY;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        if now > due + LATE {
            // It may have gone right after it was seen.
            absences.push(seen..now);
        }
        seen = now;
    }
    absences
}

/// The processors of this thread.
fn own() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect())
}

/// Processors as `taskset -c` takes them: `0,2-3`.
fn listed(processors: &str) -> impl Iterator<Item = usize> {
    processors.split(',').flat_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) => first..=last,
            _ => {
                #[expect(clippy::reversed_empty_ranges, reason = "none")]
                let none = 1..=0;
                none
            }
        }
    })
}

/// Has this thread run on one processor, before all others.
fn place(processor: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(processor);
    rustix::thread::sched_setaffinity(None, &set)?;
    let parameters = libc::sched_param { sched_priority: 1 };
    #[expect(unsafe_code, reason = "there is no function for this call")]
    // SAFETY: the system reads the parameters and changes this thread (0).
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

// === impl Absences ===

impl Absences {
    fn of(mut found: Vec<Range<Instant>>, load: f64) -> Absences {
        found.sort_unstable_by_key(|absence| absence.start);
        let mut all = Absences::default();
        for absence in found {
            let length = absence.end - absence.start;
            all.away += length;
            let end = absence.end + length.mul_f64(load / (1.0 - load));
            match all.times.last_mut() {
                Some(last) if absence.start <= last.end => last.end = last.end.max(end),
                _ => all.times.push(absence.start..end),
            }
        }
        all
    }

    /// Whether none of the time from `began` to `ended` is left out.
    pub(super) fn spare(&self, began: Instant, ended: Instant) -> bool {
        let next = self.times.partition_point(|time| time.end < began);
        self.times.get(next).is_none_or(|time| time.start > ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_read_as_taskset_reads_them() {
        let check = |text: &str, expected: &[usize]| assert_eq!(listed(text).collect::<Vec<_>>(), expected, "{text}");
        check("0", &[0]);
        check("0,2-4, 7", &[0, 2, 3, 4, 7]);
        check("", &[]);
        check("two", &[]);
    }

    #[test]
    fn what_had_to_wait_is_left_out_as_well() {
        let origin = Instant::now();
        let at = |ms: u64| origin + Duration::from_millis(ms);
        // Half busy: what 10 ms have left takes 10 ms. Two of them run into each other.
        let absences = Absences::of(vec![at(200)..at(210), at(100)..at(110), at(115)..at(120)], 0.5);
        assert_eq!(absences.away, Duration::from_millis(25));
        let check = |began: u64, ended: u64, expected: bool| {
            assert_eq!(absences.spare(at(began), at(ended)), expected, "{began} to {ended} ms");
        };
        check(90, 99, true);
        check(90, 101, false);
        check(112, 113, false);
        check(121, 124, false);
        check(126, 199, true);
        check(126, 205, false);
        check(90, 300, false);
        check(219, 219, false);
        check(221, 300, true);
    }

    #[test]
    fn a_processor_that_is_there_is_not_told_to_be_away_for_long() {
        // Where the system allows no such thread there is nothing to look at.
        let Ok(witness) = Witness::start("0") else { return };
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(50));
        let absences = witness.finish(0.5);
        assert!(absences.away <= began.elapsed() * 2, "{absences:?}");
    }
}
