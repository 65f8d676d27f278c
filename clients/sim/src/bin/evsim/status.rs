//! How a stream gets on, while it does and in the end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ev_client::proto::ev::telemetry::v1::{Reject, RejectReason};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::depot::News;

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(200);

/// What was sent, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) vehicles: usize,
    pub(crate) batches: u64,
    pub(crate) readings: u64,
    /// Batches whose number was given up.
    pub(crate) lost_batches: u64,
    /// Batches that were sent a second time.
    pub(crate) repeated_batches: u64,
    /// Readings that were refused in part or whole.
    pub(crate) rejected_readings: u64,
    /// By reason: how many readings, and the first message.
    pub(crate) rejects: BTreeMap<String, (u64, String)>,
    /// Refusals that came faster than they were counted.
    pub(crate) missed_events: u64,
}

/// What a stream came to.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) gateways: usize,
    vehicles: usize,
    batches: u64,
    readings: u64,
    durable_batches: u64,
    durable_readings: u64,
    rejected_readings: u64,
    rejects: BTreeMap<String, u64>,
    lost_batches: u64,
    repeated_batches: u64,
    missed_events: u64,
    seconds: f64,
}

/// A line on a terminal; elsewhere only what is out of the ordinary.
pub(crate) struct Status {
    bar: ProgressBar,
    began: Instant,
    shown: Option<Instant>,
    is_lost: bool,
}

// === impl Counts ===

impl Counts {
    pub(crate) fn reject(&mut self, reject: Reject) {
        let count = u64::from(reject.readings.max(1));
        self.rejected_readings += count;
        let reason = RejectReason::try_from(reject.reason).unwrap_or_default();
        let name = reason.as_str_name().trim_start_matches("REJECT_REASON_").to_lowercase();
        let entry = self.rejects.entry(name).or_insert_with(|| (0, reject.message));
        entry.0 += count;
    }

    pub(crate) fn summary(&self, gateways: usize, pending: (usize, usize), took: Duration) -> Summary {
        Summary {
            gateways,
            vehicles: self.vehicles,
            batches: self.batches,
            readings: self.readings,
            durable_batches: self.batches.saturating_sub(pending.0 as u64),
            durable_readings: self.readings.saturating_sub(pending.1 as u64),
            rejected_readings: self.rejected_readings,
            rejects: self.rejects.iter().map(|(reason, (count, _))| (reason.clone(), *count)).collect(),
            lost_batches: self.lost_batches,
            repeated_batches: self.repeated_batches,
            missed_events: self.missed_events,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

// === impl Summary ===

impl Summary {
    pub(crate) fn sentence(&self) -> String {
        let Summary { readings, vehicles, durable_readings, rejected_readings, seconds, .. } = self;
        format!(
            "{readings} readings of {vehicles} vehicles in {seconds:.1} s: {durable_readings} are durable, {rejected_readings} of them refused in part or whole"
        )
    }
}

// === impl Status ===

impl Status {
    pub(crate) fn start() -> Status {
        let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}").expect("the template is valid");
        Status { bar: ProgressBar::new_spinner().with_style(style), began: Instant::now(), shown: None, is_lost: false }
    }

    pub(crate) fn took(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn show(&mut self, counts: &Counts, pending: (usize, usize)) {
        if self.shown.is_some_and(|shown| shown.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let Counts { vehicles, readings, rejected_readings, .. } = counts;
        let durable = readings.saturating_sub(pending.1 as u64);
        self.bar.tick();
        self.bar.set_message(format!(
            "{vehicles} vehicles  {readings} readings sent  {durable} durable  {rejected_readings} refused"
        ));
    }

    /// Says once that the server is gone, and once that it is back.
    pub(crate) fn tell(&mut self, news: Vec<News>, pending: (usize, usize)) {
        for news in news {
            match news {
                News::Lost(why) if !self.is_lost => {
                    self.is_lost = true;
                    self.say(&format!("the stream broke, {} readings are kept: {why}", pending.1));
                }
                News::Back if self.is_lost => {
                    self.is_lost = false;
                    self.say("the stream is open again");
                }
                News::Lost(_) | News::Back => {}
            }
        }
    }

    pub(crate) fn say(&self, text: &str) {
        if self.bar.is_hidden() { eprintln!("evsim: {text}") } else { self.bar.println(text) }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
