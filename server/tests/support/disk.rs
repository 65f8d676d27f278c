//! A disk small enough to be filled.

use std::{io::Write as _, path::Path, process::Command};

use tempfile::TempDir;

/// A file system in memory, unmounted when dropped.
pub(crate) struct SmallDisk(TempDir);

// === impl SmallDisk ===

impl SmallDisk {
    /// Mounts one, which takes the rights of root; says so and gives none where that is refused.
    pub(crate) fn mount(size: &str) -> Option<SmallDisk> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        match mount.args(["-t", "tmpfs", "-o", &options, "evserve-test"]).arg(directory.path()).output() {
            Ok(output) if output.status.success() => Some(SmallDisk(directory)),
            Ok(output) => skipped(String::from_utf8_lossy(&output.stderr).trim()),
            Err(error) => skipped(&error.to_string()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves `free` bytes.
    pub(crate) fn fill(&self, free: u64) {
        let ballast = self.path().join("ballast");
        let mut file = fs_err::OpenOptions::new().create(true).append(true).open(&ballast).expect("a file");
        for piece in [1 << 20, 4096] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
        let size = file.metadata().expect("a size").len();
        file.set_len(size - free).expect("cut");
    }

    /// Gives all the space back.
    pub(crate) fn free(&self) {
        fs_err::remove_file(self.path().join("ballast")).expect("removed");
    }
}

/// Said past the test's own output, which nobody sees of a test that passes.
fn skipped(why: &str) -> Option<SmallDisk> {
    let _ = writeln!(std::io::stderr(), "skipped, no small disk can be mounted: {why}");
    None
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that a failed test left running still has files open.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
