//! Charges and discharges.

use std::{collections::VecDeque, sync::Arc};

use super::{
    acc::Acc,
    program::{Direction, Program, SessionProgram},
};
use crate::views::Part;

/// Full sessions from here to `NEW_MAX` are what a battery does when it is new; the first few still change quickly.
const NEW_MIN: usize = 5;
/// See `NEW_MIN`.
const NEW_MAX: usize = 45;
/// Full sessions whose median is what it does now.
const RECENT: usize = 15;

/// What happens to a battery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    Load(Direction),
    Rest,
    Unknown,
}

/// A value, where there is one, and the time of the reading it was last made from.
type Known = Option<(f32, i64)>;

/// The sessions of one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Track {
    running: Option<Box<Running>>,
    /// The last that ended. It changes no more, and is shared between the states that know it.
    last: Option<Arc<[Known]>>,
    ledgers: Option<Arc<Vec<Ledger>>>,
}

#[derive(Debug, Clone)]
struct Running {
    start_us: i64,
    /// The latest reading with load.
    load_us: i64,
    charge_start: f32,
    charge_end: f32,
    rested: bool,
    accs: Vec<Acc>,
}

/// Values of full sessions: the first, and the latest.
#[derive(Debug, Clone, Default)]
struct Ledger {
    new: Vec<f32>,
    recent: VecDeque<f32>,
    newest_us: i64,
}

/// A reading, as sessions see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) time_us: i64,
    pub(super) activity: Activity,
    /// State of charge, percent; NaN where it is not known.
    pub(super) charge: f32,
    pub(super) values: &'a [f32],
}

// === impl Track ===

impl Track {
    /// Takes a reading that is later than all before it.
    pub(super) fn fold(&mut self, program: &Program, direction: Direction, moment: Moment<'_>) {
        let sessions = &program.sessions[direction.index()];
        if self.running.as_ref().is_some_and(|running| moment.time_us - running.load_us > program.end_after_us) {
            self.end(program, sessions);
        }
        if moment.activity == Activity::Load(direction) {
            let running = self.running.get_or_insert_with(|| Box::new(Running::begin(moment, sessions.specs.len())));
            running.load(sessions, moment);
        } else if let (Activity::Rest, Some(running)) = (moment.activity, &mut self.running) {
            running.fold(sessions, Part::Rest, moment);
            running.rested = true;
        }
    }

    /// Whether load has lasted for long enough to be a session.
    pub(super) fn counts(&self, program: &Program) -> bool {
        self.running.as_ref().is_some_and(|running| running.counts(program))
    }

    /// Ends the session that is running. One that was too short leaves no trace.
    pub(super) fn end(&mut self, program: &Program, sessions: &SessionProgram) {
        let Some(running) = self.running.take().filter(|running| running.counts(program)) else { return };
        self.last = Some((0..sessions.specs.len()).map(|state| running.value(sessions, state)).collect());
        if sessions.compared.is_empty() || !running.is_full(program) {
            return;
        }
        let ledgers = Arc::make_mut(self.ledgers.get_or_insert_default());
        ledgers.resize_with(sessions.compared.len(), Ledger::default);
        for (ledger, state) in ledgers.iter_mut().zip(&sessions.compared) {
            if let Some((value, _)) = running.value(sessions, usize::from(*state)) {
                ledger.push(value, running.load_us);
            }
        }
    }

    /// A value of the session that is running, once it counts, and the time of the reading it was last made from.
    pub(super) fn running_value(&self, program: &Program, sessions: &SessionProgram, state: u16) -> Option<(f32, i64)> {
        let running = self.running.as_ref().filter(|running| running.counts(program))?;
        running.value(sessions, usize::from(state))
    }

    /// The same of the last one that ended.
    pub(super) fn last_value(&self, state: u16) -> Option<(f32, i64)> {
        self.last.as_ref()?.get(usize::from(state)).copied().flatten()
    }

