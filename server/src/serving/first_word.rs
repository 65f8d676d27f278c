//! What a new connection speaks, told by its first bytes without taking them.

use std::time::Duration;

use tokio::net::TcpStream;

/// What a client said first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstWord {
    /// HTTP/2, or something that is nothing, which HTTP/2 will refuse at once.
    Http2,
    /// A request line of HTTP/1.
    Http1,
}

/// The first word of every HTTP/2 client.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first words of HTTP/1 clients: what they want is answered, if only with what there is.
const METHODS: [&[u8]; 9] =
    [b"POST ", b"GET ", b"OPTIONS ", b"HEAD ", b"PUT ", b"DELETE ", b"PATCH ", b"TRACE ", b"CONNECT "];
/// How often a first word that came in part is looked at again; a client that splits it is rare, and not in a hurry.
const RETRY: Duration = Duration::from_millis(10);

/// Waits until a client has said its first word; none when it hung up.
///
/// Keepalive only begins after that: without a bound on this, a client that stops in the middle would keep its place.
pub(super) async fn first_word(stream: &TcpStream) -> Option<FirstWord> {
    let mut word = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut word).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => {
                if let Some(said) = understand(&word[..length]) {
                    return Some(said);
                }
                // Readiness tells of bytes that came, and they did; looking takes none away.
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// What these bytes begin; none when they could still become one or the other.
fn understand(bytes: &[u8]) -> Option<FirstWord> {
    if bytes.len() == PREFACE.len() && bytes == PREFACE {
        return Some(FirstWord::Http2);
    }
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Some(FirstWord::Http1);
    }
    let unfinished = PREFACE.starts_with(bytes) || METHODS.iter().any(|method| method.starts_with(bytes));
    (!unfinished).then_some(FirstWord::Http2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_are_told_apart_as_soon_as_they_can_be() {
        let check = |bytes: &[u8], expected| assert_eq!(understand(bytes), expected, "{bytes:?}");
        check(PREFACE, Some(FirstWord::Http2));
        check(b"POST /ev.range.v1.RangeP", Some(FirstWord::Http1));
        check(b"GET / HTTP/1.1\r\n", Some(FirstWord::Http1));
        check(b"OPTIONS ", Some(FirstWord::Http1));
        check(b"P", None);
        check(b"PRI * HTTP/2.0\r\n", None);
        check(b"POST", None);
        check(b"PRI * HTTP/1", Some(FirstWord::Http2));
        check(b"GETTING", Some(FirstWord::Http2));
        check(b"get / HTTP/1.1", Some(FirstWord::Http2));
        check(b"\x16\x03\x01", Some(FirstWord::Http2));
    }
}
