//! The book, shared: one lane writes, anybody reads, and subscribers hear of what happens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ev_domain::{Severity, VehicleId};
use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};
use uuid::Uuid;

use crate::{Alert, AlertError, AlertEvent, Book, Counts, Filter, LifeConfig, Listing, Origin, Page, Report, Topic};

/// A [`Book`] that may be used from several threads, with subscribers.
#[derive(Debug)]
pub struct Alerts {
    book: Mutex<Book>,
    events: broadcast::Sender<Arc<AlertEvent>>,
}

/// Hears of what happens, from when it was made.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Arc<AlertEvent>>);

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Something happened to an alert.
    Event(Arc<AlertEvent>),
    /// The subscriber was too slow, and this many events passed it by; a listing tells how things are now.
    Missed(u64),
}

// === impl Alerts ===

impl Alerts {
    /// An empty book. `seed` makes the random part of ids.
    #[must_use]
    pub fn new(life: LifeConfig, seed: u64) -> Alerts {
        let (events, _) = broadcast::channel(life.subscriber_events_max.clamp(1, 65_536));
        Alerts { book: Mutex::new(Book::new(life, seed)), events }
    }

    /// As [`Book::report`]; says how many events it led to. Never waits for a subscriber.
    pub fn report(&self, report: &Report<'_>, now_us: i64) -> usize {
        let mut book = self.book();
        let events = book.report(report, now_us);
        self.publish(&book, events)
    }

    /// As [`Book::restore`]. Nobody hears of it.
    pub fn restore(&self, alerts: impl IntoIterator<Item = Alert>, now_us: i64) {
        self.book().restore(alerts, now_us);
    }

    /// As [`Book::opinion`].
    #[must_use]
    pub fn opinion(&self, vehicle: &VehicleId, topic: Topic, origin: Origin) -> Severity {
        self.book().opinion(vehicle, topic, origin)
    }

    /// As [`Book::tick`]; says how many events it led to.
    pub fn tick(&self, now_us: i64) -> usize {
        let mut book = self.book();
        let events = book.tick(now_us);
        self.publish(&book, events)
    }

    /// As [`Book::acknowledge`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn acknowledge(&self, id: Uuid, by: &str, note: &str, now_us: i64) -> Result<Alert, AlertError> {
        let mut book = self.book();
        let (alert, events) = book.acknowledge(id, by, note, now_us)?;
        self.publish(&book, events);
        Ok(alert)
    }

    /// The alert of this id.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn get(&self, id: Uuid) -> Result<Alert, AlertError> {
        self.book().get(id).cloned().ok_or(AlertError::NotFound { id })
    }

    /// As [`Book::list`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, AlertError> {
        self.book().list(filter, page)
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.book().counts()
    }

    /// Hears of everything from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.events.subscribe())
    }

    /// The book is as before after a panic elsewhere: nothing in it panics half way.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While the book is held, so that everybody hears of events in their order.
    fn publish(&self, _book: &Book, events: Vec<AlertEvent>) -> usize {
        let count = events.len();
        for event in events {
            // No subscriber is no mistake.
            let _ = self.events.send(Arc::new(event));
        }
        count
    }
}

// === impl Subscription ===

impl Subscription {
    /// The next notice; none once the book is gone.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(event) => Some(Notice::Event(event)),
            Err(RecvError::Lagged(missed)) => Some(Notice::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next notice that is there already.
    pub fn try_next(&mut self) -> Option<Notice> {
        match self.0.try_recv() {
            Ok(event) => Some(Notice::Event(event)),
            Err(TryRecvError::Lagged(missed)) => Some(Notice::Missed(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}
