//! Finding the library, and its environment, of which a process has one.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ev_models_core::LoadError;
use ort::{environment::Environment, logging::LogLevel};

use crate::NAME;

/// The library's file name on this system.
pub const LIBRARY: &str = if cfg!(target_vendor = "apple") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };

/// The library can be loaded only once, and has one environment: both are the process's, not a backend's.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// The library's environment, loading the first file of `candidates` that there is.
///
/// # Errors
///
/// [`LoadError::Engine`] when there is none, or it is not an ONNX Runtime of this or a later version.
pub(crate) fn environment(candidates: &[PathBuf]) -> Result<Environment, LoadError> {
    // Looked for each time, so that what is configured decides, and not who came first.
    let path = candidates.iter().find(|path| path.is_file()).ok_or_else(|| missing(candidates))?;
    let mut loaded = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*loaded {
        return Ok(environment.clone());
    }
    let environment = load(path)?;
    Ok(loaded.insert(environment).clone())
}

fn load(path: &Path) -> Result<Environment, LoadError> {
    let failed = |reason: String| engine(format!("{reason}; {ADVICE}"));
    let builder = ort::init_from(path).map_err(|error| failed(error.to_string()))?;
    let environment = builder.with_name("evserve").with_telemetry(false).build();
    let environment = environment.map_err(|error| failed(error.to_string()))?;
    // It writes to the standard error what it returns as an error, too.
    environment.set_log_level(LogLevel::Fatal);
    allocate(LARGE_APART);
    Ok(environment)
}

/// How the C library deals with large blocks. Rust's allocations do not go through it.
struct Allocation {
    /// Blocks from this size on are mapped one by one, and go back to the system as soon as they are freed.
    mapped_from: i32,
    /// So much may be free at the end of a heap before that goes back.
    kept: i32,
}

/// Building a session copies every weight a few times for a moment. glibc moves the size from which it maps blocks up with
/// the first large one that is freed; the next copies then leave holes in its heap that nothing fits into again: 64 MiB for
/// each instance of a model with 32 MiB of weights, instead of some KiB. These are where glibc begins; setting them is what
/// keeps them there.
const LARGE_APART: Allocation = Allocation { mapped_from: 128 << 10, kept: 128 << 10 };

/// Memory that comes from the system is filled with zeros page by page, which is a third of what it takes to load a version
/// of 9 MB. Of what one version leaves, the next one has most.
const ALL_KEPT: Allocation = Allocation { mapped_from: 32 << 20, kept: 512 << 20 };

/// Keeps what the library frees for what it allocates next, or gives it back, holes too.
pub(crate) fn keep_memory(is_kept: bool) {
    if ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        return;
    }
    allocate(if is_kept { ALL_KEPT } else { LARGE_APART });
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if !is_kept {
        #[expect(unsafe_code, reason = "the C library's own function")]
        // SAFETY: takes a number and the allocator's own locks, and gives back what nobody has.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn allocate(Allocation { mapped_from, kept }: Allocation) {
    for (what, bytes) in [(libc::M_MMAP_THRESHOLD, mapped_from), (libc::M_TRIM_THRESHOLD, kept)] {
        #[expect(unsafe_code, reason = "the C library's own switch")]
        // SAFETY: takes two numbers and a lock of its own; a refusal leaves things as they were.
        let _ = unsafe { libc::mallopt(what, bytes) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn allocate(_: Allocation) {}

const ADVICE: &str = "run scripts/onnxruntime.sh, which fetches the right one, \
                      or set `backends.onnxruntime` to the path of ONNX Runtime 1.24 or newer";

fn missing(candidates: &[PathBuf]) -> LoadError {
    let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    let looked = if looked.is_empty() { "no path".to_owned() } else { looked.join(", ") };
    engine(format!("the ONNX Runtime library is not there (looked for {looked}); {ADVICE}"))
}

pub(crate) fn engine(reason: impl Into<String>) -> LoadError {
    LoadError::Engine { backend: NAME, reason: reason.into() }
}
