//! What is sent: a simulation or a recording, in its order, with the truth where it is known.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use evsim::{
    Batch, Fleet, FleetConfig, SimError, Truth,
    replay::{Replay, ReplayConfig},
};

use crate::{
    cli::{ReplayArgs, RunArgs},
    pace::{Pace, Speed},
};

/// When a simulation begins that nobody sees while it happens: 2026-01-01.
const BEGINS_UNIX_S: i64 = 1_767_225_600;
/// How long such a simulation is.
const SECONDS: u32 = 3600;

/// Batches, when each is due, and how many vehicles' they are where that is known.
pub(crate) struct Source {
    pub(crate) items: Box<dyn Iterator<Item = Result<Item, SimError>>>,
    pub(crate) pace: Pace,
}

/// A batch that is to be sent.
pub(crate) struct Item {
    pub(crate) batch: Batch,
    pub(crate) truth: Option<Truth>,
    /// When it is due, in microseconds since 1970-01-01 UTC by a right clock.
    pub(crate) due_us: i64,
}

// === impl Source ===

impl Source {
    /// A simulated fleet.
    ///
    /// # Errors
    ///
    /// When it would be ahead of the clock sooner or later.
    pub(crate) fn run(args: &RunArgs) -> anyhow::Result<Source> {
        let is_stream = args.out.to.is_some();
        let speed = args.out.speed();
        let is_endless = is_stream && args.seconds.is_none() && matches!(speed, Speed::Times(factor) if factor <= 1.0);
        anyhow::ensure!(
            args.seconds.is_some() || is_endless || !is_stream || speed == Speed::Max,
            "--speed faster than 1x needs --seconds: vehicles that are ahead of the server's clock are refused"
        );
        let seconds = (!is_endless).then_some(args.seconds.unwrap_or(SECONDS));
        let history_s = i64::from(args.history);
        let begins_s = match args.start_unix_s {
            Some(begins_s) => begins_s,
            None if is_stream => {
                let begins_in_s = speed.begins_in_s(seconds.map(f64::from), f64::from(args.history));
                now_us()?.saturating_add(microseconds(begins_in_s)) / 1_000_000
            }
            None => BEGINS_UNIX_S,
        };
        let fleet = Fleet::new(FleetConfig {
            vehicles: args.vehicles,
            seed: args.seed,
            start: args.start.into(),
            batch_s: args.batch_seconds,
            start_unix_s: begins_s,
            faults: args.faults.clone(),
            ..FleetConfig::default()
        });
        let until_us = seconds.map(|seconds| begins_s.saturating_add(i64::from(seconds)).saturating_mul(1_000_000));
        let emissions = fleet.take_while(move |emission| until_us.is_none_or(|until| emission.truth.time_us <= until));
        let items = emissions.map(|emission| {
            let due_us = emission.truth.time_us;
            Ok(Item { batch: emission.batch, truth: Some(emission.truth), due_us })
        });
        // A file that is written slowly begins with its first batch.
        let from_us = is_stream.then(|| begins_s.saturating_add(history_s).saturating_mul(1_000_000));
        Ok(Source { items: Box::new(items), pace: Pace::new(speed, from_us) })
    }

    /// A recording.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(crate) fn replay(args: &ReplayArgs) -> anyhow::Result<Source> {
        let speed = args.out.speed();
        let shift_us = if args.as_if_now {
            anyhow::ensure!(args.file != Path::new("-"), "--as-if-now reads the recording twice: it needs a file");
            let (first_us, last_us) = extent(open(args)?)?;
            let length_s = last_us.saturating_sub(first_us) as f64 / 1e6;
            now_us()?.saturating_add(microseconds(speed.begins_in_s(Some(length_s), 0.0))).saturating_sub(first_us)
        } else {
            0
        };
        let items = open(args)?.map(move |batch| {
            let mut batch = batch?;
            batch.times_us.iter_mut().for_each(|time| *time = time.saturating_add(shift_us));
            let due_us = batch.times_us.last().copied().unwrap_or_default();
            Ok(Item { batch, truth: None, due_us })
        });
        Ok(Source { items: Box::new(items), pace: Pace::new(speed, None) })
    }
}

fn open(args: &ReplayArgs) -> Result<Replay<Box<dyn BufRead>>, SimError> {
    let recording: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let file = fs_err::File::open(&args.file).map(|file| file.into_parts().0);
        let unreadable = |source| SimError::Io { what: "the recording cannot be opened", source };
        Box::new(BufReader::<File>::new(file.map_err(unreadable)?))
    };
    let defaults = ReplayConfig::default();
    let config = ReplayConfig {
        time_column: args.time_column.clone(),
        utc_offset_s: args.utc_offset_hours.saturating_mul(3600),
        vehicle_column: Some(args.vehicle_column.clone()).filter(|column| !column.is_empty()),
        vehicle_id: args.vehicle_id.clone(),
        batch_readings: args.batch_readings,
        signals: args.signals.iter().cloned().chain(defaults.signals).collect(),
    };
    Replay::new(recording, config)
}

/// The earliest and the latest time of a recording.
fn extent(replay: Replay<Box<dyn BufRead>>) -> Result<(i64, i64), SimError> {
    let (mut first_us, mut last_us) = (i64::MAX, i64::MIN);
    for batch in replay {
        for time_us in batch?.times_us {
            (first_us, last_us) = (first_us.min(time_us), last_us.max(time_us));
        }
    }
    // Of one without readings nothing is moved.
    Ok(if first_us > last_us { (0, 0) } else { (first_us, last_us) })
}

#[expect(clippy::cast_possible_truncation, reason = "saturates, far from any time")]
fn microseconds(seconds: f64) -> i64 {
    (seconds * 1e6) as i64
}

fn now_us() -> anyhow::Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(since.as_micros())?)
}