    /// Whether one has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.last.is_some()
    }

    /// The median of the latest full sessions over that of the first.
    pub(super) fn over_new(&self, ledger: u16) -> Option<(f32, i64)> {
        self.ledgers.as_ref()?.get(usize::from(ledger))?.over_new()
    }
}

// === impl Running ===

impl Running {
    fn begin(moment: Moment<'_>, states: usize) -> Running {
        Running {
            start_us: moment.time_us,
            load_us: moment.time_us,
            charge_start: moment.charge,
            charge_end: moment.charge,
            rested: false,
            accs: vec![Acc::EMPTY; states],
        }
    }

    fn load(&mut self, sessions: &SessionProgram, moment: Moment<'_>) {
        if self.rested {
            // The load came back: what was seen in between was a pause.
            for (acc, _) in self.accs.iter_mut().zip(&sessions.specs).filter(|(_, spec)| spec.during == Part::Rest) {
                *acc = Acc::EMPTY;
            }
            self.rested = false;
        }
        self.load_us = moment.time_us;
        self.charge_end = moment.charge;
        if self.charge_start.is_nan() {
            self.charge_start = moment.charge;
        }
        self.fold(sessions, Part::Load, moment);
    }

    fn fold(&mut self, sessions: &SessionProgram, part: Part, moment: Moment<'_>) {
        for (acc, spec) in self.accs.iter_mut().zip(&sessions.specs).filter(|(_, spec)| spec.during == part) {
            let value = moment.values[usize::from(spec.slot)];
            if !value.is_nan() {
                acc.fold(spec.aggregate, moment.time_us, value);
            }
        }
    }

    fn counts(&self, program: &Program) -> bool {
        self.load_us - self.start_us >= program.duration_min_us
    }

    fn is_full(&self, program: &Program) -> bool {
        let (low, high) = program.full_percent;
        let (less, more) = (self.charge_start.min(self.charge_end), self.charge_start.max(self.charge_end));
        less <= low && more >= high
    }

    fn value(&self, sessions: &SessionProgram, state: usize) -> Option<(f32, i64)> {
        let (acc, spec) = (self.accs.get(state)?, sessions.specs.get(state)?);
        Some((acc.value(spec.aggregate)?, acc.newest_us()?))
    }
}

// === impl Ledger ===

impl Ledger {
    fn push(&mut self, value: f32, time_us: i64) {
        if self.new.len() < NEW_MAX {
            self.new.push(value);
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(value);
        self.newest_us = time_us;
    }

    fn over_new(&self) -> Option<(f32, i64)> {
        if self.new.len() < NEW_MAX {
            return None;
        }
        let ratio = median(self.recent.iter().copied()) / median(self.new[NEW_MIN..].iter().copied());
        ratio.is_finite().then_some((ratio, self.newest_us))
    }
}

/// Of at least one value.
fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut values: Vec<f32> = values.collect();
    values.sort_unstable_by(f32::total_cmp);
    let (Some(low), Some(high)) = (values.get(values.len().saturating_sub(1) / 2), values.get(values.len() / 2)) else {
        return f32::NAN;
    };
    f32::midpoint(*low, *high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_compares_the_latest_with_the_first() {
        let mut ledger = Ledger::default();
        for session in 1..=44u8 {
            ledger.push(if session < 6 { 500.0 } else { 100.0 }, 0);
            assert_eq!(ledger.over_new(), None);
        }
        ledger.push(100.0, 1);
        assert_eq!(ledger.over_new(), Some((1.0, 1)));
        (0..7).for_each(|_| ledger.push(80.0, 2));
        assert_eq!(ledger.over_new(), Some((1.0, 2)));
        ledger.push(80.0, 3);
        assert_eq!(ledger.over_new(), Some((0.8, 3)));
        (0..1000).for_each(|_| ledger.push(60.0, 4));
        assert_eq!(ledger.over_new(), Some((0.6, 4)));
        assert_eq!((ledger.new.len(), ledger.recent.len()), (NEW_MAX, RECENT));
    }

    #[test]
    fn the_median_of_an_even_number_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }
}
