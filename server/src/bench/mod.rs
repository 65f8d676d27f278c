//! What `benches` measures and the program does not need: the floor, calls without a socket, and receiving without a store.
//!
//! Only with the feature `bench`. Here because both must be made of the very parts that serve: the floor of [`crate::serving`],
//! the calls of the layers and services that [`crate::Server::start`] puts together.

mod floor;
mod in_process;
mod receiving;

pub use floor::Floor;
pub use in_process::{CallError, InProcess};
pub use receiving::Receiving;
