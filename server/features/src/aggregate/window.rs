//! A stretch of time up to the latest value, in steps.

use super::acc::{Acc, Aggregate};

/// Steps of a window. It covers the step of the latest value and the nine before it: between nine and ten tenths of its
/// length. Bounded memory costs that tenth.
const STEPS: i64 = 10;

/// What a window keeps of which signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct WindowSpec {
    pub(super) slot: u16,
    aggregate: Aggregate,
    step_us: i64,
}

/// The values of one signal in one window.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// The step of the latest value; steps are counted from 1970.
    newest: i64,
    /// Each at its number modulo their number. Empty until there is a value.
    steps: Vec<Acc>,
}

// === impl WindowSpec ===

impl WindowSpec {
    pub(super) fn new(slot: u16, aggregate: Aggregate, window_us: i64) -> WindowSpec {
        WindowSpec { slot, aggregate, step_us: (window_us / STEPS).max(1) }
    }
}

// === impl Window ===

impl Window {
    pub(super) const EMPTY: Window = Window { newest: i64::MIN, steps: Vec::new() };

    /// Takes a value that is later than all before it.
    #[inline]
    pub(super) fn fold(&mut self, spec: &WindowSpec, time_us: i64, value: f32) {
        let step = time_us.div_euclid(spec.step_us);
        if step != self.newest {
            self.move_on(step);
        }
        self.steps[place(step)].fold(spec.aggregate, time_us, value);
    }

    /// The aggregate, and the time of the latest value.
    pub(super) fn value(&self, spec: &WindowSpec) -> Option<(f32, i64)> {
        if self.steps.is_empty() {
            return None;
        }
        let mut whole = Acc::EMPTY;
        for step in (0..STEPS).rev() {
            whole.join(spec.aggregate, &self.steps[place(self.newest - step)]);
        }
        Some((whole.value(spec.aggregate)?, whole.newest_us()?))
    }

    #[cold]
    fn move_on(&mut self, step: i64) {
        if self.steps.is_empty() {
            self.steps = vec![Acc::EMPTY; place(-1) + 1];
        } else if step - self.newest < STEPS {
            (self.newest + 1..=step).for_each(|passed| self.steps[place(passed)] = Acc::EMPTY);
        } else {
            self.steps.fill(Acc::EMPTY);
        }
        self.newest = step;
    }
}

fn place(step: i64) -> usize {
    usize::try_from(step.rem_euclid(STEPS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_what_is_older() {
        let spec = WindowSpec::new(0, Aggregate::Max, 10_000_000);
        let mut window = Window::EMPTY;
        assert_eq!(window.value(&spec), None);
        let mut check = |second: i64, value: f32, expected: f32| {
            window.fold(&spec, second * 1_000_000, value);
            assert_eq!(window.value(&spec), Some((expected, second * 1_000_000)), "at {second}");
        };
        check(-3, 9.0, 9.0);
        check(0, 5.0, 9.0);
        check(6, 4.0, 9.0);
        check(7, 3.0, 5.0);
        check(10, 2.0, 4.0);
        check(19, 1.0, 2.0);
        check(1000, 0.5, 0.5);
    }
}
