//! An interval as a small bar.

use crate::style::{ACCENT, DIM};

/// Cells of a bar, unless it is told otherwise.
pub(crate) const WIDTH: usize = 32;

/// An answer's interval in its unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    pub(crate) q10: f32,
    pub(crate) q50: f32,
    pub(crate) q90: f32,
}

// === impl Interval ===

impl Interval {
    /// The interval on a line that begins at zero, so that its length shows how uncertain the answer is.
    pub(crate) fn bar(self) -> String {
        let start = self.q10.min(0.0);
        let end = self.q90.max(0.0);
        let margin = (end - start) * 0.1;
        let (start, end) = (if start < 0.0 { start - margin } else { start }, end + margin);
        let place = |value: f32| {
            let share = if end > start { (value - start) / (end - start) } else { 0.0 };
            (0..WIDTH).find(|cell| cell_end(*cell) > share).unwrap_or(WIDTH - 1)
        };
        let (low, middle, high) = (place(self.q10), place(self.q50), place(self.q90));
        let cells: String = (0..WIDTH)
            .map(|cell| match cell {
                _ if cell == middle => format!("{ACCENT}●{ACCENT:#}"),
                _ if cell == low => format!("{ACCENT}├{ACCENT:#}"),
                _ if cell == high => format!("{ACCENT}┤{ACCENT:#}"),
                _ if cell > low && cell < high => format!("{ACCENT}─{ACCENT:#}"),
                _ => format!("{DIM}·{DIM:#}"),
            })
            .collect();
        cells
    }
}

fn cell_end(cell: usize) -> f32 {
    to_f32(cell + 1) / to_f32(WIDTH)
}

#[expect(clippy::cast_precision_loss, reason = "columns of a terminal")]
fn to_f32(cells: usize) -> f32 {
    cells as f32
}

/// A probability as a bar.
pub(crate) fn share_bar(probability: f32) -> String {
    share_bar_of(WIDTH, probability)
}

/// A probability as a bar of so many cells.
pub(crate) fn share_bar_of(width: usize, probability: f32) -> String {
    // To the nearest cell; what is not a number fills none.
    let full = (1..=width).filter(|cell| to_f32(2 * cell - 1) <= probability * to_f32(2 * width)).count();
    format!("{ACCENT}{}{ACCENT:#}{DIM}{}{DIM:#}", "█".repeat(full), "·".repeat(width - full))
}

/// A number with the digits a person reads: three significant ones, or all before the point.
pub(crate) fn number(value: f32) -> String {
    let size = value.abs();
    match size {
        _ if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 0.1 => format!("{value:.2}"),
        _ if size >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:e}"),
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    fn bar(q10: f32, q50: f32, q90: f32) -> String {
        strip_str(&Interval { q10, q50, q90 }.bar()).to_string()
    }

    #[test]
    fn bars_show_position_and_length() {
        assert_eq!(bar(250.0, 314.0, 371.0), "···················├────●────┤··");
        assert_eq!(bar(0.0, 1.0, 20.0), "├●───────────────────────────┤··");
        assert_eq!(bar(-10.0, 0.0, 10.0), "··├─────────────●────────────┤··");
    }

    #[test]
    fn odd_intervals_do_not_break_the_bar() {
        for (q10, q50, q90) in [(0.0, 0.0, 0.0), (5.0, 5.0, 5.0), (f32::NAN, 1.0, 2.0), (1.0, f32::INFINITY, 2.0)] {
            assert_eq!(bar(q10, q50, q90).chars().count(), WIDTH);
        }
    }

    #[test]
    fn shares_fill_bars() {
        for (width, probability, full) in
            [(32, 0.0, 0), (32, 1.0, 32), (32, 0.5, 16), (10, 0.04, 0), (10, 0.06, 1), (8, f32::NAN, 0), (8, 2.0, 8)]
        {
            let bar = strip_str(&share_bar_of(width, probability)).to_string();
            assert_eq!((bar.chars().count(), bar.matches('█').count()), (width, full), "{probability}");
        }
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in
            [(250.44, "250"), (25.044, "25.0"), (2.5044, "2.50"), (0.025_044, "0.0250"), (0.0, "0"), (-12.34, "-12.3")]
        {
            assert_eq!(number(value), text);
        }
    }
}
