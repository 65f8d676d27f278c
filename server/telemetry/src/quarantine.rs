//! What was not taken in: told to its gateway, counted, and kept to be looked at.
//!
//! A reject waits for the next commit and is stored with it, so that what was left out of a batch is kept before the
//! batch is called durable. Of a flood the first are kept, of no gateway more than a quarter of a commit's, and the rest
//! is counted.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ev_domain::{Source, VehicleId};

use crate::TelemetryError;

/// Rejects that one commit keeps, and of one gateway.
const WAITING_MAX: usize = 256;
const WAITING_PER_GATEWAY_MAX: usize = 64;
/// Bytes that are kept of what a gateway calls a signal, and of what was said of it.
const SIGNAL_BYTES_MAX: usize = 256;
const MESSAGE_BYTES_MAX: usize = 1_024;

/// Why readings were not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// A signal that was not declared, or is in no catalogue.
    UnknownSignal,
    /// A value outside its signal's plausible range, or infinite.
    ImplausibleValue,
    /// A time too far in the future or past.
    ImplausibleTime,
    /// The batch contradicts itself.
    MalformedBatch,
    /// More readings or values than a batch may have.
    TooLarge,
    /// A vehicle that this gateway, or this server, does not take readings of.
    VehicleNotAllowed,
    /// A sequence of 0, or one so far ahead that the hole cannot be kept in the ledger.
    ImplausibleSequence,
}

/// Readings of a batch that were not taken in, for one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// The signal it is about: its VSS path, or what the sender called it where it is not known. None: the readings as
    /// such, or more than one signal.
    pub signal: Option<String>,
    /// The value of the first of them, where it was for its value.
    pub value: Option<f32>,
    /// The place of the first of them in the batch; none when the whole batch is meant.
    pub reading: Option<usize>,
    /// How many.
    pub readings: usize,
    /// What was found and what was expected.
    pub message: String,
}

/// A reject with where it came from: what an operator looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct Quarantined {
    /// Who sent it.
    pub source: Source,
    /// The vehicle; none where the sender named none that can be.
    pub vehicle: Option<VehicleId>,
    /// The batch.
    pub sequence: u64,
    /// When it came, in microseconds since 1970-01-01 UTC by the server's clock.
    pub received_us: i64,
    /// What was wrong.
    pub reject: Reject,
}

/// Which rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineQuery {
    /// Only of this vehicle.
    pub vehicle: Option<VehicleId>,
    /// Only of this gateway.
    pub gateway: Option<VehicleId>,
    /// Only those before: [`QuarantinePage::next`] of the page before.
    pub before: Option<i64>,
    /// Most rejects of the page, 1..=1000.
    pub limit: u32,
}

/// Rejects, the latest first.
#[derive(Debug, Clone, PartialEq)]
pub struct QuarantinePage {
    /// The rejects.
    pub rejects: Vec<Quarantined>,
    /// For the next page; none on the last.
    pub next: Option<i64>,
}

/// Rejects that the next commit keeps.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    rejects: Vec<Quarantined>,
    by_gateway: HashMap<VehicleId, usize>,
}

/// A row of either store: `id, gateway, boot, vehicle, sequence, received_us, reason, signal, value, reading, readings,
/// message`, with `''` and -1 for what there is none of, and the value as text, which tells NaN from none.
pub(crate) type Row = (i64, String, String, String, i64, i64, String, String, Option<String>, i64, i64, String);

// === impl RejectReason ===

impl RejectReason {
    /// All.
    pub const ALL: [RejectReason; 7] = [
        RejectReason::UnknownSignal,
        RejectReason::ImplausibleValue,
        RejectReason::ImplausibleTime,
        RejectReason::MalformedBatch,
        RejectReason::TooLarge,
        RejectReason::VehicleNotAllowed,
        RejectReason::ImplausibleSequence,
    ];

