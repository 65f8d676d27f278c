//! `evctl telemetry send`: plays a recording back as a vehicle.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use clap::{Args, ValueEnum};
use ev_client::{
    Gateway, GatewayConfig, GatewayEvent, GatewaySignal, Readings,
    proto::ev::telemetry::v1::{Reject, RejectReason, SignalNaming},
};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    recording::{Extent, Recorded, Recording},
    time,
};
use crate::{cli::GlobalOptions, exit::Exit, failure::Failure, output::Output};

/// Before waiting longer than this for the next reading, those that are there are sent.
const PATIENCE: Duration = Duration::from_millis(200);
/// Different reasons for refusals that are shown.
const REASONS_MAX: usize = 10;

/// Play a recorded CSV file back to the server, as a vehicle would send it.
#[derive(Debug, Args)]
#[command(after_help = "\
The first line names the columns: a time, and signals by short names or VSS paths, with their
unit in brackets where it is not the usual one. Of a current or power the unit says which way it
counts: A is positive into the battery, -A out of it.

  time,soc,speed[mph],battery_current[-A]
  0,80.5,30,120
  1,80.4,31,

Times are RFC 3339 or numbers, in seconds unless the header says [ms] or [us]. Numbers that count
from the beginning of the recording are moved so that it ends now; others stay as they are, unless
--as-if-now is given.

Examples:
  evctl telemetry send drive.csv --vehicle car-1                 in the time it took
  evctl telemetry send drive.csv --vehicle car-1 --speed 10x     ten times faster
  evctl telemetry send drive.csv --vehicle car-1 --speed max     as fast as the server takes it")]
pub(crate) struct SendCommand {
    /// The recording.
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    /// The vehicle it is sent as: 1 to 64 printable ASCII characters without blanks.
    #[arg(long, value_name = "ID")]
    vehicle: String,
    /// How much faster than it was recorded, such as 10x; max for as fast as the server takes it.
    #[arg(long, value_name = "FACTOR", default_value = "1x", value_parser = parse_speed)]
    speed: Speed,
    /// Move all times so that the recording ends now.
    #[arg(long)]
    as_if_now: bool,
    /// Header of the column with the time [default: time, timestamp, datetime, time_s, time_ms or time_us].
    #[arg(long, value_name = "NAME")]
    time_column: Option<String>,
    /// Whose names the columns have [default: vss where one begins with Vehicle., else short].
    #[arg(long, value_enum, value_name = "NAMES")]
    naming: Option<Naming>,
    /// Most readings of a batch.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Name of this sender; another sender of the same name ends this one [default: evctl- and a number].
    #[arg(long, value_name = "ID")]
    gateway: Option<String>,
    /// Where the server takes readings in.
    #[arg(long, env = "EVCTL_INGEST", value_name = "URL", default_value = "http://127.0.0.1:50052")]
    ingest: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Naming {
    /// COVESA VSS paths, such as Vehicle.Speed.
    Vss,
    /// Short names, such as soc or battery_voltage.
    Short,
    /// Field names of Tesla's fleet-telemetry, such as PackVoltage.
    Tesla,
}

/// What was refused: by reason and message, how many readings.
#[derive(Debug, Default)]
struct Refusals {
    reasons: BTreeMap<String, u64>,
    readings: u64,
    implausible_times: bool,
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    let factor = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
    let factor = factor.filter(|factor| factor.is_finite() && *factor >= 0.001 && *factor <= 1e6);
    factor.map(Speed::Times).ok_or_else(|| "expected 0.001x to 1000000x, such as 10x, or max".to_owned())
}

// === impl Speed ===

impl Speed {
    /// When a reading is due, counted from the first.
    fn due(self, since_first_us: i64) -> Duration {
        let since = Duration::from_micros(u64::try_from(since_first_us).unwrap_or_default());
        match self {
            Speed::Times(factor) => Duration::try_from_secs_f64(since.as_secs_f64() / factor).unwrap_or(Duration::MAX),
            Speed::Max => Duration::ZERO,
        }
    }
}

// === impl SendCommand ===

impl SendCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        let open = || Recording::open(&self.file, self.time_column.as_deref(), self.naming.map(Naming::of));
        let extent = open()?.extent()?;
        let recording = open()?;
        let mut config = GatewayConfig::new(self.gateway.clone().unwrap_or_else(usual_gateway));
        config.client = global.config();
        config.naming = recording.naming;
        let declare = |(name, unit): &(String, String)| config.signal(name, unit);
        let signals: Vec<GatewaySignal> = recording.signals.iter().map(declare).collect();
        let gateway = Gateway::connect(&self.ingest, config).await?;
        let progress = progress_bar(recording.total_bytes);
        let mut refusals = Refusals::default();
        let batches = self.play(recording, extent, &signals, &gateway, &progress, &mut refusals).await?;
        flush(&gateway, global.reply_timeout()).await?;
        refusals.take(&gateway);
        progress.finish_and_clear();
        // It has nothing left to say; what it was told is known.
        let _ = gateway.close().await;
        self.conclude(extent, batches, &refusals, output)
    }

    async fn play(
        &self,
        mut recording: Recording,
        extent: Extent,
        signals: &[GatewaySignal],
        gateway: &Gateway,
        progress: &ProgressBar,
        refusals: &mut Refusals,
    ) -> Result<u64, Failure> {
        let now_us = time::microseconds(&time::timestamp(SystemTime::now()));
        let moved = self.as_if_now || extent.is_relative;
        let shift_us = if moved { now_us.saturating_sub(extent.last_us) } else { 0 };
        let batch_max = usize::from(self.batch).min(gateway.batch_readings_max().unwrap_or(usize::MAX));
        let (begin, mut first_us, mut batches) = (Instant::now(), None, 0);
        let mut readings = Readings::new();
        while let Some(Recorded { time_us, values, .. }) = recording.next()? {
            let first_us = *first_us.get_or_insert(time_us);
            let due = begin.checked_add(self.speed.due(time_us.saturating_sub(first_us)));
            let wait = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
            if wait > PATIENCE || readings.len() == batch_max {
                batches += send(gateway, &self.vehicle, &mut readings).await?;
                refusals.take(gateway);
                progress.set_message(format!("{} batches not durable yet", gateway.pending()));
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let values = signals.iter().zip(values).filter_map(|(signal, value)| Some((*signal, value?)));
            readings.push_us(time_us.saturating_add(shift_us), values);
            progress.set_position(recording.read_bytes);
        }
        Ok(batches + send(gateway, &self.vehicle, &mut readings).await?)
    }

    fn conclude(&self, extent: Extent, batches: u64, refusals: &Refusals, output: &Output) -> Result<Exit, Failure> {
        let Refusals { reasons, readings: refused, implausible_times } = refusals;
        for (reason, count) in reasons.iter().take(REASONS_MAX) {
            output.advise(&match count {
                0 => reason.clone(),
                count => format!("{count} readings: {reason}"),
            });
        }
        if *implausible_times && !self.as_if_now {
            output.advise("to send the recording as if it had just been made, add --as-if-now");
        }
        let json = serde_json::json!({
            "vehicle_id": self.vehicle, "readings": extent.readings, "batches": batches, "refused_readings": refused,
        });
        let vehicle = &self.vehicle;
        output.answer(&json, || {
            let sent = extent.readings;
            format!("{sent} readings of {vehicle} in {batches} batches are durable, {refused} of them refused in part or whole")
        })?;
        Ok(if *refused == 0 { Exit::Ok } else { Exit::Failed })
    }
}

