//! File work off the serving threads.

use tokio::task::spawn_blocking;

use crate::RegistryError;

/// Runs file work on a thread that may block.
///
/// # Cancel safety
///
/// The work goes on to its end when the future is dropped; what it returns is dropped with it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(RegistryError::ShuttingDown),
        },
    }
}
