//! Two versions' answers to golden requests, as `evctl models diff` shows them.

use ev_client::{
    Client, Code, Error, VersionRef,
    proto::ev::registry::v1::{CompareVersionsResponse, ComparedAnswer, ComparedKind, ComparedRow, ComparedVersion},
};
use serde_json::{Map, Value};

use crate::{
    failure::Failure,
    style::{BAD, BOLD, DIM, WARN, harmless},
    table::{Cell, Table},
};

/// Rows that a table shows; JSON output has all.
const ROWS_SHOWN: usize = 20;
/// Characters of a request that a table shows.
const REQUEST_CHARACTERS: usize = 48;

/// Both versions' answers, or why they are not compared.
pub(super) type Answers = Result<CompareVersionsResponse, String>;

/// Asks the server. What can be said without answers is worth saying, so that versions which do not compare are no error.
pub(super) async fn ask(client: &Client, left: VersionRef, right: VersionRef) -> Result<Answers, Failure> {
    match client.registry().compare_versions(left, right, 0).await {
        Ok(answers) => Ok(Ok(answers)),
        Err(Error::Call(call)) if call.code == Code::FailedPrecondition => Ok(Err(call.message)),
        Err(Error::Call(call)) if call.code == Code::Unimplemented => {
            Ok(Err("the server is older than this evctl, and cannot compare answers".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The rows that differ most, and what all of them come to.
pub(super) fn render(answers: &CompareVersionsResponse) -> String {
    let name = |version: &Option<ComparedVersion>| {
        let version = version.clone().unwrap_or_default();
        format!("{}:{}", version.model, version.version)
    };
    let mut table = Table::with_header(&["golden request", &name(&answers.left), &name(&answers.right), "difference"]);
    let mut rows: Vec<&ComparedRow> = answers.rows.iter().collect();
    rows.sort_by(|one, other| size(other).total_cmp(&size(one)));
    let kind = answers.kind();
    for row in rows.iter().take(ROWS_SHOWN) {
        let is_other_class = likeliest(&row.left) != likeliest(&row.right);
        let is_different = row.difference.is_none_or(|difference| difference != 0.0);
        let style = match (is_other_class, is_different) {
            (true, _) => BAD,
            (false, true) => WARN,
            (false, false) => DIM,
        };
        table.row([
            Cell::styled(request_text(&row.request_json), DIM),
            answer_text(kind, &row.left).into(),
            Cell::styled(answer_text(kind, &row.right), style),
            difference_text(row, &answers.unit).into(),
        ]);
    }
    let mut text = table.render();
    let hidden = answers.rows.len().saturating_sub(ROWS_SHOWN);
    if hidden > 0 {
        text.push_str(&format!("{DIM}and {hidden} that differ less; -o json has all{DIM:#}\n"));
    }
    text.push_str(&summary(answers));
    text
}

fn summary(answers: &CompareVersionsResponse) -> String {
    let CompareVersionsResponse { compared, difference_median, difference_max, unit, class_changes, left_out, .. } =
        answers;
    let mut text = format!("{BOLD}{compared} golden requests{BOLD:#}");
    if let (Some(median), Some(max)) = (difference_median, difference_max) {
        let [median, max] = [median, max].map(|value| with_unit(&number(*value), unit));
        text.push_str(&format!(": largest difference {BOLD}{max}{BOLD:#}, median {BOLD}{median}{BOLD:#}"));
    }
    if answers.kind() == ComparedKind::Classes {
        let style = if *class_changes > 0 { BAD } else { DIM };
        text.push_str(&format!(", {style}{class_changes} with another likeliest class{style:#}"));
    }
    let unanswered = answers.rows.len().saturating_sub(usize::try_from(*compared).unwrap_or(usize::MAX));
    if unanswered > 0 {
        text.push_str(&format!(", {WARN}{unanswered} without an answer of both{WARN:#}"));
    }
    if *left_out > 0 {
        text.push_str(&format!(", {DIM}{left_out} not asked{DIM:#}"));
    }
    text.push('\n');
    text
}

/// By which rows are sorted: those without an answer of both first.
fn size(row: &ComparedRow) -> f64 {
    row.difference.map_or(f64::INFINITY, f64::abs)
}

fn likeliest(answer: &Option<ComparedAnswer>) -> &str {
    answer.as_ref().map_or("", |answer| answer.likeliest_class.as_str())
}

fn answer_text(kind: ComparedKind, answer: &Option<ComparedAnswer>) -> String {
    let Some(ComparedAnswer { values, likeliest_class, out_of_distribution, problem }) = answer else {
        return String::new();
    };
    let mut text = match (kind, values.as_slice()) {
        (_, []) => clipped(problem, REQUEST_CHARACTERS),
        (ComparedKind::Quantiles, [q10, q50, q90]) => {
            format!("{} ({} to {})", number(*q50), number(*q10), number(*q90))
        }
        (ComparedKind::Classes, values) => {
            let probability = values.iter().copied().fold(0.0, f64::max);
            format!("{likeliest_class} {probability:.3}")
        }
        (_, values) if values.len() > 4 => format!("{} values", values.len()),
        (_, values) => values.iter().map(|value| number(*value)).collect::<Vec<_>>().join(", "),
    };
    if !out_of_distribution.is_empty() {
        text.push('?');
    }
    text
}

fn difference_text(row: &ComparedRow, unit: &str) -> String {
    row.difference.map_or_else(String::new, |difference| {
        let sign = if difference > 0.0 { "+" } else { "" };
        with_unit(&format!("{sign}{}", number(difference)), unit)
    })
}

fn with_unit(number: &str, unit: &str) -> String {
    match unit {
        "" | "probability" => number.to_owned(),
        unit => format!("{number} {unit}"),
    }
}

/// As many digits as matter.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// A request on one line: `battery_capacity_kwh=60, make=Tesla`.
fn request_text(request_json: &str) -> String {
    let Ok(inputs) = serde_json::from_str::<Map<String, Value>>(request_json) else {
        return clipped(request_json, REQUEST_CHARACTERS);
    };
    let value = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("{} values", values.len()),
        other => other.to_string(),
    };
    let inputs: Vec<String> = inputs.iter().map(|(name, input)| format!("{name}={}", value(input))).collect();
    clipped(&inputs.join(", "), REQUEST_CHARACTERS)
}

fn clipped(text: &str, characters: usize) -> String {
    let text = harmless(text);
    if text.chars().count() <= characters {
        return text;
    }
    text.chars().take(characters - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    fn row(request: &str, left: &[f64], right: &[f64], difference: Option<f64>) -> ComparedRow {
        let answer = |values: &[f64]| {
            let problem = if values.is_empty() { "`seats` is not an input of the model" } else { "" };
            Some(ComparedAnswer { values: values.to_vec(), problem: problem.to_owned(), ..Default::default() })
        };
        ComparedRow {
            request_json: request.to_owned(),
            left: answer(left),
            right: answer(right),
            difference,
            ..ComparedRow::default()
        }
    }

    fn answers(kind: ComparedKind, unit: &str, rows: Vec<ComparedRow>) -> CompareVersionsResponse {
        let version = |version| Some(ComparedVersion { model: "m".to_owned(), version, digest: String::new() });
        let compared = rows.iter().filter(|row| row.difference.is_some()).count();
        CompareVersionsResponse {
            left: version(1),
            right: version(2),
            kind: kind.into(),
            unit: unit.to_owned(),
            compared: u32::try_from(compared).expect("few"),
            rows,
            ..CompareVersionsResponse::default()
        }
    }

    #[test]
    fn what_differs_most_stands_first() {
        let rows = vec![
            row(r#"{"make":"Kia"}"#, &[300.0, 320.5, 350.0], &[299.0, 321.0, 352.0], Some(0.5)),
            row(r#"{"make":"BMW","seats":5}"#, &[], &[1.0, 2.0, 3.0], None),
            row(r#"{"make":"Audi"}"#, &[300.0, 320.0, 350.0], &[200.0, 220.0, 250.0], Some(-100.0)),
        ];
        let compared = CompareVersionsResponse {
            difference_median: Some(50.25),
            difference_max: Some(100.0),
            left_out: 3,
            ..answers(ComparedKind::Quantiles, "km", rows)
        };
        let expected = "\
GOLDEN REQUEST      M:1                                    M:2                DIFFERENCE
make=BMW, seats=5   `seats` is not an input of the model   2.00 (1.00 to 3.00)
make=Audi           320 (300 to 350)                       220 (200 to 250)   -100 km
make=Kia            320 (300 to 350)                       321 (299 to 352)   +0.5000 km
2 golden requests: largest difference 100 km, median 50.25 km, 1 without an answer of both, 3 not asked
";
        let squeezed = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeezed(&strip_str(&render(&compared)).to_string()), squeezed(expected));
    }

    #[test]
    fn another_class_is_told() {
        let mut changed = row(r#"{"image_file":"a.jpg"}"#, &[0.75, 0.25], &[0.25, 0.75], Some(0.5));
        for (answer, class) in [(&mut changed.left, "leaf"), (&mut changed.right, "zoe")] {
            answer.as_mut().expect("an answer").likeliest_class = class.to_owned();
        }
        let compared = CompareVersionsResponse {
            class_changes: 1,
            difference_median: Some(0.5),
            difference_max: Some(0.5),
            ..answers(ComparedKind::Classes, "probability", vec![changed])
        };
        let text = strip_str(&render(&compared)).to_string();
        for part in ["image_file=a.jpg", "leaf 0.750", "zoe 0.750", "+0.5000", "1 with another likeliest class"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let check = |value: f64, expected: &str| assert_eq!(number(value), expected);
        check(0.0, "0");
        check(0.012_34, "0.0123");
        check(-3.456, "-3.46");
        check(412.6, "413");
    }
}
