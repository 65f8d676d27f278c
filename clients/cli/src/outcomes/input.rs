//! Outcomes as files have them: CSV with a header, or JSON, one a line.

use ev_client::proto::ev::outcomes::v1::{Outcome, outcome::Actual};

use crate::{
    json,
    telemetry::{csv, time},
};

/// How lines are read; the first one says.
#[derive(Debug)]
pub(super) enum Form {
    /// Each line is an `ev.outcomes.v1.Outcome`.
    Json,
    /// Each line has these columns.
    Csv(Vec<Column>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    PredictionId,
    Actual,
    Class,
    ObservedTime,
}

// === impl Form ===

impl Form {
    /// By the first line; a header is no outcome.
    pub(super) fn of(first: &str) -> Result<(Form, bool), String> {
        if first.starts_with('{') {
            return Ok((Form::Json, false));
        }
        let names = csv::split(first).ok_or("a quoted field does not end")?;
        let column = |name: &String| match name.trim_start_matches('\u{feff}').to_ascii_lowercase().as_str() {
            "prediction_id" | "id" => Ok(Column::PredictionId),
            "actual" | "number" => Ok(Column::Actual),
            "class" => Ok(Column::Class),
            "observed_time" | "time" => Ok(Column::ObservedTime),
            _ => Err(format!(
                "the column `{}` is not known, expected prediction_id, actual (or class) and observed_time",
                name.chars().take(64).collect::<String>()
            )),
        };
        let columns = names.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let has = |wanted: Column| columns.iter().filter(|column| **column == wanted).count();
        if has(Column::PredictionId) != 1
            || has(Column::Actual) + has(Column::Class) != 1
            || has(Column::ObservedTime) > 1
        {
            return Err("the header needs the columns prediction_id and actual (or class), each once".to_owned());
        }
        Ok((Form::Csv(columns), true))
    }

    /// The outcome of a line.
    pub(super) fn read(&self, line: &str) -> Result<Outcome, String> {
        let columns = match self {
            Form::Json => {
                return json::parse("ev.outcomes.v1.Outcome", line)
                    .map_err(|error| error.to_string().replace(" at line 1 column ", " at column "));
            }
            Form::Csv(columns) => columns,
        };
        let fields = csv::split(line).ok_or("a quoted field does not end")?;
        if fields.len() != columns.len() {
            return Err(format!("has {} fields, expected {}, as the header", fields.len(), columns.len()));
        }
        let mut outcome = Outcome::default();
        for (column, field) in columns.iter().zip(fields) {
            match column {
                Column::PredictionId => outcome.prediction_id = field,
                Column::Actual if field.is_empty() => return Err("has no actual, expected what happened".to_owned()),
                Column::Actual => {
                    outcome.actual = Some(field.parse().map_or_else(|_| Actual::Class(field), Actual::Number));
                }
                Column::Class => outcome.actual = Some(Actual::Class(field)),
                Column::ObservedTime if field.is_empty() => {}
                Column::ObservedTime => {
                    let observed =
                        time::parse(&field).map_err(|problem| format!("observed_time `{field}`: {problem}"))?;
                    outcome.observed_time = Some(time::timestamp(observed));
                }
            }
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(first: &str, line: &str) -> Result<Outcome, String> {
        Form::of(first)?.0.read(line)
    }

    #[test]
    fn lines_are_outcomes() {
        let check = |first: &str, line: &str, id: &str, actual: Actual, seconds: Option<i64>| {
            let outcome = read(first, line).expect(line);
            assert_eq!((outcome.prediction_id.as_str(), outcome.actual), (id, Some(actual)), "{line}");
            assert_eq!(outcome.observed_time.map(|time| time.seconds), seconds, "{line}");
        };
        let alarm = || Actual::Class("Alarm".to_owned());
        check("prediction_id,actual", "a,412.5", "a", Actual::Number(412.5), None);
        check("actual, Prediction_Id", "Alarm,a", "a", alarm(), None);
        check("prediction_id,class", "a,8", "a", Actual::Class("8".to_owned()), None);
        check("prediction_id,actual,observed_time", "a,1,1970-01-01T00:01:00Z", "a", Actual::Number(1.0), Some(60));
        check("prediction_id,actual,observed_time", "a,1,", "a", Actual::Number(1.0), None);
        check("{", r#"{"prediction_id": "a", "class": "Alarm"}"#, "a", alarm(), None);
    }

    #[test]
    fn what_is_no_outcome_says_why() {
        let check = |first: &str, line: &str, expected: &str| {
            let problem = read(first, line).expect_err(line);
            assert!(problem.contains(expected), "{problem}");
        };
        check("prediction_id,truth", "", "the column `truth` is not known, expected prediction_id, actual");
        check("prediction_id", "", "needs the columns prediction_id and actual (or class)");
        check("prediction_id,actual,class", "", "each once");
        check("prediction_id,actual", "a", "has 1 fields, expected 2");
        check("prediction_id,actual", "a,", "has no actual");
        check("prediction_id,actual,time", "a,1,yesterday", "observed_time `yesterday`: expected a time span");
        check("{", r#"{"prediction": "a"}"#, "unrecognized field");
    }
}
