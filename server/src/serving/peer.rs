//! Who is at the other end, for the calls that want to know.

use std::net::IpAddr;

use http::Request;
use hyper::{body::Incoming, service::Service};

use super::cores::GrpcService;

/// The address a call came from: an extension of requests whose path begins with one of [`WITH_PEER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What changes things is told who asks; predictions need no extension, which would be an allocation.
const WITH_PEER: [&str; 2] = ["/ev.registry.", "/inference.GRPCInferenceService/Repository"];

/// Says with a request where it comes from.
#[derive(Clone)]
pub(super) struct WithPeer<S> {
    pub(super) inner: S,
    /// None where the system did not say.
    pub(super) peer: Option<Peer>,
}

impl<S: GrpcService> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        if let Some(peer) = self.peer
            && WITH_PEER.iter().any(|prefix| request.uri().path().starts_with(prefix))
        {
            request.extensions_mut().insert(peer);
        }
        self.inner.call(request)
    }
}
