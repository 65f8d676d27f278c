//! What can go wrong with sending.

use std::{sync::Arc, time::Duration};

use crate::Error;

/// What can go wrong with sending.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The server will not have this gateway, or another one took its place: nothing is sent any more. Correct what it
    /// names, and begin again.
    #[error("the gateway has ended")]
    Ended(#[source] Arc<Error>),
    /// The gateway was closed.
    #[error("the gateway is closed")]
    Closed,
    /// There was no room for the batch: the server takes less than is sent, or does not answer. It was not taken in.
    #[error("no room for a batch within {waited:?}; {batches} batches are not durable yet")]
    Full {
        /// How long room was waited for.
        waited: Duration,
        /// What the buffer holds.
        batches: usize,
    },
    /// The batch cannot be; it was not taken in.
    #[error("{0}")]
    Invalid(String),
}
