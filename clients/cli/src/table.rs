//! Aligned columns, and lists of names with values.

use std::fmt::Write as _;

use anstream::adapter::strip_str;
use anstyle::Style;

use crate::style::{BOLD, DIM, PLAIN};

const GAP: &str = "   ";

/// One cell.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

/// Rows under a header, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

/// Names and values, one a line.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    lines: Vec<(String, String)>,
}

// === impl Cell ===

impl Cell {
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Cell {
        Cell { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::styled(text, PLAIN)
    }
}

// === impl Table ===

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Table {
        Table::with_header(&header)
    }

    /// As [`Table::new`], with columns that are chosen as it is made.
    pub(crate) fn with_header(header: &[&str]) -> Table {
        Table { rows: vec![header.iter().map(|name| Cell::styled(name.to_uppercase(), BOLD)).collect()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.push(cells.to_vec());
    }

    /// As [`Table::row`].
    pub(crate) fn push(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The widest line, in characters.
    pub(crate) fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
    }

    pub(crate) fn render(&self) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let Cell { text, style } = cell;
                let last = row[column + 1..].iter().all(|cell| cell.text.is_empty());
                let pad = if last { 0 } else { widths[column] - width_of(cell) };
                let gap = if last { "" } else { GAP };
                let _ = write!(line, "{style}{text}{style:#}{:pad$}{gap}", "");
                if last {
                    break;
                }
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cells = |column| self.rows.iter().filter_map(move |row| row.get(column));
        (0..columns).map(|column| cells(column).map(width_of).max().unwrap_or(0)).collect()
    }
}

fn width_of(cell: &Cell) -> usize {
    visible(&cell.text)
}

/// Characters that are seen: colours are not.
fn visible(text: &str) -> usize {
    strip_str(text).map(|part| part.chars().count()).sum()
}

/// The first characters of a text, and a sign that there are more.
pub(crate) fn clip(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

// === impl Listing ===

impl Listing {
    pub(crate) fn line(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.lines.push((name.into(), value.into()));
    }

    pub(crate) fn render(&self) -> String {
        let width = self.lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        self.lines.iter().fold(String::new(), |mut text, (name, value)| {
            let pad = width - name.chars().count();
            let _ = writeln!(text, "{DIM}{name}{DIM:#}{:pad$}{GAP}{value}", "");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::ACCENT;

    #[test]
    fn columns_are_aligned_and_lines_end_where_they_end() {
        let mut table = Table::new(["name", "state", "note"]);
        table.row(["ev-range".into(), Cell::styled("READY", PLAIN), "".into()]);
        table.row(["x".into(), format!("{ACCENT}F{ACCENT:#}").into(), "späte Notiz".into()]);
        assert_eq!(table.width(), "ev-range   READY   späte Notiz".chars().count());
        assert_eq!(
            strip_str(&table.render()).to_string(),
            "NAME       STATE   NOTE\nev-range   READY\nx          F       späte Notiz\n"
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(clip(&"é".repeat(61), 60), format!("{}…", "é".repeat(60)));
        assert_eq!(clip(&"é".repeat(60), 60), "é".repeat(60));
    }

    #[test]
    fn listings_are_aligned() {
        let mut listing = Listing::default();
        listing.line("model", "a");
        listing.line("id", "b");
        assert_eq!(strip_str(&listing.render()).to_string(), "model   a\nid      b\n");
    }
}
