//! The serving side: one acceptor, one runtime a core, nothing but requests on the serving threads.

mod acceptor;
mod connection;
mod cores;
mod first_word;
mod lingering;
mod patient;
mod peer;
mod slice;

pub use acceptor::ListenError;

pub(crate) use acceptor::{accept, listen};
pub(crate) use connection::ConnectionConfig;
pub(crate) use cores::Cores;
pub(crate) use peer::Peer;
