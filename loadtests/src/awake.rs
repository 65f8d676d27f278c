//! Keeps processors from sleeping while something is measured.
//!
//! A processor that has nothing to do is put to sleep, and waking takes it longer than most of what is measured here. That
//! of a virtual machine is given to others by its host meanwhile, which takes milliseconds to give it back: where this one
//! and that one wake all the time, as they do under a load that does not fill them, that is what a 99th percentile is made
//! of. What runs on them is not kept from anything, and no settings are left behind.

use std::{
    fs::File,
    io::{self, Write as _},
};

/// Takes the longest time in microseconds that waking may take, and keeps to it as long as it is open
/// (<https://docs.kernel.org/power/pm_qos_interface.html>).
const LATENCY: &str = "/dev/cpu_dma_latency";

/// No processor of this machine sleeps until it is dropped.
#[derive(Debug)]
pub struct Awake {
    _open: File,
}

// === impl Awake ===

impl Awake {
    /// Begins.
    ///
    /// # Errors
    ///
    /// Where the system has no such switch, or keeps it to root.
    pub fn hold() -> io::Result<Awake> {
        let mut open = fs_err::OpenOptions::new().write(true).open(LATENCY)?.into_parts().0;
        open.write_all(&0_i32.to_ne_bytes())?;
        Ok(Awake { _open: open })
    }

    /// The same; where that cannot be, it is said on the standard error.
    #[must_use]
    pub fn hold_or_tell() -> Option<Awake> {
        let held = Awake::hold();
        held.inspect_err(|error| eprintln!("processors sleep when they have nothing to do, which adds noise: {error}"))
            .ok()
    }
}
