//! The HTTP side: probes and metrics.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{grpc::Health, observability::Metrics};

/// Probes and scrapers at one time.
const CONNECTIONS_MAX: usize = 256;
/// A request's head must come within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the endpoints show.
pub(crate) struct HttpState {
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) metrics: Metrics,
}

/// Serves until `stop`.
pub(crate) async fn serve(listener: TcpListener, state: Arc<HttpState>, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (state, stop) = (Arc::clone(&state), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(&state, request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(16 * 1024);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

fn answer(state: &HttpState, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
    }
    let health = *state.health.borrow();
    match path {
        "/livez" => text(StatusCode::OK, "live"),
        "/readyz" if health == Health::Serving => text(StatusCode::OK, "ready"),
        "/readyz" if health == Health::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        "/startupz" if health != Health::Starting => text(StatusCode::OK, "started"),
        "/readyz" | "/startupz" => text(StatusCode::SERVICE_UNAVAILABLE, "starting"),
        "/metrics" => {
            let mut response = text(StatusCode::OK, state.metrics.render());
            let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(openmetrics));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz, /startupz and /metrics"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}
