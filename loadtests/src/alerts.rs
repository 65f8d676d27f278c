//! From a reading to the alert it raises: in through a gateway's stream, out through `WatchAlerts`.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ev_client::{
    Client,
    proto::ev::{
        telemetry::v1::{
            Batch, Column, Open, SignalDeclaration, SignalNaming, StreamRequest, stream_request,
            stream_response::Message,
        },
        thermal::v1::{AlertFilter, WatchAlertsResponse},
    },
};
use hdrhistogram::Histogram;
use prost_types::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{LoadError, Percentiles, driver::wait_until, report::Share};

/// Longest time that is told apart, and longest wait for the last alert.
const PATIENCE: Duration = Duration::from_secs(10);
/// Hotter than the second limit of `[alerts.fleet.cell_temperature]`: one reading is enough.
const HOT_CELSIUS: f32 = 61.0;
const SIGNAL: &str = "Vehicle.Powertrain.TractionBattery.Temperature.Max";

/// A load test of alerts.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertsLoad {
    /// Where the server takes readings in.
    pub ingest: String,
    /// Where it tells alerts.
    pub endpoint: String,
    /// Readings a second, each of a vehicle of its own, each of which raises an alert.
    pub rate: f64,
    /// Time that is counted.
    pub duration: Duration,
}

/// What a load test of alerts found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertsReport {
    /// Readings sent.
    pub sent: u64,
    /// Alerts that were told.
    pub alerted: u64,
    /// From when a reading was due to when its alert came.
    pub latency_us: Percentiles,
    /// From when a reading was due to when it was sent.
    pub lag_us: Percentiles,
    /// The first error.
    pub error: Option<String>,
}

struct Counts {
    waiting: HashMap<String, Instant>,
    sent: u64,
    alerted: u64,
    latency: Histogram<u64>,
    lag: Histogram<u64>,
}

/// Runs a load test of the way from a reading to its alert.
///
/// # Errors
///
/// [`LoadError`] when it could not begin; what goes wrong later is part of the report.
pub async fn run_alerts(load: &AlertsLoad) -> Result<AlertsReport, LoadError> {
    if !(load.rate.is_finite() && load.rate > 0.0) {
        return Err(LoadError::Invalid("the rate must be above 0"));
    }
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let watching = Client::connect(&load.endpoint).await.map_err(LoadError::Unreachable)?;
    let mut alerts = watching.thermal().watch_alerts(AlertFilter::default()).await.map_err(LoadError::Unreachable)?;
    let client = Client::connect(&load.ingest).await.map_err(LoadError::Unreachable)?;
    let (requests, receiver) = mpsc::channel(64);
    let _ = requests.try_send(open(&format!("alerts-{run:x}")));
    let mut replies = client.ingest().stream(ReceiverStream::new(receiver)).await.map_err(LoadError::Unreachable)?;
    let first = replies.next().await.map_err(LoadError::Unreachable)?.and_then(|reply| reply.message);
    let Some(Message::Opened(opened)) = first else {
        return Err(LoadError::Invalid("the server's first message was not `opened`"));
    };
    let mut credit = u64::from(opened.credit);
    let (mut counts, mut error) = (Counts::new(), None);
    let begin = Instant::now();
    let mut next: u64 = 0;
    let due = |number: u64| begin + Duration::from_secs_f64(Share(number).of(load.rate));
    while error.is_none() {
        let is_over = due(next) >= begin + load.duration;
        let is_late = begin.elapsed() > load.duration + PATIENCE;
        if is_late || (is_over && counts.waiting.is_empty()) {
            break;
        }
        tokio::select! {
            biased;
            reply = alerts.next() => match reply {
                Ok(Some(told)) => counts.take(&told),
                Ok(None) => error = Some("the server ended the watch".to_owned()),
                Err(failed) => error = Some(failed.to_string()),
            },
            reply = replies.next() => match reply {
                Ok(Some(reply)) => {
                    if let Some(Message::Credit(more)) = reply.message {
                        credit += u64::from(more.batches);
                    }
                }
                Ok(None) => error = Some("the server ended the stream".to_owned()),
                Err(failed) => error = Some(failed.to_string()),
            },
            // A reading that waits for credit is late, and its latency counts from when it was due.
            () = wait_until(due(next)), if !is_over && credit > 0 => {
                credit -= 1;
                let vehicle = format!("alert-{run:x}-{next}");
                counts.sent += 1;
                counts.lag.saturating_record(ns(due(next).elapsed()));
                counts.waiting.insert(vehicle.clone(), due(next));
                if requests.send(hot(vehicle)).await.is_err() {
                    error = Some("the server takes no more messages".to_owned());
                }
                next += 1;
            }
            () = tokio::time::sleep(PATIENCE), if is_over || credit == 0 => {}
        }
    }
    Ok(counts.report(error))
}

