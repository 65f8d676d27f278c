//! Native calls go through untouched; what is none is answered here.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::Either;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tonic::{body::Body, codegen::BoxFuture};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, Service};

use super::{cors::Origins, silence::NoSilence};

/// What clients that are not native are held to, and told.
#[derive(Debug, Clone)]
pub(crate) struct WebConfig {
    /// The origins whose pages may call.
    pub(crate) origins: Origins,
    /// Longest pause inside a request over HTTP/1.1.
    pub(crate) silence_max: Duration,
    /// Where probes and metrics are: people find this port first.
    pub(crate) http_address: SocketAddr,
}

/// The services for native clients, at the price of one look at the request's head, and for everybody else.
///
/// Native calls are not asked to wait until the services are ready, which they always are: a future that asks holds the
/// request, and moving that costs more than all that the layers do.
#[derive(Clone)]
pub(crate) struct WebService<S> {
    service: S,
    config: Arc<WebConfig>,
}

/// What a request that is not native wants.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Call,
    Preflight,
    Nothing(StatusCode),
}

/// The beginning of gRPC-Web's content types, and of nothing else's.
const GRPC_WEB: &[u8] = b"application/grpc-web";
/// Those that are served.
const CONTENT_TYPES: [&[u8]; 4] = [
    b"application/grpc-web",
    b"application/grpc-web+proto",
    b"application/grpc-web-text",
    b"application/grpc-web-text+proto",
];

/// A stack of services that can be called with both bodies: as it comes, and translated.
pub(crate) trait Stack:
    Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S> Stack for S where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

// === impl WebService ===

impl<S: Stack> WebService<S> {
    pub(crate) fn new(service: S, config: WebConfig) -> WebService<S> {
        WebService { service, config: Arc::new(config) }
    }

    #[cold]
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<Response<Body>, Infallible> {
        let (service, config) = (self.service.clone(), Arc::clone(&self.config));
        Box::pin(async move {
            let allowed = config.origins.allowed(&request);
            let mut response = match wish(&request) {
                Wish::Call => {
                    let max = config.silence_max;
                    GrpcWebLayer::new().layer(NoSilence { inner: service, max }).call(request).await?
                }
                Wish::Preflight => config.origins.preflight(&request),
                Wish::Nothing(status) => config.explain(status),
            };
            config.origins.mark(allowed, response.headers_mut());
            Ok(response)
        })
    }
}

impl<S: Stack> hyper::service::Service<Request<Incoming>> for WebService<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<<S as Service<Request<Incoming>>>::Future, BoxFuture<Response<Body>, Infallible>>;

    #[inline]
    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if is_native(&request) {
            Either::Left(self.service.clone().call(request))
        } else {
            Either::Right(self.answer(request))
        }
    }
}

/// Whether a request is what a gRPC client sends, or tries to be.
#[inline]
fn is_native<B>(request: &Request<B>) -> bool {
    let is_web = |value: &HeaderValue| value.as_bytes().starts_with(GRPC_WEB);
    request.version() == Version::HTTP_2
        && request.method() == Method::POST
        && !request.headers().get(header::CONTENT_TYPE).is_some_and(is_web)
}

fn wish<B>(request: &Request<B>) -> Wish {
    let headers = request.headers();
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match *request.method() {
        Method::POST if CONTENT_TYPES.contains(&content_type) => Wish::Call,
        Method::POST if content_type.starts_with(b"application/grpc") && !content_type.starts_with(GRPC_WEB) => {
            Wish::Nothing(StatusCode::HTTP_VERSION_NOT_SUPPORTED)
        }
        Method::POST => Wish::Nothing(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        Method::OPTIONS
            if headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) =>
        {
            Wish::Preflight
        }
        _ => Wish::Nothing(StatusCode::METHOD_NOT_ALLOWED),
    }
}

// === impl WebConfig ===

impl WebConfig {
    /// An answer for whoever expected something else here.
    fn explain(&self, status: StatusCode) -> Response<Body> {
        let http = self.http_address;
        let place = if http.ip().is_unspecified() {
            format!("port {} of this host", http.port())
        } else {
            format!("http://{http}")
        };
        let words = format!(
            "This is evserve's gRPC port. It answers gRPC over HTTP/2, and gRPC-Web over HTTP/1.1 and HTTP/2\n\
             (POST with the content type application/grpc-web or application/grpc-web-text).\n\
             Probes and metrics are at {place}: /livez, /readyz, /startupz, /metrics.\n"
        );
        let mut response = text(status, words);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
        }
        response
    }
}

pub(super) fn text(status: StatusCode, words: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(words.into())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, version: Version, content_type: &str) -> Request<()> {
        let request = Request::builder().method(method).version(version).header(header::CONTENT_TYPE, content_type);
        request.body(()).expect("a request")
    }

    #[test]
    fn only_calls_over_http_2_are_native() {
        let check = |method: Method, version, content_type, native: bool, expected: Wish| {
            let request = request(method, version, content_type);
            assert_eq!(is_native(&request), native, "{request:?}");
            if !native {
                assert_eq!(wish(&request), expected, "{request:?}");
            }
        };
        let nothing = Wish::Nothing;
        check(Method::POST, Version::HTTP_2, "application/grpc", true, Wish::Call);
        check(Method::POST, Version::HTTP_2, "application/grpc+proto", true, Wish::Call);
        check(Method::POST, Version::HTTP_2, "application/grpc-web", false, Wish::Call);
        check(Method::POST, Version::HTTP_2, "application/grpc-web-text+proto", false, Wish::Call);
        check(Method::POST, Version::HTTP_11, "application/grpc-web+proto", false, Wish::Call);
        check(Method::POST, Version::HTTP_11, "application/grpc-web-text", false, Wish::Call);
        check(
            Method::POST,
            Version::HTTP_11,
            "application/grpc",
            false,
            nothing(StatusCode::HTTP_VERSION_NOT_SUPPORTED),
        );
        check(
            Method::POST,
            Version::HTTP_11,
            "application/grpc-web+json",
            false,
            nothing(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        );
        check(Method::POST, Version::HTTP_11, "application/json", false, nothing(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        check(Method::GET, Version::HTTP_11, "", false, nothing(StatusCode::METHOD_NOT_ALLOWED));
        check(Method::GET, Version::HTTP_2, "application/grpc", false, nothing(StatusCode::METHOD_NOT_ALLOWED));
        // Without an origin and a method it asks about nothing.
        check(Method::OPTIONS, Version::HTTP_11, "", false, nothing(StatusCode::METHOD_NOT_ALLOWED));
    }
}