/// Sends what there is; the number of batches.
async fn send(gateway: &Gateway, vehicle: &str, readings: &mut Readings) -> Result<u64, Failure> {
    if readings.is_empty() {
        return Ok(0);
    }
    gateway.send(vehicle, std::mem::take(readings)).await?;
    Ok(1)
}

/// Waits until everything is durable, for as long as there is progress.
async fn flush(gateway: &Gateway, timeout: Duration) -> Result<(), Failure> {
    loop {
        let pending = gateway.pending();
        match tokio::time::timeout(timeout, gateway.flush()).await {
            Ok(result) => return Ok(result?),
            Err(_) if gateway.pending() < pending => {}
            Err(_) => {
                let message = format!("{pending} batches are not durable, and none became so within {timeout:?}");
                let error = ev_client::CallError::new(ev_client::Code::DeadlineExceeded, message);
                return Err(Failure::Client(ev_client::Error::Call(Box::new(error))));
            }
        }
    }
}

/// Different for every run, so that runs side by side do not end each other.
fn usual_gateway() -> String {
    format!("evctl-{}", std::process::id())
}

/// On standard error, and only on a terminal.
fn progress_bar(total_bytes: u64) -> ProgressBar {
    let template = "{bar:32.cyan/dim} {percent:>3} %  {msg}  {elapsed}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("██·");
    ProgressBar::new(total_bytes).with_style(style)
}

// === impl Naming ===

impl Naming {
    fn of(self) -> SignalNaming {
        match self {
            Naming::Vss => SignalNaming::Vss,
            Naming::Short => SignalNaming::Short,
            Naming::Tesla => SignalNaming::TeslaFleetTelemetry,
        }
    }
}

// === impl Refusals ===

impl Refusals {
    fn take(&mut self, gateway: &Gateway) {
        while let Some(event) = gateway.try_event() {
            match event {
                GatewayEvent::SignalRefused(reject) => {
                    let text = format!("a column is left out: {}", reject.message);
                    self.reasons.entry(text).or_default();
                }
                GatewayEvent::Rejected(reject) => self.add(reject),
                GatewayEvent::Missed { events } => {
                    *self.reasons.entry("other reasons, which were not kept".to_owned()).or_default() += events;
                    self.readings += events;
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, reject: Reject) {
        self.implausible_times |= reject.reason() == RejectReason::ImplausibleTime;
        let count = u64::from(reject.readings.max(1));
        self.readings += count;
        // Messages name values: of very different ones only the first are kept.
        let kept = self.reasons.len() < REASONS_MAX || self.reasons.contains_key(&reject.message);
        let text = if kept { reject.message } else { "and others".to_owned() };
        *self.reasons.entry(text).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read() {
        for (text, speed) in [("10x", Speed::Times(10.0)), ("0.5", Speed::Times(0.5)), ("max", Speed::Max)] {
            assert_eq!(parse_speed(text), Ok(speed), "{text}");
        }
        for wrong in ["", "x", "0x", "-1x", "NaN", "inf", "1e99"] {
            assert!(parse_speed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Speed::Times(10.0).due(5_000_000), Duration::from_millis(500));
        assert_eq!((Speed::Max.due(5_000_000), Speed::Times(1.0).due(-5)), (Duration::ZERO, Duration::ZERO));
    }
}
