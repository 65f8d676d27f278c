//! What a load test of ingest found.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Connection, IngestLoad, IngestPace};
use crate::{Percentiles, report::Share};

/// Longest time that is told apart.
const LONGEST: Duration = Duration::from_secs(60);

/// What one gateway, or all, counted.
pub(super) struct Counts {
    /// Batches that were due while time counted.
    pub(super) sent: u64,
    /// Of those, sent while time counted.
    pub(super) sent_in_time: u64,
    pub(super) received: u64,
    pub(super) durable: u64,
    /// Acknowledged while time counted, whenever they were due, for the first time they were sent.
    pub(super) came_received: u64,
    pub(super) came_durable: u64,
    pub(super) rejected_readings: u64,
    pub(super) ledgers: u64,
    pub(super) wrong_ledgers: u64,
    pub(super) lag: Histogram<u64>,
    pub(super) received_latency: Histogram<u64>,
    pub(super) durable_latency: Histogram<u64>,
    pub(super) error: Option<String>,
}

/// What a load test of ingest found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IngestReport {
    /// When batches were sent.
    pub pace: IngestPace,
    /// How they got there.
    pub connection: Connection,
    /// Gateways.
    pub gateways: usize,
    /// Vehicles of a gateway.
    pub vehicles: usize,
    /// Readings of a batch.
    pub batch_readings: usize,
    /// Time that was counted.
    pub seconds: f64,
    /// Batches that were due in that time.
    pub batches_sent: u64,
    /// Of those, acknowledged as received.
    pub batches_received: u64,
    /// Of those, acknowledged as durable.
    pub batches_durable: u64,
    /// Of those, not durable when the test gave up waiting.
    pub batches_unacknowledged: u64,
    /// Readings sent a second in that time: below the rate where client or credit do not keep up.
    pub sent_per_second: f64,
    /// Readings acknowledged as received a second in that time, whenever they were sent. What was sent twice counts once.
    pub received_per_second: f64,
    /// Readings acknowledged as durable a second, counted in the same way.
    pub durable_per_second: f64,
    /// Readings that the server refused.
    pub rejected_readings: u64,
    /// Vehicles whose gap ledger was asked for at the end: those of poor connections that lasted so long.
    pub ledgers: u64,
    /// Of those, the ones of which the server told something else than what was left out.
    pub wrong_ledgers: u64,
    /// From when a batch was due to when it was sent: the client's own lateness and the wait for credit.
    pub lag_us: Percentiles,
    /// From when a batch was due to when it was acknowledged as received.
    pub received_us: Percentiles,
    /// From when a batch was due to when it was acknowledged as durable.
    pub durable_us: Percentiles,
    /// The first error.
    pub error: Option<String>,
}

// === impl Counts ===

impl Counts {
    pub(super) fn new() -> Counts {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let histogram = || Histogram::new_with_max(longest, 3).expect("three digits to a minute are a valid histogram");
        Counts {
            sent: 0,
            sent_in_time: 0,
            received: 0,
            durable: 0,
            came_received: 0,
            came_durable: 0,
            rejected_readings: 0,
            ledgers: 0,
            wrong_ledgers: 0,
            lag: histogram(),
            received_latency: histogram(),
            durable_latency: histogram(),
            error: None,
        }
    }

    pub(super) fn add(&mut self, other: &Counts) {
        self.sent += other.sent;
        self.sent_in_time += other.sent_in_time;
        self.received += other.received;
        self.durable += other.durable;
        self.came_received += other.came_received;
        self.came_durable += other.came_durable;
        self.rejected_readings += other.rejected_readings;
        self.ledgers += other.ledgers;
        self.wrong_ledgers += other.wrong_ledgers;
        for (all, one) in [
            (&mut self.lag, &other.lag),
            (&mut self.received_latency, &other.received_latency),
            (&mut self.durable_latency, &other.durable_latency),
        ] {
            all.add(one).expect("histograms of one shape");
        }
        self.error = self.error.take().or_else(|| other.error.clone());
    }

    pub(super) fn report(&self, load: &IngestLoad) -> IngestReport {
        let seconds = load.duration.as_secs_f64();
        let readings = |batches: u64| Share(batches.saturating_mul(load.batch_readings as u64)).of(seconds);
        IngestReport {
            pace: load.pace,
            connection: load.connection,
            gateways: load.gateways,
            vehicles: load.vehicles,
            batch_readings: load.batch_readings,
            seconds,
            batches_sent: self.sent,
            batches_received: self.received,
            batches_durable: self.durable,
            batches_unacknowledged: self.sent.saturating_sub(self.durable),
            sent_per_second: readings(self.sent_in_time),
            received_per_second: readings(self.came_received),
            durable_per_second: readings(self.came_durable),
            rejected_readings: self.rejected_readings,
            ledgers: self.ledgers,
            wrong_ledgers: self.wrong_ledgers,
            lag_us: Percentiles::of(&self.lag),
            received_us: Percentiles::of(&self.received_latency),
            durable_us: Percentiles::of(&self.durable_latency),
            error: self.error.clone(),
        }
    }
}

// === impl IngestReport ===

impl fmt::Display for IngestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IngestReport { gateways, vehicles, batch_readings, batches_sent, batches_durable, .. } = self;
        writeln!(
            f,
            "ingest, {:?}, {gateways} gateways, {vehicles} vehicles each, {batch_readings} readings a batch, {:.1} s",
            self.pace, self.seconds
        )?;
        if self.connection == Connection::Poor {
            let (asked, wrong) = (self.ledgers, self.wrong_ledgers);
            writeln!(f, "some batches twice, late or never; gap ledgers: {asked} asked for, {wrong} wrong")?;
        }
        writeln!(
            f,
            "batches: sent {batches_sent}, received {}, durable {batches_durable}, unacknowledged {}; readings refused {}",
            self.batches_received, self.batches_unacknowledged, self.rejected_readings
        )?;
        writeln!(
            f,
            "readings/s: sent {:.0}, received {:.0}, durable {:.0}",
            self.sent_per_second, self.received_per_second, self.durable_per_second
        )?;
        writeln!(f, "{:<22} {:>10} {:>10} {:>10} {:>10} {:>10}", "us", "p50", "p90", "p99", "p99.9", "max")?;
        for (name, percentiles) in [
            ("sent late by", &self.lag_us),
            ("received, from due", &self.received_us),
            ("durable, from due", &self.durable_us),
        ] {
            let Percentiles { p50, p90, p99, p999, max } = percentiles;
            writeln!(f, "{name:<22} {p50:>10.1} {p90:>10.1} {p99:>10.1} {p999:>10.1} {max:>10.1}")?;
        }
        match &self.error {
            Some(error) => writeln!(f, "first error: {error}"),
            None => Ok(()),
        }
    }
}
