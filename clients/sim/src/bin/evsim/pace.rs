//! How fast the vehicles' time passes, and how it stands to the clock on the wall.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

/// Seconds of the vehicles' time in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// So many.
    Times(f64),
    /// As many as can be.
    Max,
}

/// Lets the vehicles' time pass at a speed.
#[derive(Debug)]
pub(crate) struct Pace {
    speed: Speed,
    /// Of the vehicles' time, what has passed when it begins, in microseconds; none: until the first batch.
    from_us: Option<i64>,
    began: Option<Instant>,
}

// === impl Speed ===

impl Speed {
    /// Seconds from now to the beginning of a simulation or recording of so many seconds, at most 0: such that it ends
    /// now, seen from its last reading, and never is ahead of now. Of one without an end and for one that is slower than
    /// real time it begins now. `history_s` of it are over already.
    pub(crate) fn begins_in_s(self, length_s: Option<f64>, history_s: f64) -> f64 {
        let to_come = length_s.map(|length| (length - history_s).max(0.0));
        let gained = match (self, to_come) {
            (_, None) => 0.0,
            (Speed::Times(factor), Some(to_come)) => (to_come - to_come / factor).max(0.0),
            (Speed::Max, Some(to_come)) => to_come,
        };
        -history_s.min(length_s.unwrap_or(f64::MAX)) - gained
    }
}

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Speed, &'static str> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        let factor = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
        let factor = factor.filter(|factor| (0.001..=1e6).contains(factor));
        factor.map(Speed::Times).ok_or("expected 0.001x to 1000000x, such as 1x or 60x, or max")
    }
}

// === impl Pace ===

impl Pace {
    /// A pace that begins at `from_us` of the vehicles' time; what is before it is due at once.
    pub(crate) fn new(speed: Speed, from_us: Option<i64>) -> Pace {
        Pace { speed, from_us, began: None }
    }

    /// How long it is until this time of the vehicles; one that goes back is there already.
    pub(crate) fn wait(&mut self, time_us: i64) -> Duration {
        let began = *self.began.get_or_insert_with(Instant::now);
        let from_us = *self.from_us.get_or_insert(time_us);
        self.due(time_us.saturating_sub(from_us)).saturating_sub(began.elapsed())
    }

    /// Whether time passes at all.
    pub(crate) fn is_paced(&self) -> bool {
        self.speed != Speed::Max
    }

    fn due(&self, since_us: i64) -> Duration {
        let since_s = since_us.max(0) as f64 / 1e6;
        match self.speed {
            Speed::Times(factor) => Duration::try_from_secs_f64(since_s / factor).unwrap_or(Duration::MAX),
            Speed::Max => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_read() {
        for (text, speed) in [("10x", Speed::Times(10.0)), ("0.5", Speed::Times(0.5)), ("max", Speed::Max)] {
            assert_eq!(text.parse(), Ok(speed), "{text}");
        }
        for wrong in ["", "x", "0", "0x", "-1x", "NaN", "inf", "1e99"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_streamed_ends_now_and_is_never_ahead() {
        let check = |speed: Speed, length_s: Option<f64>, history_s: f64, expected_s: f64| {
            assert_eq!(speed.begins_in_s(length_s, history_s), expected_s, "{speed:?} {length_s:?} {history_s}");
        };
        check(Speed::Times(1.0), None, 0.0, 0.0);
        check(Speed::Times(1.0), None, 600.0, -600.0);
        check(Speed::Times(1.0), Some(3600.0), 600.0, -600.0);
        check(Speed::Max, Some(3600.0), 0.0, -3600.0);
        check(Speed::Max, Some(3600.0), 600.0, -3600.0);
        // An hour in six minutes: the first six minutes are then 54 minutes ago.
        check(Speed::Times(10.0), Some(3600.0), 0.0, -3240.0);
        check(Speed::Times(0.5), Some(60.0), 0.0, 0.0);
        check(Speed::Times(1.0), Some(60.0), 600.0, -60.0);
    }

    #[test]
    fn what_is_over_is_due_at_once() {
        let pace = Pace::new(Speed::Times(10.0), Some(60_000_000));
        assert_eq!((pace.due(5_000_000), pace.due(-5)), (Duration::from_millis(500), Duration::ZERO));
        assert_eq!(Pace::new(Speed::Max, None).due(5_000_000), Duration::ZERO);
    }
}
