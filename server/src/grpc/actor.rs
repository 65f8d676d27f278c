//! Who asks for a change.

use tonic::Request;

use crate::serving::Peer;

/// Who a caller says it is. Nobody checks it; the address it came from is beside it in the audit log.
const ACTOR: &str = "x-evserve-actor";

/// What the audit log calls whoever sent a request.
pub(super) fn actor<T>(request: &Request<T>) -> String {
    let claimed = request.metadata().get(ACTOR).and_then(|actor| actor.to_str().ok()).unwrap_or_default();
    let claimed: String = claimed.chars().take(64).collect();
    match (claimed.trim(), request.extensions().get::<Peer>()) {
        ("", Some(Peer(address))) => address.to_string(),
        (claimed, Some(Peer(address))) => format!("{claimed} from {address}"),
        (claimed, None) => claimed.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn an_actor_is_who_it_says_and_where_it_comes_from() {
        let check = |claimed: Option<&'static str>, peer: bool, expected: &str| {
            let mut request = Request::new(());
            if let Some(claimed) = claimed {
                request.metadata_mut().insert(ACTOR, claimed.parse().expect("a header"));
            }
            if peer {
                request.extensions_mut().insert(Peer(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7))));
            }
            assert_eq!(actor(&request), expected);
        };
        check(Some("ci"), true, "ci from 10.0.0.7");
        check(Some(" "), true, "10.0.0.7");
        check(None, true, "10.0.0.7");
        check(Some("ci"), false, "ci");
        check(None, false, "");
        let long: &'static str = Box::leak("x".repeat(200).into_boxed_str());
        check(Some(long), true, &format!("{} from 10.0.0.7", "x".repeat(64)));
    }
}
