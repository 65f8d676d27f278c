//! Sends alerts to a URL, signed, with retries.
//!
//! What waits is bounded, and gives way by severity; what cannot be delivered is counted and logged. The book never waits
//! for it.

mod config;
mod delivery;
mod payload;
mod queue;
mod signature;
mod tls;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::task::JoinSet;

use crate::{AlertEvent, ConfigError, Notice, Subscription};
use delivery::Courier;
use queue::Queue;

pub use config::{Secret, WebhookConfig};
pub use signature::{HEADER, sign, verify};
pub use tls::Roots;

/// Tells the time: seconds since 1970-01-01 UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Hears of events that are owed no longer: accepted, given up or dropped. It must not wait.
pub type Settled = Arc<dyn Fn(&AlertEvent) + Send + Sync>;

/// One webhook.
pub struct Webhook {
    courier: Arc<Courier>,
    queue: Queue,
    settled: Settled,
}

/// What became of events.
#[derive(Debug, Default)]
pub struct WebhookStats {
    delivered: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
    dropped: AtomicU64,
    missed: AtomicU64,
}

// === impl Webhook ===

impl Webhook {
    /// Gets ready; nothing is sent before [`Webhook::run`]. A receiver's certificate must be one of `roots`' where its URL is
    /// `https://`. `seed` makes the jitter of its waits.
    ///
    /// # Errors
    ///
    /// When a setting is refused.
    pub fn new(config: WebhookConfig, roots: Roots, clock: Clock, seed: u64) -> Result<Webhook, ConfigError> {
        config.check()?;
        let queue = Queue::new(config.queue_max);
        Ok(Webhook { courier: Arc::new(Courier::new(config, roots, clock, seed)?), queue, settled: Arc::new(|_| ()) })
    }

    /// Tells of events that are owed no longer.
    #[must_use]
    pub fn telling(mut self, settled: Settled) -> Webhook {
        self.settled = settled;
        self
    }

    /// Owes events that an earlier process did not deliver: they are sent before what is new, of equal severity.
    #[must_use]
    pub fn owing(mut self, events: impl IntoIterator<Item = AlertEvent>) -> Webhook {
        events.into_iter().for_each(|event| self.owe(Arc::new(event)));
        self
    }

    /// What became of events so far.
    #[must_use]
    pub fn stats(&self) -> Arc<WebhookStats> {
        Arc::clone(&self.courier.stats)
    }

    /// Sends what the subscription hears of, until the book is gone and everything is delivered or given up.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it gives up what waits and what is being sent.
    pub async fn run(mut self, mut subscription: Subscription) {
        let mut sending = JoinSet::new();
        let (mut open, most) = (true, self.courier.config.concurrency);
        while open || !sending.is_empty() || !self.queue.is_empty() {
            while sending.len() < most
                && let Some(event) = self.queue.pop()
            {
                let (courier, settled) = (Arc::clone(&self.courier), Arc::clone(&self.settled));
                sending.spawn(async move {
                    courier.deliver(&event).await;
                    settled(&event);
                });
            }
            tokio::select! {
                notice = subscription.next(), if open => match notice {
                    Some(notice) => self.hear(notice),
                    None => open = false,
                },
                Some(_) = sending.join_next() => {}
            }
        }
    }

    fn owe(&mut self, event: Arc<AlertEvent>) {
        if let Some(dropped) = self.queue.push(event) {
            self.courier.stats.dropped.fetch_add(1, Ordering::Relaxed);
            (self.settled)(&dropped);
        }
    }

    fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Event(event) if self.courier.config.wants(&event) => self.owe(event),
            Notice::Event(_) => {}
            Notice::Missed(missed) => {
                self.courier.stats.missed.fetch_add(missed, Ordering::Relaxed);
                tracing::warn!(missed, "events passed a webhook by");
            }
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("courier", &self.courier).field("queue", &self.queue).finish_non_exhaustive()
    }
}

// === impl WebhookStats ===

impl WebhookStats {
    /// Events that the receiver accepted.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Attempts that failed and were made again.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// Events that were given up: the receiver refused them, or every attempt failed.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.dead.load(Ordering::Relaxed)
    }

    /// Events that were dropped because the queue was full of others as severe or more.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Events that passed by before they could be queued.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}