    /// Its name in labels of metrics, and in stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RejectReason::UnknownSignal => "unknown_signal",
            RejectReason::ImplausibleValue => "implausible_value",
            RejectReason::ImplausibleTime => "implausible_time",
            RejectReason::MalformedBatch => "malformed_batch",
            RejectReason::TooLarge => "too_large",
            RejectReason::VehicleNotAllowed => "vehicle_not_allowed",
            RejectReason::ImplausibleSequence => "implausible_sequence",
        }
    }

    fn from_str(name: &str) -> Option<RejectReason> {
        RejectReason::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

// === impl Reject ===

impl Reject {
    /// A reject of readings as such, or of a whole batch.
    #[must_use]
    pub fn new(reason: RejectReason, readings: usize, message: impl Into<String>) -> Reject {
        Reject { reason, signal: None, value: None, reading: None, readings, message: message.into() }
    }
}

// === impl Quarantined ===

impl Quarantined {
    /// The columns of a row after its id.
    pub(crate) fn signal(&self) -> &str {
        self.reject.signal.as_deref().unwrap_or_default()
    }

    pub(crate) fn vehicle(&self) -> &str {
        self.vehicle.as_ref().map(VehicleId::as_str).unwrap_or_default()
    }

    pub(crate) fn value(&self) -> Option<String> {
        self.reject.value.map(|value| value.to_string())
    }

    pub(crate) fn reading(&self) -> i64 {
        self.reject.reading.map_or(-1, |reading| i64::try_from(reading).unwrap_or(i64::MAX))
    }

    pub(crate) fn readings(&self) -> i64 {
        i64::try_from(self.reject.readings).unwrap_or(i64::MAX)
    }

    /// With its place in the order in which rejects came.
    pub(crate) fn from_row(row: Row) -> Result<(i64, Quarantined), TelemetryError> {
        let (id, gateway, boot, vehicle, sequence, received_us, reason, signal, value, reading, readings, message) =
            row;
        let malformed = |problem: &dyn std::fmt::Display| TelemetryError::malformed("a reject", problem);
        let name = |name: &str| VehicleId::new(name).map_err(|error| malformed(&error));
        let reject = Reject {
            reason: RejectReason::from_str(&reason)
                .ok_or_else(|| malformed(&format!("there is no reason {reason}")))?,
            signal: (!signal.is_empty()).then_some(signal),
            value: value.map(|value| value.parse()).transpose().map_err(|error| malformed(&error))?,
            reading: usize::try_from(reading).ok(),
            readings: usize::try_from(readings).map_err(|error| malformed(&error))?,
            message,
        };
        let source = Source { gateway: name(&gateway)?, boot: name(&boot)? };
        let vehicle = if vehicle.is_empty() { None } else { Some(name(&vehicle)?) };
        Ok((id, Quarantined { source, vehicle, sequence: sequence.cast_unsigned(), received_us, reject }))
    }
}

// === impl QuarantineQuery ===

impl QuarantineQuery {
    /// Most rejects of a page.
    pub const LIMIT_MAX: u32 = 1_000;
}

// === impl QuarantinePage ===

impl QuarantinePage {
    pub(crate) fn from_rows(rows: Vec<Row>, limit: u32) -> Result<QuarantinePage, TelemetryError> {
        let is_full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let rejects = rows.into_iter().map(Quarantined::from_row).collect::<Result<Vec<_>, _>>()?;
        let next = rejects.last().filter(|_| is_full).map(|(id, _)| *id);
        Ok(QuarantinePage { rejects: rejects.into_iter().map(|(_, reject)| reject).collect(), next })
    }
}

// === impl Quarantine ===

impl Quarantine {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it kept by the next commit; false where there is no room.
    pub(crate) fn add(&self, mut one: Quarantined) -> bool {
        shorten(&mut one.reject.message, MESSAGE_BYTES_MAX);
        if let Some(signal) = &mut one.reject.signal {
            shorten(signal, SIGNAL_BYTES_MAX);
        }
        self.waiting().add(one)
    }

    pub(crate) fn take(&self) -> Vec<Quarantined> {
        std::mem::take(&mut *self.waiting()).rejects
    }

    /// Those of a commit that failed, before those that came meanwhile; how many there is no room for.
    pub(crate) fn put_back(&self, failed: Vec<Quarantined>) -> usize {
        let mut waiting = self.waiting();
        let later = std::mem::take(&mut *waiting).rejects;
        failed.into_iter().chain(later).filter(|one| !waiting.add(one.clone())).count()
    }
}

// === impl Waiting ===

impl Waiting {
    fn add(&mut self, one: Quarantined) -> bool {
        let of_gateway = self.by_gateway.get(&one.source.gateway).copied().unwrap_or_default();
        let has_room = self.rejects.len() < WAITING_MAX && of_gateway < WAITING_PER_GATEWAY_MAX;
        if has_room {
            self.by_gateway.insert(one.source.gateway.clone(), of_gateway + 1);
            self.rejects.push(one);
        }
        has_room
    }
}

/// Cuts a text, and takes out what databases take no text with.
fn shorten(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
    if text.contains('\0') {
        *text = text.replace('\0', "\u{fffd}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(gateway: &str, message: &str) -> Quarantined {
        let name = |name: &str| VehicleId::new(name).expect("a name");
        let reject = Reject::new(RejectReason::TooLarge, 1, message);
        let source = Source { gateway: name(gateway), boot: name("boot") };
        Quarantined { source, vehicle: None, sequence: 1, received_us: 0, reject }
    }

    #[test]
    fn a_flood_of_one_gateway_leaves_room_for_others() {
        let quarantine = Quarantine::default();
        assert_eq!((0..1_000).filter(|_| quarantine.add(one("flood", "x"))).count(), WAITING_PER_GATEWAY_MAX);
        assert!(quarantine.add(one("calm", "x")));
        let names: Vec<String> = (0..1_000).map(|index| format!("gateway-{index}")).collect();
        let taken = names.iter().filter(|name| quarantine.add(one(name, "x"))).count();
        assert_eq!(taken, WAITING_MAX - WAITING_PER_GATEWAY_MAX - 1);
        let first = quarantine.take();
        assert_eq!((first.len(), quarantine.take().len()), (WAITING_MAX, 0));
        // What could not be stored comes first again, and what does not fit beside it is told.
        assert!(quarantine.add(one("later", "x")));
        assert_eq!(quarantine.put_back(first.clone()), 1);
        assert_eq!(quarantine.take(), first);
    }

    #[test]
    fn what_is_kept_is_short_and_every_database_takes_it() {
        let quarantine = Quarantine::default();
        let mut long = one("gateway", &format!("\0{}", "ä".repeat(10_000)));
        long.reject.signal = Some("s\0".repeat(1_000));
        quarantine.add(long);
        let kept = quarantine.take().remove(0).reject;
        assert!(kept.message.len() <= MESSAGE_BYTES_MAX + 2 && kept.message.starts_with("\u{fffd}ää"), "{kept:?}");
        let signal = kept.signal.expect("a signal");
        assert!(signal.starts_with("s\u{fffd}s") && !signal.contains('\0'), "{signal}");
    }
}
