//! What a store holds in memory: what the journal brought and is not in its final place yet.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use ev_domain::{Readings, Source, VehicleId};

use crate::Sequence;

/// Sequences of a vehicle that stay in memory when all is flushed: those of its latest sources.
const SEQUENCES_KEPT: usize = 4;

/// All that is not in its final place, and what is often asked for.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) vehicles: HashMap<i64, Vehicle>,
    pub(crate) numbers: HashMap<VehicleId, i64>,
    pub(crate) sources: HashMap<Source, SourceState>,
    /// Vehicles with something unflushed, by the first journal row they have it of.
    pub(crate) dirty: BTreeMap<(i64, i64), Instant>,
    /// Vehicles with so much unflushed that it makes good chunks.
    pub(crate) full: VecDeque<i64>,
    /// Rows of the journal with their bytes.
    pub(crate) journal: VecDeque<(i64, usize)>,
    pub(crate) journal_bytes: usize,
    /// Readings of small batches that are not in chunks yet.
    pub(crate) waiting_readings: usize,
    pub(crate) vehicle_count: u64,
    /// The latest journal row.
    pub(crate) last_journal: i64,
    pub(crate) next_vehicle: i64,
    pub(crate) next_source: i64,
    pub(crate) next_chunk: i64,
}

/// A source that sends.
#[derive(Debug, Clone)]
pub(crate) struct SourceState {
    pub(crate) number: i64,
    pub(crate) seen_us: i64,
    /// Whether the database knows less than `seen_us`.
    pub(crate) dirty: bool,
}

/// A vehicle, as of the latest commit.
#[derive(Debug, Clone)]
pub(crate) struct Vehicle {
    pub(crate) id: VehicleId,
    pub(crate) stats: Stats,
    /// By source, the latest one last.
    pub(crate) sequences: Vec<(i64, Sequence)>,
    /// What came since it was flushed, in order.
    pub(crate) pending: Vec<Pending>,
    pub(crate) pending_readings: usize,
    /// Where it is in `State::dirty`.
    dirty_since: Option<i64>,
    is_full: bool,
}

/// What is known of a vehicle's readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stats {
    pub(crate) readings: i64,
    pub(crate) span_us: Option<(i64, i64)>,
}

/// A batch that is not flushed.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// The row of the journal that brought it.
    pub(crate) journal: i64,
    pub(crate) what: What,
}

/// What a batch left to do.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// Only its number.
    Number,
    /// Readings to make chunks of.
    Readings(Arc<Readings>),
    /// Chunks that are not in the aggregates yet, with this many readings.
    Chunks(Vec<i64>, u64),
}

// === impl Stats ===

impl Stats {
    pub(crate) fn add(&mut self, readings: u64, span_us: Option<(i64, i64)>) {
        self.readings = self.readings.saturating_add_unsigned(readings);
        self.span_us = match (self.span_us, span_us) {
            (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
            (one, other) => one.or(other),
        };
    }
}

// === impl Vehicle ===

impl Vehicle {
    pub(crate) fn new(id: VehicleId, stats: Stats) -> Vehicle {
        Vehicle {
            id,
            stats,
            sequences: Vec::new(),
            pending: Vec::new(),
            pending_readings: 0,
            dirty_since: None,
            is_full: false,
        }
    }

    pub(crate) fn sequence(&self, source: i64) -> Option<&Sequence> {
        self.sequences.iter().find(|(number, _)| *number == source).map(|(_, sequence)| sequence)
    }

    /// Sets a sequence and makes it the latest.
    pub(crate) fn set_sequence(&mut self, source: i64, sequence: Sequence) {
        self.sequences.retain(|(number, _)| *number != source);
        self.sequences.push((source, sequence));
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty_since.is_some()
    }
}

// === impl What ===

impl What {
    pub(crate) fn readings(&self) -> usize {
        match self {
            What::Number => 0,
            What::Readings(readings) => readings.len(),
            What::Chunks(_, readings) => usize::try_from(*readings).unwrap_or(usize::MAX),
        }
    }

    fn waiting(&self) -> usize {
        if let What::Readings(readings) = self { readings.len() } else { 0 }
    }
}

// === impl State ===

impl State {
    pub(crate) fn vehicle(&self, id: &VehicleId) -> Option<(i64, &Vehicle)> {
        let number = *self.numbers.get(id)?;
        Some((number, self.vehicles.get(&number)?))
    }

