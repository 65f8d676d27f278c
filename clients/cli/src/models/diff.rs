//! `evctl models diff`: two versions side by side.

use ev_client::{
    Client, VersionRef,
    proto::ev::registry::v1::{GetVersionResponse, Version},
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::answers::{self, Answers};
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{BOLD, DIM, WARN},
    table::{Cell, Table},
};

/// What two versions differ in.
#[derive(Debug, Serialize)]
struct Diff {
    left: String,
    right: String,
    differences: Vec<Difference>,
    /// Answers to golden requests, as the API has them; null where they cannot be compared.
    #[serde(serialize_with = "as_message")]
    answers: Answers,
    /// Why not.
    not_compared: Option<String>,
}

/// One place of the manifest.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    /// Such as `inputs.make.vocabulary` or `metrics.mae (by make).value`.
    place: String,
    /// Null where there is nothing.
    left: Value,
    right: Value,
}

pub(crate) async fn run(
    client: &Client,
    output: &Output,
    left: VersionRef,
    right: VersionRef,
) -> Result<Exit, Failure> {
    let (shown_left, shown_right) = (shown(client, left.clone()).await?, shown(client, right.clone()).await?);
    let mut differences = Vec::new();
    compare("", &shown_left.1, &shown_right.1, &mut differences);
    let answers = answers::ask(client, left, right).await?;
    let not_compared = answers.as_ref().err().cloned();
    let diff = Diff { left: shown_left.0, right: shown_right.0, differences, answers, not_compared };
    output.answer(&diff, || render(&diff))?;
    Ok(Exit::Ok)
}

/// A version's name and its manifest, with the elements of its lists under their names.
async fn shown(client: &Client, version: VersionRef) -> Result<(String, Value), Failure> {
    let GetVersionResponse { version, manifest_json, .. } = client.registry().get_version(version).await?;
    let Version { model, version, .. } = version.unwrap_or_default();
    let manifest: Value = serde_json::from_str(&manifest_json).map_err(Failure::Decode)?;
    Ok((format!("{model}:{version}"), named(manifest)))
}

/// Lists of named elements become tables, so that a new input moves none of the others.
fn named(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, named(value))).collect(),
        Value::Array(elements) => match elements.iter().map(name_of).collect::<Option<Vec<_>>>() {
            Some(names) if !names.is_empty() => {
                names.into_iter().zip(elements).map(|(name, value)| (name, named(value))).collect::<Map<_, _>>().into()
            }
            _ => Value::Array(elements),
        },
        other => other,
    }
}

/// What an element of a list is known by; metrics of one name differ by their split.
fn name_of(element: &Value) -> Option<String> {
    let name = element.get("name").or_else(|| element.get("path"))?.as_str()?;
    Some(match element.get("split").and_then(Value::as_str) {
        Some(split) => format!("{name} ({split})"),
        None => name.to_owned(),
    })
}

fn compare(place: &str, left: &Value, right: &Value, found: &mut Vec<Difference>) {
    match (left, right) {
        (left, right) if left == right => {}
        (Value::Object(lefts), Value::Object(rights)) => {
            let added = rights.keys().filter(|name| !lefts.contains_key(*name));
            for name in lefts.keys().chain(added) {
                let below = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                let of = |fields: &Map<String, Value>| fields.get(name).cloned().unwrap_or(Value::Null);
                compare(&below, &of(lefts), &of(rights), found);
            }
        }
        (left, right) => {
            found.push(Difference { place: place.to_owned(), left: left.clone(), right: right.clone() });
        }
    }
}

fn as_message<S: Serializer>(answers: &Answers, serializer: S) -> Result<S::Ok, S::Error> {
    let message = |answers| Json::new("ev.registry.v1.CompareVersionsResponse", answers);
    answers.as_ref().ok().map(message).serialize(serializer)
}

fn render(diff: &Diff) -> String {
    let answers = match &diff.answers {
        Ok(answers) => answers::render(answers),
        Err(problem) => format!("{WARN}answers are not compared:{WARN:#} {problem}\n"),
    };
    format!("{}\n\n{answers}", render_manifests(diff).trim_end())
}

fn render_manifests(diff: &Diff) -> String {
    if diff.differences.is_empty() {
        return format!("{BOLD}{}{BOLD:#} and {BOLD}{}{BOLD:#} say the same", diff.left, diff.right);
    }
    let mut table = Table::with_header(&["", &diff.left, &diff.right]);
    for Difference { place, left, right } in &diff.differences {
        table.row([Cell::styled(place, DIM), short(left).into(), Cell::styled(short(right), WARN)]);
    }
    table.render()
}

/// A value on one line.
fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        Value::Array(elements) if elements.len() > 6 => return format!("{} values", elements.len()),
        Value::Object(fields) => return fields.keys().cloned().collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    if text.chars().count() > 48 { text.chars().take(47).chain(['…']).collect() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_found_by_name_and_not_by_place() {
        let left = json!({
            "model": {"name": "m", "description": "old"},
            "inputs": [{"name": "a", "unit": "km"}, {"name": "b"}],
            "metrics": [{"name": "mae", "split": "by make", "value": 2.0}, {"name": "mae", "split": "by line", "value": 3.0}],
        });
        let right = json!({
            "model": {"name": "m", "description": "old"},
            "inputs": [{"name": "c"}, {"name": "a", "unit": "mi"}, {"name": "b"}],
            "metrics": [{"name": "mae", "split": "by line", "value": 2.5}, {"name": "mae", "split": "by make", "value": 2.0}],
        });
        let mut found = Vec::new();
        compare("", &named(left), &named(right), &mut found);
        let found: Vec<_> =
            found.iter().map(|found| (found.place.as_str(), short(&found.left), short(&found.right))).collect();
        let row = |place, left: &str, right: &str| (place, left.to_owned(), right.to_owned());
        assert_eq!(
            found,
            [
                row("inputs.a.unit", "km", "mi"),
                row("inputs.c", "", "name"),
                row("metrics.mae (by line).value", "3.0", "2.5"),
            ]
        );
        assert_eq!(short(&json!([1, 2, 3, 4, 5, 6, 7])), "7 values");
        assert_eq!(short(&json!("x".repeat(60))).chars().count(), 48);
    }
}
