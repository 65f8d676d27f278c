//! Which web pages may read answers: what the browser asks, and what it is told.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use tonic::body::Body;

use super::service::text;

/// What a page may read of an answer's headers; the trailers are in the body.
const EXPOSED: HeaderValue = HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");
/// How long a browser may remember what it was told; Chromium remembers for two hours at most.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("7200");

/// The origins whose pages may call, `grpc.web_allowed_origins`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins(Vec<HeaderValue>);

/// Any origin.
const ANY: &str = "*";

// === impl Origins ===

impl Origins {
    /// Reads `https://console.example.com`, with a port where it is not the scheme's own, or `*`.
    ///
    /// # Errors
    ///
    /// What was expected, in words.
    pub(crate) fn parse(origins: &[String]) -> Result<Origins, String> {
        let parsed = origins.iter().map(|origin| {
            let expected = || format!("has `{origin}`, expected such as https://console.example.com, or *");
            let value = HeaderValue::from_str(origin).map_err(|_| expected())?;
            (origin == ANY || is_origin(origin)).then_some(value).ok_or_else(expected)
        });
        parsed.collect::<Result<_, _>>().map(Origins)
    }

    /// What `access-control-allow-origin` says to this caller: nothing to one that is no web page, or is not allowed.
    pub(super) fn allowed<B>(&self, request: &Request<B>) -> Option<HeaderValue> {
        let origin = request.headers().get(header::ORIGIN)?;
        self.0.iter().find(|allowed| *allowed == ANY || *allowed == origin).cloned()
    }

    /// Answers what a browser asks before it lets a page of another origin call.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Response<Body> {
        if self.allowed(request).is_none() {
            let words =
                "pages of this origin may not call this server; an operator allows it in grpc.web_allowed_origins\n";
            return text(StatusCode::FORBIDDEN, words);
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        // Metadata may have any name. What is allowed to be sent is not what is believed.
        if let Some(asked) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
        response
    }

    /// Tells the browser whether the page may read the answer.
    pub(super) fn mark(&self, allowed: Option<HeaderValue>, headers: &mut HeaderMap) {
        if !self.0.is_empty() {
            headers.append(header::VARY, HeaderValue::from_static("origin, access-control-request-headers"));
        }
        if let Some(origin) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// Whether this is what a browser writes into `origin`: scheme, host, perhaps a port, in lower case and no more.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let written = format!("{scheme}://{authority}");
    ["http", "https"].contains(&scheme)
        && !authority.as_str().contains(['@', '*'])
        && written == text
        && !text.contains(|letter: char| letter.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        let check = |text: &str, expected: bool| {
            assert_eq!(Origins::parse(&[text.to_owned()]).is_ok(), expected, "{text}");
        };
        check("https://console.example.com", true);
        check("http://localhost:5173", true);
        check("http://[::1]:5173", true);
        check("*", true);
        check("", false);
        check("console.example.com", false);
        check("https://console.example.com/", false);
        check("https://Console.example.com", false);
        check("https://user@console.example.com", false);
        check("https://*.example.com", false);
        check("ftp://console.example.com", false);
        check("null", false);
    }
}