fn open(id: &str) -> StreamRequest {
    let signal = SignalDeclaration { id: 0, name: SIGNAL.to_owned(), unit: "celsius".to_owned() };
    let open = Open {
        gateway_id: id.to_owned(),
        boot_id: id.to_owned(),
        signals: vec![signal],
        signal_naming: SignalNaming::Vss.into(),
        last_acked: Vec::new(),
    };
    StreamRequest { message: Some(stream_request::Message::Open(open)) }
}

fn hot(vehicle_id: String) -> StreamRequest {
    let batch = Batch {
        vehicle_id,
        sequence: 1,
        is_resend: false,
        first_time: Some(Timestamp::from(SystemTime::now())),
        time_deltas_us: vec![0],
        columns: vec![Column { signal_id: 0, values: vec![HOT_CELSIUS] }],
    };
    StreamRequest { message: Some(stream_request::Message::Batch(batch)) }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

// === impl Counts ===

impl Counts {
    fn new() -> Counts {
        let histogram =
            || Histogram::new_with_max(ns(2 * PATIENCE), 3).expect("three digits to some seconds are valid");
        Counts { waiting: HashMap::new(), sent: 0, alerted: 0, latency: histogram(), lag: histogram() }
    }

    fn take(&mut self, told: &WatchAlertsResponse) {
        let vehicle = told.alert.as_ref().map_or("", |alert| alert.vehicle_id.as_str());
        if let Some(due) = self.waiting.remove(vehicle) {
            self.alerted += 1;
            self.latency.saturating_record(ns(due.elapsed()));
        }
    }

    fn report(&self, error: Option<String>) -> AlertsReport {
        AlertsReport {
            sent: self.sent,
            alerted: self.alerted,
            latency_us: Percentiles::of(&self.latency),
            lag_us: Percentiles::of(&self.lag),
            error,
        }
    }
}

// === impl AlertsReport ===

impl AlertsReport {
    /// One sentence for each thing that was not kept: every reading is told, the 99th percentile within this.
    #[must_use]
    pub fn broken(&self, p99_max: Option<Duration>) -> Vec<String> {
        let mut broken = Vec::new();
        let (p99, sent, alerted) = (self.latency_us.p99, self.sent, self.alerted);
        if let Some(max) = p99_max.map(|max| max.as_secs_f64() * 1e6).filter(|max| p99 > *max) {
            broken.push(format!("p99 to the alert is {p99:.0} us, expected at most {max:.0} us"));
        }
        if alerted < sent || sent == 0 {
            broken.push(format!("{alerted} of {sent} readings were told as alerts, expected all"));
        }
        if let Some(error) = &self.error {
            broken.push(format!("the test failed: {error}"));
        }
        broken
    }
}

impl fmt::Display for AlertsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "alerts: readings sent {}, alerts told {}", self.sent, self.alerted)?;
        writeln!(f, "{:<22} {:>10} {:>10} {:>10} {:>10} {:>10}", "us", "p50", "p90", "p99", "p99.9", "max")?;
        for (name, percentiles) in [("sent late by", &self.lag_us), ("alert, from due", &self.latency_us)] {
            let Percentiles { p50, p90, p99, p999, max } = percentiles;
            writeln!(f, "{name:<22} {p50:>10.1} {p90:>10.1} {p99:>10.1} {p999:>10.1} {max:>10.1}")?;
        }
        match &self.error {
            Some(error) => writeln!(f, "first error: {error}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_is_named() {
        let percentiles = Percentiles { p50: 100.0, p90: 200.0, p99: 300.0, p999: 400.0, max: 500.0 };
        let kept = AlertsReport { sent: 9, alerted: 9, latency_us: percentiles, lag_us: percentiles, error: None };
        let check = |report: &AlertsReport, p99_us: u64, expected: &[&str]| {
            let broken = report.broken(Some(Duration::from_micros(p99_us)));
            let named = broken.iter().zip(expected).all(|(broken, expected)| broken.contains(expected));
            assert!(broken.len() == expected.len() && named, "{broken:?}");
        };
        check(&kept, 300, &[]);
        check(&kept, 299, &["p99 to the alert is 300 us"]);
        check(&AlertsReport { alerted: 8, ..kept.clone() }, 300, &["8 of 9 readings"]);
        check(&AlertsReport { sent: 0, alerted: 0, ..kept.clone() }, 300, &["0 of 0 readings"]);
        check(&AlertsReport { error: Some("gone".to_owned()), ..kept }, 300, &["failed: gone"]);
    }
}
