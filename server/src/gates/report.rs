//! Results as the registry keeps them.

use ev_gates::{Gate, GateResult, State};
use ev_registry::AuditEntry;
use serde_json::{Value, json};

/// Longest texts of results that are tried, in bytes. Of the last, a report fits whatever its texts are made of: JSON
/// makes at most six bytes of one.
const TEXT_MAX_BYTES: [usize; 4] = [400, 200, 100, 40];
/// Bytes of a report, with room for what an entry holds beside it.
const REPORT_MAX_BYTES: usize = AuditEntry::MAX_DETAIL_BYTES - 100;

/// As much of each text as there is room for.
pub(super) fn write(results: &[GateResult]) -> Value {
    let mut written = TEXT_MAX_BYTES.iter().map(|max| clipped(results, *max));
    written.find(|report| report.to_string().len() <= REPORT_MAX_BYTES).unwrap_or_default()
}

fn clipped(results: &[GateResult], max: usize) -> Value {
    let clip = |text: &str| clip(text, max);
    let of = |result: &GateResult| {
        let GateResult { gate, state, measured, required, remedy, waiver: _ } = result;
        json!({
            "gate": gate.name(),
            "state": state.name(),
            "measured": clip(measured),
            "required": clip(required),
            "remedy": clip(remedy),
        })
    };
    results.iter().map(of).collect()
}

/// None when they are not what this release writes.
pub(super) fn read(report: &Value) -> Option<Vec<GateResult>> {
    let of = |result: &Value| {
        let text = |key: &str| result.get(key).and_then(Value::as_str).map(str::to_owned);
        let state = text("state")?;
        Some(GateResult {
            gate: text("gate")?.parse::<Gate>().ok()?,
            state: [State::Passed, State::Failed, State::NotApplicable]
                .into_iter()
                .find(|known| known.name() == state)?,
            measured: text("measured")?,
            required: text("required")?,
            remedy: text("remedy")?,
            waiver: String::new(),
        })
    };
    report.as_array()?.iter().map(of).collect()
}

fn clip(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(gate: Gate, state: State, text: &str) -> GateResult {
        let (measured, required, remedy) = (text.to_owned(), text.to_owned(), text.to_owned());
        GateResult { gate, state, measured, required, remedy, waiver: String::new() }
    }

    #[test]
    fn results_are_read_back() {
        let results: Vec<GateResult> = Gate::ALL.into_iter().map(|gate| result(gate, State::Failed, "é")).collect();
        assert_eq!(read(&write(&results)), Some(results));
        assert_eq!(read(&json!([{"gate": "of another release"}])), None);
        assert_eq!(read(&json!("nothing")), None);
    }

    #[test]
    fn the_longest_report_fits_into_an_entry() {
        for letter in ["a", "\u{2264}", "\"", "\u{1}"] {
            let long = letter.repeat(10_000);
            let results: Vec<GateResult> =
                Gate::ALL.into_iter().map(|gate| result(gate, State::NotApplicable, &long)).collect();
            let report = write(&results);
            assert!(report.to_string().len() <= REPORT_MAX_BYTES, "{letter:?}");
            let read = read(&report).expect("a report");
            assert!(read.len() == Gate::ALL.len() && read[0].measured.starts_with(letter), "{letter:?}");
        }
    }
}
