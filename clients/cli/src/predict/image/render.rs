//! What the vehicle is taken for, for a person.

use std::fmt::Write as _;

use ev_client::proto::ev::{
    common::v1::ModelVersion,
    vision::v1::{Candidate, ClassifyResponse, ImageInfo, TypicalRange},
};

use super::{
    super::info::{model_text, show_photo_info},
    photo::Photo,
};
use crate::{
    interval::{self, number, share_bar_of},
    models::size_text,
    style::{BOLD, DIM, PLAIN, WARN},
    table::{Cell, Listing, Table},
};

/// Cells of a bar on a terminal; on a narrower one there is none.
const BAR_MIN: usize = 6;
const BAR_MAX: usize = 48;
/// Characters of a name that are shown: some data sets name a class by all its synonyms.
const NAME_MAX: usize = 48;

/// Answers to many photos.
#[derive(Debug, Default)]
pub(super) struct Gallery {
    rows: Vec<Row>,
    models: Vec<ModelVersion>,
}

/// A candidate for a photo.
#[derive(Debug)]
struct Row {
    /// The photo's name; empty below the first candidate, and where there is one photo only.
    photo: String,
    candidate: Candidate,
    /// Whether it is the best guess for a vehicle that the model does not know.
    unknown: bool,
}

/// The answer to one photo.
pub(super) fn single(photo: &Photo, response: &ClassifyResponse, columns: Option<usize>) -> String {
    let ClassifyResponse { candidates, unknown, image, info } = response;
    let rows: Vec<Row> = candidates.iter().map(|candidate| Row::new("", candidate, false)).collect();
    let mut text = table(&rows, columns);
    if *unknown && let Some(best) = candidates.first() {
        let (name, percent) = (name_of(best), best.probability * 100.0);
        let _ = writeln!(
            text,
            "\n{WARN}the model does not know this vehicle:{WARN:#} its best guess is {name}, at {percent:.1} %; \
             perhaps it is of another model line, or there is none on the photo"
        );
    }
    text.push_str(&footnote(&rows));
    let mut listing = Listing::default();
    let size = size_text(photo.bytes.len() as u64);
    let what =
        image.as_ref().map(|ImageInfo { format, width, height }| format!("{format}, {width} x {height} pixels, "));
    listing.line("photo", format!("{} {DIM}({}{size}){DIM:#}", photo.name, what.unwrap_or_default()));
    show_photo_info(&mut listing, info.as_ref());
    format!("{text}\n{}", listing.render())
}

/// A line for each candidate; the bar takes what room the terminal has.
fn table(rows: &[Row], columns: Option<usize>) -> String {
    let width = match columns {
        None => interval::WIDTH,
        Some(columns) => match columns.saturating_sub(lay_out(rows, 0).width()) {
            0..BAR_MIN => 0,
            room => room.min(BAR_MAX),
        },
    };
    lay_out(rows, width).render()
}

fn lay_out(rows: &[Row], bar: usize) -> Table {
    let with_photos = rows.iter().any(|row| !row.photo.is_empty());
    let with_names = rows.iter().any(|row| is_named(&row.candidate));
    let with_ranges = rows.iter().any(|row| row.candidate.typical_range.is_some());
    let mut header = Vec::new();
    if with_photos {
        header.push("photo");
    }
    header.extend_from_slice(if with_names { &["make", "model"] } else { &["label"] });
    header.push("probability");
    if with_ranges {
        header.push("typical range");
    }
    let mut table = Table::with_header(&header);
    for Row { photo, candidate, unknown } in rows {
        let Candidate { label, probability, make, model, typical_range } = candidate;
        let mut cells = Vec::new();
        if with_photos {
            cells.push(Cell::from(photo.as_str()));
        }
        let name = |text: &str| Cell::styled(short(text), if *unknown { WARN } else { PLAIN });
        if with_names {
            cells.push(name(make));
        }
        // What the model states neither for is shown by its label.
        cells.push(name(if is_named(candidate) { model } else { label }));
        cells.push(share(*probability, bar, *unknown).into());
        if with_ranges {
            cells.push(typical_range.as_ref().map(range_text).unwrap_or_default().into());
        }
        table.push(cells);
    }
    table
}

fn share(probability: f32, bar: usize, unknown: bool) -> String {
    let mut text = format!("{:5.1} %", probability * 100.0);
    if bar > 0 {
        let _ = write!(text, "  {}", share_bar_of(bar, probability));
    }
    if unknown {
        let _ = write!(text, "  {WARN}unknown{WARN:#}");
    }
    text
}

fn range_text(TypicalRange { low_km, median_km, high_km, source: _ }: &TypicalRange) -> String {
    if low_km == high_km {
        return format!("{} km", number(*median_km));
    }
    format!("{} to {} km, median {}", number(*low_km), number(*high_km), number(*median_km))
}

/// Where the ranges come from.
fn footnote(rows: &[Row]) -> String {
    let mut sources: Vec<&str> = Vec::new();
    for range in rows.iter().filter_map(|row| row.candidate.typical_range.as_ref()) {
        if !sources.contains(&range.source.as_str()) {
            sources.push(&range.source);
        }
    }
    if sources.is_empty() {
        return String::new();
    }
    let sources = sources.join("; ");
    format!(
        "\n{DIM}typical range: of the model line's variants, not a prediction for this vehicle; from {sources}{DIM:#}\n"
    )
}

fn is_named(candidate: &Candidate) -> bool {
    !(candidate.make.is_empty() && candidate.model.is_empty())
}

fn name_of(candidate: &Candidate) -> String {
    let Candidate { label, make, model, .. } = candidate;
    let name = if is_named(candidate) { format!("{make} {model}") } else { label.clone() };
    format!("{BOLD}{}{BOLD:#}", short(name.trim()))
}

/// A name from a model, which may be anything: without control characters, and not too long.
fn short(name: &str) -> String {
    let mut letters = name.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut short: String = letters.by_ref().take(NAME_MAX).collect();
    if letters.next().is_some() {
        short.push('…');
    }
    short
}

// === impl Row ===

impl Row {
    fn new(photo: &str, candidate: &Candidate, unknown: bool) -> Row {
        Row { photo: photo.to_owned(), candidate: candidate.clone(), unknown }
    }
}

// === impl Gallery ===

impl Gallery {
    /// Adds the likeliest candidates of a photo.
    pub(super) fn add(&mut self, photo: String, response: ClassifyResponse, shown: usize) {
        let ClassifyResponse { candidates, unknown, image: _, info } = response;
        for (place, candidate) in candidates.iter().take(shown).enumerate() {
            let first = place == 0;
            self.rows.push(Row::new(if first { &photo } else { "" }, candidate, unknown && first));
        }
        if let Some(model) = info.and_then(|info| info.model)
            && !self.models.contains(&model)
        {
            self.models.push(model);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn render(&self, columns: Option<usize>) -> String {
        let mut text = table(&self.rows, columns);
        if self.rows.iter().any(|row| row.unknown) {
            let _ = writeln!(
                text,
                "\n{WARN}unknown:{WARN:#} the model does not know the vehicle; what is shown is its best guess"
            );
        }
        text.push_str(&footnote(&self.rows));
        let mut listing = Listing::default();
        for model in &self.models {
            listing.line("model", model_text(model));
        }
        format!("{text}\n{}", listing.render())
    }
}
