//! Vehicles on gateways.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use ev_client::{Gateway, GatewayConfig, GatewayError, GatewayEvent, GatewaySignal, Readings};
use evsim::{Batch, Signal};

use crate::{cli::StreamArgs, status::Counts};

/// Longest wait before a broken stream is opened again: who watches a simulation wants it to go on.
const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// Vehicles of one gateway, of which each keeps a number.
const VEHICLES_MAX: usize = 1_000_000;
/// How long a batch waits for room before whoever watches is told how things are.
const SEND_TIMEOUT: Duration = Duration::from_millis(200);

/// The gateways, and which vehicle is on which.
pub(crate) struct Depot {
    to: String,
    name: String,
    vehicles_per_gateway: usize,
    lines: Vec<Line>,
    vehicles: HashMap<String, Known>,
    pub(crate) counts: Counts,
}

/// A gateway with its signals, in the order of [`Signal::ALL`].
struct Line {
    gateway: Gateway,
    signals: Vec<(Signal, GatewaySignal)>,
}

/// A vehicle that has sent.
struct Known {
    line: usize,
    /// Number of its last batch, or of the last that was lost.
    sequence: u64,
}

/// Something to tell whoever watches.
pub(crate) enum News {
    Lost(String),
    Back,
}

// === impl Depot ===

impl Depot {
    pub(crate) fn new(to: &str, args: &StreamArgs) -> Depot {
        let several = args.vehicles_per_gateway.and_then(|vehicles| usize::try_from(vehicles).ok());
        Depot {
            to: to.to_owned(),
            // Different for every run, so that runs side by side do not end each other.
            name: args.gateway.clone().unwrap_or_else(|| format!("evsim-{}", std::process::id())),
            vehicles_per_gateway: several.unwrap_or(VEHICLES_MAX),
            lines: Vec::new(),
            vehicles: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a batch in; `false`: there was no room for it for a while.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached for the first time, or does not want a gateway or the batch.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has not taken the batch.
    pub(crate) async fn send(&mut self, batch: &Batch) -> anyhow::Result<bool> {
        let place = self.place(&batch.vehicle_id).await?;
        let (Line { gateway, signals }, vehicle) = (&self.lines[place], batch.vehicle_id.as_str());
        let known = self.vehicles.entry(batch.vehicle_id.clone()).or_insert(Known { line: place, sequence: 0 });
        let counts = &mut self.counts;
        if batch.is_resend {
            counts.repeated_batches += u64::from(gateway.repeat(vehicle, batch.sequence));
            return Ok(true);
        }
        // What was lost on the way has had its number.
        let lost = batch.sequence.saturating_sub(known.sequence + 1);
        if lost > 0 {
            gateway.skip(vehicle, lost)?;
            counts.lost_batches += lost;
            known.sequence += lost;
        }
        known.sequence = match gateway.send(vehicle, readings(batch, signals)).await {
            Ok(sequence) => sequence,
            Err(GatewayError::Full { .. }) => return Ok(false),
            Err(error) => {
                return Err(error).with_context(|| format!("the readings of {vehicle} cannot be sent"));
            }
        };
        counts.batches += 1;
        counts.readings += u64::try_from(batch.len())?;
        counts.vehicles = self.vehicles.len();
        Ok(true)
    }

    /// Batches and readings that are not durable yet.
    pub(crate) fn pending(&self) -> (usize, usize) {
        let pending = self.lines.iter().map(|line| (line.gateway.pending(), line.gateway.pending_readings()));
        pending.fold((0, 0), |sum, line| (sum.0 + line.0, sum.1 + line.1))
    }

    /// Takes note of what the gateways were told.
    pub(crate) fn hear(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        for line in &self.lines {
            while let Some(event) = line.gateway.try_event() {
                match event {
                    GatewayEvent::Rejected(reject) => self.counts.reject(reject),
                    GatewayEvent::SignalRefused(reject) => news.push(News::Lost(reject.message)),
                    GatewayEvent::Missed { events } => self.counts.missed_events += events,
                    GatewayEvent::Lost { error, retry_in } => {
                        let error = anyhow::Error::new(error);
                        news.push(News::Lost(format!("{error:#}; trying again in {retry_in:.1?}")));
                    }
                    GatewayEvent::Opened { .. } => news.push(News::Back),
                    _ => {}
                }
            }
        }
        news
    }

    /// Waits until everything is durable.
    ///
    /// # Errors
    ///
    /// When the server ended a gateway.
    pub(crate) async fn flush(&self) -> Result<(), GatewayError> {
        for line in &self.lines {
            line.gateway.flush().await?;
        }
        Ok(())
    }

    /// Ends the streams, which have nothing left to say.
    pub(crate) async fn close(self) {
        for line in self.lines {
            let _ = line.gateway.close().await;
        }
    }

    pub(crate) fn gateways(&self) -> usize {
        self.lines.len()
    }

    /// The gateway of a vehicle: of a new one the last, or another one when that is full.
    async fn place(&mut self, vehicle: &str) -> anyhow::Result<usize> {
        if let Some(known) = self.vehicles.get(vehicle) {
            return Ok(known.line);
        }
        let place = self.vehicles.len() / self.vehicles_per_gateway;
        if place >= self.lines.len() {
            let is_one = self.vehicles_per_gateway == VEHICLES_MAX;
            let name = if is_one { self.name.clone() } else { format!("{}-{place}", self.name) };
            let line = Line::connect(&self.to, name).await;
            self.lines.push(line.with_context(|| format!("cannot stream to {}", self.to))?);
        }
        Ok(place.min(self.lines.len() - 1))
    }
}

// === impl Line ===

impl Line {
    async fn connect(to: &str, name: String) -> Result<Line, GatewayError> {
        let mut config = GatewayConfig::new(name);
        config.vehicles_max = VEHICLES_MAX;
        config.send_timeout = SEND_TIMEOUT;
        config.reconnect.delay_max = RECONNECT_MAX;
        let signals = Signal::ALL.into_iter().map(|signal| (signal, config.signal(signal.name(), ""))).collect();
        Ok(Line { gateway: Gateway::connect(to, config).await?, signals })
    }
}

/// As they are, also where they cannot be: what a sensor says wrongly goes over the wire.
fn readings(batch: &Batch, signals: &[(Signal, GatewaySignal)]) -> Readings {
    let columns = batch.columns.iter().filter_map(|column| {
        let (_, signal) = signals.iter().find(|(known, _)| *known == column.signal)?;
        Some((*signal, &column.values))
    });
    let columns: Vec<(GatewaySignal, &Vec<f32>)> = columns.collect();
    let mut readings = Readings::new();
    for (row, time_us) in batch.times_us.iter().enumerate() {
        let values = columns.iter().filter_map(|(signal, values)| Some((*signal, *values.get(row)?)));
        readings.push_us(*time_us, values);
    }
    readings
}
