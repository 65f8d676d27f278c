//! How long a store may keep silent.
//!
//! A request may never be answered, and nobody told: where a connection ends in the moment in which it is given a request,
//! tokio's channel keeps the request for as long as its sender lives, and hyper's client keeps the sender for as long as it
//! waits for the answer (tokio 1.54, hyper 1.12: of 130,000 sends beside the receiver's end 6 to 30 were lost so). A peer
//! that is gone without a word, as one behind a firewall is that forgot the connection, looks the same. So whoever is to
//! answer within moments is given moments, and asked again over another connection.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
        ReqwestConnector,
    },
};
use tokio::time::{Instant, Sleep};

/// Longest time to the beginning of an answer, and between two pieces of it. S3 begins within a fraction of a second; a store
/// on disks that are busy is given more.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Slowest way to the store, as far as a part of a file has to pass it within a request's time.
const SENT_BYTES_PER_S_MIN: f64 = 140_000.0;

/// Connects as the library does by itself.
#[derive(Debug)]
pub(super) struct PatientConnector;

/// Ends requests to a store that keeps silent.
#[derive(Debug)]
struct Patient {
    inner: HttpClient,
}

/// An answer in pieces, the next of which comes within [`SILENCE_MAX`].
struct Pieces {
    inner: HttpResponseBody,
    silence: Pin<Box<Sleep>>,
    /// Whether somebody waits since the last one: who does not ask for more has not waited.
    is_awaited: bool,
}

// === impl PatientConnector ===

impl HttpConnector for PatientConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Patient { inner }))
    }
}

// === impl Patient ===

#[async_trait]
impl HttpService for Patient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Parts are put together in the time that takes, and not twice: the library's own limit is the only one.
        if request.method().as_str() == "POST" {
            return self.inner.execute(request).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "a part has 8 MiB")]
        let sending = Duration::from_secs_f64(request.body().content_length() as f64 / SENT_BYTES_PER_S_MIN);
        let answered = tokio::time::timeout(SILENCE_MAX + sending, self.inner.execute(request)).await;
        let (parts, body) = answered.map_err(|_| silent())??.into_parts();
        let silence = Box::pin(tokio::time::sleep(SILENCE_MAX));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(Pieces { inner: body, silence, is_awaited: false })))
    }
}

// === impl Pieces ===

impl Body for Pieces {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.is_awaited = false;
            return Poll::Ready(frame);
        }
        if !std::mem::replace(&mut self.is_awaited, true) {
            self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
        }
        ready!(self.silence.as_mut().poll(context));
        Poll::Ready(Some(Err(silent())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What is tried again where that does no harm.
fn silent() -> HttpError {
    let problem = format!("nothing came within {SILENCE_MAX:?}");
    HttpError::new(HttpErrorKind::Timeout, std::io::Error::new(std::io::ErrorKind::TimedOut, problem))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use object_store::client::HttpRequestBody;

    use super::*;

    /// How a store answers.
    #[derive(Debug, Clone, Copy)]
    enum Store {
        /// Never.
        Silent,
        /// After a while, with pieces that come after a while each.
        Slow { answer: Duration, pieces: &'static [Duration] },
    }

    /// An answer that takes its time.
    struct Drip {
        pauses: &'static [Duration],
        pause: Option<Pin<Box<Sleep>>>,
    }

    #[async_trait]
    impl HttpService for Store {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            let Store::Slow { answer, pieces } = *self else { return pending().await };
            tokio::time::sleep(answer).await;
            Ok(HttpResponse::new(HttpResponseBody::new(Drip { pauses: pieces, pause: None })))
        }
    }

    impl Body for Drip {
        type Data = Bytes;
        type Error = HttpError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
            let Some((first, rest)) = self.pauses.split_first() else { return Poll::Ready(None) };
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(*first)));
            ready!(pause.as_mut().poll(context));
            (self.pauses, self.pause) = (rest, None);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
        }
    }

    /// What comes of a request, and after which time.
    async fn ask(store: Store, method: &str, bytes: usize) -> (Result<usize, HttpErrorKind>, Duration) {
        let begun = Instant::now();
        let mut request = HttpRequest::new(HttpRequestBody::from(vec![0; bytes]));
        *request.method_mut() = method.parse().unwrap();
        let patient = Patient { inner: HttpClient::new(store) };
        let asked = tokio::time::timeout(Duration::from_secs(3_600), patient.call(request)).await;
        let answered = match asked {
            Ok(Ok(response)) => response.into_body().bytes().await.map(|bytes| bytes.len()),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(usize::MAX),
        };
        (answered.map_err(|error| error.kind()), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_ended_and_slowness_is_not() {
        let seconds = Duration::from_secs;
        let check = async |store: Store, method: &str, bytes: usize, expected: Result<usize, ()>, after: Duration| {
            let (found, took) = ask(store, method, bytes).await;
            let found = found.map_err(|kind| assert_eq!(kind, HttpErrorKind::Timeout));
            assert_eq!((found, took.as_secs()), (expected, after.as_secs()), "{store:?} {method} {bytes}");
        };
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            check(Store::Silent, method, 0, Err(()), SILENCE_MAX).await;
        }
        const NEARLY: Duration = Duration::from_secs(9);
        const TOO_LONG: Duration = Duration::from_secs(11);
        check(Store::Slow { answer: NEARLY, pieces: &[NEARLY, NEARLY] }, "GET", 0, Ok(10), seconds(27)).await;
        check(Store::Slow { answer: NEARLY, pieces: &[NEARLY, TOO_LONG] }, "GET", 0, Err(()), seconds(28)).await;
        // What takes its time on the way there.
        check(Store::Silent, "PUT", 1_400_000, Err(()), seconds(20)).await;
        check(Store::Slow { answer: seconds(19), pieces: &[] }, "PUT", 1_400_000, Ok(0), seconds(19)).await;
        // Putting parts together.
        check(Store::Slow { answer: seconds(300), pieces: &[TOO_LONG] }, "POST", 0, Ok(5), seconds(311)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_his_time_is_not_cut_off() {
        const PAUSES: [Duration; 3] = [Duration::from_secs(1); 3];
        let store = Store::Slow { answer: Duration::ZERO, pieces: &PAUSES };
        let patient = Patient { inner: HttpClient::new(store) };
        let answered = patient.call(HttpRequest::new(HttpRequestBody::empty())).await.unwrap();
        let mut pieces = answered.into_body().bytes_stream();
        let mut count = 0;
        while let Some(piece) = futures_util::StreamExt::next(&mut pieces).await {
            assert_eq!(piece.unwrap(), "piece");
            tokio::time::sleep(Duration::from_secs(60)).await;
            count += 1;
        }
        assert_eq!(count, 3);
    }
}
