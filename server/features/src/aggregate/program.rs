//! What views need, laid out for folding: which signals, and what is kept of each.

use ev_domain::{SignalId, signals};

use super::{acc::Aggregate, micros, window::WindowSpec};
use crate::views::{Part, SessionSettings, ViewId};

/// What a session does to the battery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Discharge,
    Charge,
}

/// Where a feature's value is found after folding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nowhere.
    None,
    /// The latest value of this slot.
    Latest(u16),
    /// This window.
    Window(u16),
    /// This state of the session that is running.
    Running(Direction, u16),
    /// The same of the last one that has ended.
    Last(Direction, u16),
    /// This comparison of sessions with those when new.
    OverNew(Direction, u16),
}

/// What a feature keeps of a session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SessionSpec {
    pub(crate) slot: u16,
    pub(crate) aggregate: Aggregate,
    pub(crate) during: Part,
    pub(crate) over_new: bool,
}

/// Of all sessions of one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct SessionProgram {
    /// States to keep; `over_new` is false in all of them.
    pub(super) specs: Vec<SessionSpec>,
    /// States of which a history of values is kept.
    pub(super) compared: Vec<u16>,
}

/// Everything that is folded, for all views together.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The slot of a signal, by its index; a slot is its place in a reading's row of values.
    slots: Vec<Option<u16>>,
    pub(super) stride: usize,
    pub(super) windows: Vec<WindowSpec>,
    pub(super) sessions: [SessionProgram; 2],
    /// The views that are computed, with the source of each of their features.
    pub(super) outputs: Vec<(ViewId, Vec<Source>)>,
    pub(super) current: u16,
    pub(super) charging: u16,
    pub(super) charge: u16,
    pub(super) current_min_a: f32,
    pub(super) duration_min_us: i64,
    pub(super) end_after_us: i64,
    pub(super) signal_age_max_us: i64,
    pub(super) full_percent: (f32, f32),
}

/// Makes a [`Program`], view by view; what several features need is kept once.
pub(crate) struct ProgramBuilder {
    program: Program,
    gap_us: i64,
}

// === impl Direction ===

impl Direction {
    pub(super) const ALL: [Direction; 2] = [Direction::Discharge, Direction::Charge];

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

// === impl Program ===

impl Program {
    /// Where a signal's values are in a reading's row; none if no view needs it.
    pub(super) fn slot(&self, signal: SignalId) -> Option<usize> {
        self.slots.get(signal.index()).copied().flatten().map(usize::from)
    }

    pub(super) fn has_sessions(&self) -> bool {
        self.sessions.iter().any(|sessions| !sessions.specs.is_empty())
    }
}

// === impl ProgramBuilder ===

impl ProgramBuilder {
    pub(crate) fn new(settings: &SessionSettings) -> ProgramBuilder {
        let program = Program {
            slots: Vec::new(),
            stride: 0,
            windows: Vec::new(),
            sessions: Default::default(),
            outputs: Vec::new(),
            current: 0,
            charging: 0,
            charge: 0,
            current_min_a: settings.current_min_a,
            duration_min_us: micros(settings.duration_min),
            end_after_us: micros(settings.end_after),
            signal_age_max_us: micros(settings.signal_age_max),
            full_percent: (settings.full_low_percent, settings.full_high_percent),
        };
        let mut builder = ProgramBuilder { program, gap_us: micros(settings.gap_max) };
        builder.program.current = builder.slot(signals::PACK_CURRENT);
        builder.program.charging = builder.slot(signals::IS_CHARGING);
        builder.program.charge = builder.slot(signals::STATE_OF_CHARGE);
        builder
    }

    pub(crate) fn gap_us(&self) -> i64 {
        self.gap_us
    }

    pub(crate) fn slot(&mut self, signal: SignalId) -> u16 {
        let Program { slots, stride, .. } = &mut self.program;
        if slots.len() <= signal.index() {
            slots.resize(signal.index() + 1, None);
        }
        *slots[signal.index()].get_or_insert_with(|| {
            let slot = place(*stride);
            *stride += 1;
            slot
        })
    }

    pub(crate) fn latest(&mut self, signal: SignalId) -> Source {
        Source::Latest(self.slot(signal))
    }

    pub(crate) fn window(&mut self, signal: SignalId, aggregate: Aggregate, window_us: i64) -> Source {
        let spec = WindowSpec::new(self.slot(signal), aggregate, window_us);
        Source::Window(find_or_push(&mut self.program.windows, spec))
    }

    pub(crate) fn session(&mut self, direction: Direction, running: bool, spec: SessionSpec) -> Source {
        let SessionProgram { specs, compared } = &mut self.program.sessions[direction.index()];
        let state = find_or_push(specs, SessionSpec { over_new: false, ..spec });
        match (spec.over_new, running) {
            (true, _) => Source::OverNew(direction, find_or_push(compared, state)),
            (false, true) => Source::Running(direction, state),
            (false, false) => Source::Last(direction, state),
        }
    }

    pub(crate) fn view(&mut self, view: ViewId, sources: Vec<Source>) {
        self.program.outputs.push((view, sources));
    }

    pub(crate) fn finish(self) -> Program {
        self.program
    }
}

fn find_or_push<T: PartialEq>(list: &mut Vec<T>, item: T) -> u16 {
    match list.iter().position(|found| *found == item) {
        Some(found) => place(found),
        None => {
            list.push(item);
            place(list.len() - 1)
        }
    }
}

/// There are at most 64 views of 256 features.
fn place(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
