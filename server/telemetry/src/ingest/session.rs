//! A gateway's side.

use std::{sync::Arc, vec};

use ev_domain::{ReadingBatch, Source, VehicleId};
use tokio::sync::mpsc;

use super::{
    Shared,
    queue::{Closed, Seat},
    stats::Counters,
    vehicles::Vehicles,
    writer::{EventSender, Work},
};
use crate::{Admission, Append, Quarantined, Reject, RejectReason, Sequence, SequenceLimits, TelemetryError};

/// Batches that a new session may have on their way. Each that ends well earns credit for one more, up to what is
/// configured: within a few round trips for a gateway that keeps to its credit, while one that is ended for not doing so,
/// and comes back at once, costs the others little.
const CREDIT_FIRST: u32 = 16;
/// Events of a batch, at most: durable and applied.
const EVENTS_PER_BATCH: usize = 2;

/// A gateway from one opening to the next.
///
/// Dropping it changes nothing for what it has submitted.
pub struct Session {
    shared: Arc<Shared>,
    source: Source,
    seat: Seat<Work>,
    /// What is stored, and what is on its way.
    vehicles: Vehicles,
    /// Batches that may be on their way: grows to the configured credit.
    window: u32,
    /// Batches on their way.
    in_flight: u32,
    /// Something waits to be stored, and who stores it was not told.
    unannounced: bool,
    sender: EventSender,
    events: mpsc::Receiver<Vec<Event>>,
    /// Those that have come together and are not taken yet.
    come: vec::IntoIter<Event>,
    failed: Option<TelemetryError>,
}

/// What is told of a submitted batch later.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// It is on disk.
    Durable {
        /// The vehicle.
        vehicle: VehicleId,
        /// The batch.
        sequence: u64,
        /// The store had it before; nothing was stored again.
        is_duplicate: bool,
    },
    /// All that must see it has. Its credit is free again: what it is the last event of. Of a duplicate there is none
    /// but this after [`Event::Durable`] either.
    Applied {
        /// The vehicle.
        vehicle: VehicleId,
        /// The batch.
        sequence: u64,
    },
    /// The store would not take it, and its number is not counted. Its credit is free again.
    Refused {
        /// The vehicle.
        vehicle: VehicleId,
        /// The batch.
        sequence: u64,
        /// Why.
        reject: Reject,
    },
    /// It could not be stored. The session takes nothing more: the gateway is to open again and to resend.
    Failed {
        /// The vehicle.
        vehicle: VehicleId,
        /// The batch.
        sequence: u64,
        /// Why.
        error: TelemetryError,
    },
}

/// A batch is in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// What its number is to what came before. Of a duplicate, [`Event::Durable`] follows all the same.
    pub admission: Admission,
    /// It has left a hole right before it, which is in the [ledger](Session::sequence) now.
    pub skipped: bool,
    /// Readings that were taken in.
    pub readings: usize,
    /// Readings that were taken out of it.
    pub rejects: Vec<Reject>,
}

/// A batch was not taken in, and its number is not counted.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The gateway has no credit: it sends faster than it was allowed to, or takes no acknowledgements.
    #[error("the gateway has {credit} batches on their way, and no credit for more")]
    OutOfCredit {
        /// Batches it may have on their way.
        credit: u32,
    },
    /// The batch cannot be: its number, or its vehicle.
    #[error("the batch is refused: {}", .0.message)]
    Rejected(Reject),
    /// The session has failed, or telemetry is shutting down.
    #[error("the session is closed")]
    Closed(#[source] TelemetryError),
}

// === impl Session ===

impl Session {
    pub(super) async fn open(
        shared: Arc<Shared>,
        source: Source,
        vehicles: &[VehicleId],
    ) -> Result<Session, TelemetryError> {
        if vehicles.len() > shared.config.vehicles_per_gateway_max {
            return Err(TelemetryError::Overloaded { what: "the list of a gateway's vehicles" });
        }
        let sequences = shared.store.sequences(&source, vehicles).await?;
        let mut met = Vehicles::default();
        for (vehicle, sequence) in vehicles.iter().zip(sequences) {
            met.meet(vehicle.clone(), sequence);
        }
        let credit_max = shared.config.credit.get();
        let events_max = usize::try_from(credit_max).unwrap_or(usize::MAX).saturating_mul(EVENTS_PER_BATCH);
        let (sender, events) = mpsc::channel(events_max);
        let window = credit_max.min(CREDIT_FIRST);
        let seat = shared.queue.sit(&source.gateway);
        Ok(Session {
            shared,
            source,
            seat,
            vehicles: met,
            window,
            in_flight: 0,
            unannounced: false,
            sender,
            events,
            come: vec::IntoIter::default(),
            failed: None,
        })
    }

    /// Who sends.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What has come of a vehicle, as far as this session knows it: next expected, gaps.
    #[must_use]
    pub fn sequence(&self, vehicle: &VehicleId) -> Option<&Sequence> {
        self.vehicles.sequence(vehicle)
    }

    /// The id of a vehicle that this session has met: no need to check it again, nor to make it.
    #[must_use]
    pub fn known(&mut self, vehicle: &str) -> Option<VehicleId> {
        self.vehicles.known(vehicle)
    }

    /// Batches that may be on their way: few at first, more with each that ends well, at most what is configured.
    #[must_use]
    pub fn window(&self) -> u32 {
        self.window
    }

