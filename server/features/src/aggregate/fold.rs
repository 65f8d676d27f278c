//! The state of one vehicle, as a fold over its readings in order of their times.

use super::{
    program::{Direction, Program, Source},
    session::{Activity, Moment, Track},
    window::Window,
};

/// Everything that views need of a vehicle.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    /// The latest value of each slot and its time; NaN where there is none.
    latest: Vec<(i64, f32)>,
    windows: Vec<Window>,
    tracks: [Track; 2],
}

// === impl Fold ===

impl Fold {
    pub(super) fn new(program: &Program) -> Fold {
        Fold {
            latest: vec![(0, f32::NAN); program.stride],
            windows: vec![Window::EMPTY; program.windows.len()],
            tracks: Default::default(),
        }
    }

    /// Takes a reading that is later than all before it: a value for each slot, NaN where it has none.
    pub(super) fn fold(&mut self, program: &Program, time_us: i64, values: &[f32]) {
        for (latest, value) in self.latest.iter_mut().zip(values) {
            if !value.is_nan() {
                *latest = (time_us, *value);
            }
        }
        for (window, spec) in self.windows.iter_mut().zip(&program.windows) {
            let value = values[usize::from(spec.slot)];
            if !value.is_nan() {
                window.fold(spec, time_us, value);
            }
        }
        if program.has_sessions() {
            self.fold_sessions(program, time_us, values);
        }
    }

    /// A feature's value, and the time of the reading it was last made from.
    pub(super) fn value(&self, program: &Program, source: Source) -> Option<(f32, i64)> {
        match source {
            Source::None => None,
            Source::Latest(slot) => {
                let (time_us, value) = self.latest[usize::from(slot)];
                (!value.is_nan()).then_some((value, time_us))
            }
            Source::Window(window) => self.windows[usize::from(window)].value(&program.windows[usize::from(window)]),
            Source::Running(direction, state) => {
                let sessions = &program.sessions[direction.index()];
                self.tracks[direction.index()].running_value(program, sessions, state)
            }
            Source::Last(direction, state) => self.tracks[direction.index()].last_value(state),
            Source::OverNew(direction, ledger) => self.tracks[direction.index()].over_new(ledger),
        }
    }

    /// Whether a session of this direction has ended.
    pub(super) fn has_ended(&self, direction: Direction) -> bool {
        self.tracks[direction.index()].has_ended()
    }

    fn fold_sessions(&mut self, program: &Program, time_us: i64, values: &[f32]) {
        let activity = self.activity(program, time_us);
        let charge = self.latest[usize::from(program.charge)].1;
        let moment = Moment { time_us, activity, charge, values };
        for direction in Direction::ALL {
            self.tracks[direction.index()].fold(program, direction, moment);
        }
        let [discharge, charge] = &mut self.tracks;
        match activity {
            Activity::Load(Direction::Discharge) if discharge.counts(program) => {
                charge.end(program, &program.sessions[Direction::Charge.index()]);
            }
            Activity::Load(Direction::Charge) if charge.counts(program) => {
                discharge.end(program, &program.sessions[Direction::Discharge.index()]);
            }
            _ => {}
        }
    }

    /// What happens to the battery, by the latest current and the latest word of the vehicle about charging.
    fn activity(&self, program: &Program, time_us: i64) -> Activity {
        let known = |slot: u16| {
            let (at_us, value) = self.latest[usize::from(slot)];
            (!value.is_nan() && time_us - at_us <= program.signal_age_max_us).then_some(value)
        };
        let current = known(program.current);
        let says_charging = known(program.charging).map(|flag| flag >= 0.5);
        match (current, says_charging) {
            (Some(current), _) if current <= -program.current_min_a => Activity::Load(Direction::Discharge),
            (_, Some(true)) => Activity::Load(Direction::Charge),
            (Some(current), None) if current >= program.current_min_a => Activity::Load(Direction::Charge),
            (Some(_), _) => Activity::Rest,
            (None, _) => Activity::Unknown,
        }
    }
}
