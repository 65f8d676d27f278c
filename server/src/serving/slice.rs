//! How soon a serving thread runs when something has come for it and another thread has its processor.

/// Asks for slices a little shorter than the usual ones for this thread, so that it runs as soon as it is woken.
///
/// A thread of lower priority gives way to one that wakes only when its slice is over, some milliseconds (EEVDF,
/// `RUN_TO_PARITY`), unless the other's slices are shorter (Linux 6.12, `PREEMPT_SHORT`). They are no shorter than that takes:
/// a slice also is how long this thread runs before one of lower priority gets a turn, which then lasts until the timer's
/// next tick, and requests should fit into it. What each has of the processor is the same. Older systems take no notice; one
/// that refuses leaves the thread as it is.
#[cfg(target_os = "linux")]
pub(super) fn shorten_slice() {
    if let Err(error) = attributes().and_then(|usual| ask(shorter(usual.sched_runtime))) {
        tracing::debug!(error = &error as &dyn std::error::Error, "a serving thread keeps the usual slice");
    }
}

/// Elsewhere there is nothing to ask.
#[cfg(not(target_os = "linux"))]
pub(super) fn shorten_slice() {}

/// Nine tenths; 0, which asks for nothing, where the system does not tell.
#[cfg(target_os = "linux")]
fn shorter(usual_ns: u64) -> u64 {
    usual_ns / 10 * 9
}

#[cfg(target_os = "linux")]
fn ask(slice_ns: u64) -> std::io::Result<()> {
    let attributes = libc::sched_attr { sched_runtime: slice_ns, ..attributes()? };
    #[expect(unsafe_code, reason = "there is no function for this call")]
    // SAFETY: the system reads the attributes, whose size is in them, and changes those of this thread (0).
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// How this thread is scheduled.
#[cfg(target_os = "linux")]
fn attributes() -> std::io::Result<libc::sched_attr> {
    let mut attributes = std::mem::MaybeUninit::<libc::sched_attr>::zeroed();
    #[expect(unsafe_code, reason = "there is no function for this call")]
    // SAFETY: the system writes at most as many bytes as there is room for; what it leaves is zero, and all are numbers.
    unsafe {
        let size = size_of::<libc::sched_attr>();
        match libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size, 0) {
            0 => Ok(attributes.assume_init()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_shorter_where_the_system_knows_of_it() {
        let before = attributes().expect("a thread is scheduled somehow");
        let asked = shorter(before.sched_runtime);
        ask(asked).expect("no slice is refused");
        let after = attributes().expect("a thread is scheduled somehow");
        assert!([asked, before.sched_runtime].contains(&after.sched_runtime), "{}", after.sched_runtime);
        assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, before.sched_nice));
    }
}