    /// Whether something that was submitted is still on its way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.in_flight > 0
    }

    /// Batches that may be submitted now.
    #[must_use]
    pub fn credit(&self) -> u32 {
        self.window.saturating_sub(self.in_flight)
    }

    /// Takes in a batch: when this returns it is received, and [`Session::next`] will tell the rest. `now_us` is the
    /// server's time in microseconds since 1970-01-01 UTC. Waits while the queue is full.
    ///
    /// A batch without readings is taken in for its number.
    ///
    /// It is stored as soon as the session waits for something, or [announces](Session::announce) it: of a hundred batches
    /// that come at one time, who stores them is woken once.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]: nothing was taken in.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the batch was not taken in.
    pub async fn submit(&mut self, mut batch: ReadingBatch, now_us: i64) -> Result<Received, SubmitError> {
        if let Some(error) = &self.failed {
            return Err(SubmitError::Closed(error.clone()));
        }
        if *self.shared.closing.borrow() {
            return Err(shutting_down());
        }
        if self.credit() == 0 {
            return Err(SubmitError::OutOfCredit { credit: self.window });
        }
        let place = self.meet(&batch, now_us).await?;
        let rejects = self.shared.config.limits.apply(&mut batch.readings, now_us);
        let readings = batch.readings.len();
        let room = match self.seat.room_now(readings) {
            Some(room) => room,
            None => {
                // There is room when what waits was stored, whoever has submitted it.
                self.unannounced = false;
                self.seat.announce();
                self.seat.room(readings).await
            }
        };
        let room = room.map_err(|Closed| shutting_down())?;
        // No waiting from here on: it is taken in as a whole.
        let (admission, skipped) = self.admit(place, &batch, now_us)?;
        rejects.iter().for_each(|reject| self.count(&batch, now_us, reject));
        Counters::add(&self.shared.counters.batches_received, 1);
        let append = Append { source: self.source.clone(), batch, received_us: now_us };
        let work = Work { append, events: self.sender.clone(), room };
        self.seat.push(readings, work).map_err(|Closed| shutting_down())?;
        self.unannounced = true;
        self.in_flight += 1;
        Ok(Received { admission, skipped, readings, rejects })
    }

    /// Has what was submitted stored, without waiting for it.
    pub fn announce(&mut self) {
        if std::mem::take(&mut self.unannounced) {
            self.seat.announce();
        }
    }

    /// What became of what was submitted; none of a session that waits for nothing. Credit comes back with it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        if self.in_flight == 0 {
            return None;
        }
        self.announce();
        if self.come.as_slice().is_empty() {
            self.come = self.events.recv().await?.into_iter();
        }
        self.take_one()
    }

    /// As [`Session::next`], if there is something already: for answering many at once. It announces nothing.
    pub fn try_next(&mut self) -> Option<Event> {
        if self.come.as_slice().is_empty() {
            self.come = self.events.try_recv().ok()?.into_iter();
        }
        self.take_one()
    }

    fn take_one(&mut self) -> Option<Event> {
        let event = self.come.next()?;
        self.note(&event);
        Some(event)
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Durable { .. } => return,
            Event::Applied { .. } => self.window = (self.window + 1).min(self.shared.config.credit.get()),
            Event::Refused { .. } => {}
            Event::Failed { error, .. } => self.failed = Some(error.clone()),
        }
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The batch's vehicle's place. Reads what has come of one that the gateway did not name when it opened.
    async fn meet(&mut self, batch: &ReadingBatch, now_us: i64) -> Result<usize, SubmitError> {
        if let Some(place) = self.vehicles.place(&batch.vehicle) {
            return Ok(place);
        }
        let max = self.shared.config.vehicles_per_gateway_max;
        if self.vehicles.len() >= max {
            let message = format!("the gateway has sent of {max} vehicles already, and may not of more");
            return Err(self.refuse(batch, now_us, RejectReason::VehicleNotAllowed, message));
        }
        // The store is asked, which takes its time.
        self.announce();
        let vehicle = std::slice::from_ref(&batch.vehicle);
        let sequences = self.shared.store.sequences(&self.source, vehicle).await.map_err(SubmitError::Closed)?;
        let sequence = sequences.into_iter().next().unwrap_or_default();
        Ok(self.vehicles.meet(batch.vehicle.clone(), sequence))
    }

    /// What a batch is to those before it, and whether it has left a hole.
    fn admit(&mut self, place: usize, batch: &ReadingBatch, now_us: i64) -> Result<(Admission, bool), SubmitError> {
        let limits: SequenceLimits = self.shared.store.sequence_limits();
        let sequence = self.vehicles.sequence_at(place);
        let expected = sequence.next_expected();
        let admitted = sequence.admit(batch.sequence, &limits);
        let skipped = admitted == Ok(Admission::New) && batch.sequence != expected;
        admitted
            .map(|admission| (admission, skipped))
            .map_err(|error| self.refuse(batch, now_us, RejectReason::ImplausibleSequence, error.to_string()))
    }

    fn refuse(&self, batch: &ReadingBatch, now_us: i64, reason: RejectReason, message: String) -> SubmitError {
        let reject = Reject::new(reason, batch.readings.len(), message);
        self.count(batch, now_us, &reject);
        SubmitError::Rejected(reject)
    }

    fn count(&self, batch: &ReadingBatch, received_us: i64, reject: &Reject) {
        self.shared.reject(Quarantined {
            source: self.source.clone(),
            vehicle: Some(batch.vehicle.clone()),
            sequence: batch.sequence,
            received_us,
            reject: reject.clone(),
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.announce();
    }
}

fn shutting_down() -> SubmitError {
    SubmitError::Closed(TelemetryError::ShuttingDown)
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("source", &self.source)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}
