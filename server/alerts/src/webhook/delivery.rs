//! One event on its way.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use super::{Clock, Roots, WebhookConfig, WebhookStats, payload, signature, tls::Connector};
use crate::{AlertEvent, ConfigError};

/// Most of an answer that is read, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Sends events of one webhook.
pub(super) struct Courier {
    pub(super) config: WebhookConfig,
    pub(super) stats: Arc<WebhookStats>,
    uri: Uri,
    client: Client<Connector, Full<Bytes>>,
    clock: Clock,
    random: Mutex<fastrand::Rng>,
}

/// What came of an attempt.
enum Attempt {
    Accepted,
    /// Worth another try, after this time if the receiver asks for it.
    Failed(Failure, Option<Duration>),
    Refused(Failure),
}

/// Why an attempt failed.
#[derive(Debug)]
enum Failure {
    Status(StatusCode),
    Connection(hyper_util::client::legacy::Error),
    Timeout,
    Message,
}

// === impl Courier ===

impl Courier {
    pub(super) fn new(config: WebhookConfig, roots: Roots, clock: Clock, seed: u64) -> Result<Courier, ConfigError> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(config.concurrency)
            .build(Connector::new(roots, config.timeout));
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        Ok(Courier { uri: config.uri()?, stats: Arc::default(), client, clock, random, config })
    }

    /// Sends an event until it is accepted, refused, or given up.
    pub(super) async fn deliver(&self, event: &AlertEvent) {
        let body = match payload::to_json(event) {
            Ok(body) => Bytes::from(body),
            Err(error) => return self.give_up(event, 0, &error),
        };
        for attempt in 1..=self.config.attempts_max {
            let (failure, asked) = match self.attempt(event, body.clone()).await {
                Attempt::Accepted => {
                    self.stats.delivered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Attempt::Refused(failure) => return self.give_up(event, attempt, &failure),
                Attempt::Failed(failure, asked) => (failure, asked),
            };
            if attempt == self.config.attempts_max {
                return self.give_up(event, attempt, &failure);
            }
            self.stats.retried.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(attempt, error = %failure, "a webhook will be called again");
            tokio::time::sleep(self.wait(attempt, asked)).await;
        }
    }

    async fn attempt(&self, event: &AlertEvent, body: Bytes) -> Attempt {
        // Signed for each attempt, so that a receiver may hold messages to their time.
        let signature = signature::sign(self.config.secret.reveal(), (self.clock)(), &body);
        let request = Request::post(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("evserve/", env!("CARGO_PKG_VERSION")))
            .header("evserve-event-id", payload::event_id(event))
            .header(signature::HEADER, signature)
            .body(Full::new(body));
        let Ok(request) = request else { return Attempt::Refused(Failure::Message) };
        let exchange = async {
            let response = self.client.request(request).await?;
            let (head, body) = response.into_parts();
            // What it says does not matter.
            let _ = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            Ok(head)
        };
        match tokio::time::timeout(self.config.timeout, exchange).await {
            Err(_) => Attempt::Failed(Failure::Timeout, None),
            Ok(Err(error)) => Attempt::Failed(Failure::Connection(error), None),
            Ok(Ok(head)) if head.status.is_success() => Attempt::Accepted,
            Ok(Ok(head)) => {
                let failure = Failure::Status(head.status);
                match head.status {
                    StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => {
                        Attempt::Failed(failure, retry_after(&head.headers))
                    }
                    status if status.is_server_error() => Attempt::Failed(failure, retry_after(&head.headers)),
                    _ => Attempt::Refused(failure),
                }
            }
        }
    }

    /// How long to wait after a failed attempt: doubled with each, half of it at random, so that receivers which come back
    /// are not met by everybody at once.
    fn wait(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let longest = self.config.backoff_min.saturating_mul(doubled).min(self.config.backoff_max);
        let share = self.random.lock().unwrap_or_else(PoisonError::into_inner).f64();
        let wait = longest.mul_f64(0.5 + 0.5 * share);
        wait.max(asked.unwrap_or_default()).min(self.config.backoff_max)
    }

    fn give_up(&self, event: &AlertEvent, attempts: u32, error: &(dyn std::error::Error + 'static)) {
        self.stats.dead.fetch_add(1, Ordering::Relaxed);
        let mut causes = String::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes = format!("{causes}: {cause}");
            source = cause.source();
        }
        tracing::error!(
            event_id = %payload::event_id(event),
            severity = event.alert.severity.name(),
            attempts,
            error = %format_args!("{error}{causes}"),
            "an alert could not be delivered to a webhook"
        );
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("config", &self.config).field("stats", &self.stats).finish_non_exhaustive()
    }
}

/// Only seconds are understood, as nearly all receivers write them.
fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

// === impl Failure ===

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => write!(f, "the receiver answered {status}"),
            Failure::Connection(_) => f.write_str("the receiver could not be reached"),
            Failure::Timeout => f.write_str("the receiver did not answer in time"),
            Failure::Message => f.write_str("the message could not be made"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Failure::Connection(error) => Some(error),
            Failure::Status(_) | Failure::Timeout | Failure::Message => None,
        }
    }
}