    pub(crate) fn insert(&mut self, number: i64, vehicle: Vehicle) {
        self.numbers.insert(vehicle.id.clone(), number);
        self.vehicles.insert(number, vehicle);
    }

    /// Takes note of a batch that a journal row brought. `full` is how many readings make good chunks.
    pub(crate) fn push(&mut self, number: i64, pending: Pending, full: usize) {
        let Some(vehicle) = self.vehicles.get_mut(&number) else { return };
        if vehicle.dirty_since.is_none() {
            vehicle.dirty_since = Some(pending.journal);
            self.dirty.insert((pending.journal, number), Instant::now());
        }
        self.waiting_readings += pending.what.waiting();
        vehicle.pending_readings = vehicle.pending_readings.saturating_add(pending.what.readings());
        vehicle.pending.push(pending);
        if vehicle.pending_readings >= full && !vehicle.is_full {
            vehicle.is_full = true;
            self.full.push_back(number);
        }
    }

    pub(crate) fn push_journal(&mut self, id: i64, bytes: usize) {
        self.last_journal = id;
        self.journal_bytes += bytes;
        self.journal.push_back((id, bytes));
    }

    /// The next vehicle to flush: a full one, or the one that waits longest if that is `due`. None that is `taken`.
    pub(crate) fn pop_due(
        &mut self,
        due: impl Fn(&State, Instant) -> bool,
        taken: impl Fn(i64) -> bool,
    ) -> Option<i64> {
        while let Some(number) = self.full.pop_front() {
            if let Some(vehicle) = self.vehicles.get_mut(&number)
                && std::mem::take(&mut vehicle.is_full)
                && vehicle.is_dirty()
                && !taken(number)
            {
                return Some(number);
            }
        }
        let waiting = self.dirty.iter().find(|((_, number), _)| !taken(*number));
        waiting.filter(|(_, since)| due(self, **since)).map(|((_, number), _)| *number)
    }

    /// What of a vehicle up to a journal row is in its final place now.
    pub(crate) fn flushed(&mut self, number: i64, through: i64) {
        let Some(vehicle) = self.vehicles.get_mut(&number) else { return };
        let kept = vehicle.pending.partition_point(|pending| pending.journal <= through);
        let gone: Vec<Pending> = vehicle.pending.drain(..kept).collect();
        self.waiting_readings -= gone.iter().map(|pending| pending.what.waiting()).sum::<usize>();
        vehicle.pending_readings = vehicle.pending.iter().map(|pending| pending.what.readings()).sum();
        let since = vehicle.pending.first().map(|pending| pending.journal);
        if let Some(before) = std::mem::replace(&mut vehicle.dirty_since, since) {
            self.dirty.remove(&(before, number));
        }
        if let Some(since) = since {
            self.dirty.insert((since, number), Instant::now());
        } else {
            let old = vehicle.sequences.len().saturating_sub(SEQUENCES_KEPT);
            vehicle.sequences.drain(..old);
        }
    }

    /// Rows of the journal that nothing needs any more, up to this one.
    pub(crate) fn journal_done(&self) -> Option<i64> {
        let first_needed = self.dirty.first_key_value().map_or(i64::MAX, |((journal, _), _)| *journal);
        let (first, _) = self.journal.front()?;
        let done = self.last_journal.min(first_needed.saturating_sub(1));
        (done >= *first).then_some(done)
    }

    pub(crate) fn journal_deleted(&mut self, through: i64) {
        while let Some((id, bytes)) = self.journal.front().copied()
            && id <= through
        {
            self.journal.pop_front();
            self.journal_bytes -= bytes;
        }
    }

    /// Forgets what the database knows too, when there is more than `max` of it.
    pub(crate) fn shrink(&mut self, max: usize) {
        if self.vehicles.len() > max {
            self.vehicles.retain(|_, vehicle| vehicle.is_dirty());
            let State { vehicles, numbers, .. } = self;
            numbers.retain(|_, number| vehicles.contains_key(number));
        }
        if self.sources.len() > max {
            self.sources.retain(|_, source| source.dirty);
        }
    }
}
