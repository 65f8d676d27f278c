//! The target is not among the inputs, by name.

use std::collections::BTreeSet;

use ev_models_core::Manifest;

use crate::gate::Verdict;

const REQUIRED: &str = "no input that is called what the model predicts";

/// Words that say nothing about which quantity is meant: articles and units.
const IDLE: [&str; 32] = [
    "a", "an", "the", "of", "celsius", "cel", "kelvin", "percent", "pct", "km", "mi", "miles", "m", "mm", "kwh", "wh",
    "kw", "w", "v", "volt", "volts", "ah", "mah", "kg", "s", "ms", "h", "hours", "days", "mohm", "ohm", "kpa",
];
/// Words that make an input the answer to what stands beside them.
const ANSWER: [&str; 10] =
    ["target", "label", "labels", "actual", "true", "truth", "ground", "observed", "expected", "y"];
/// Words at which a target's name ends and its definition begins.
const ENDS: [&str; 9] = ["in", "within", "until", "over", "below", "above", "left", "at", "as"];
/// Names of outputs that name no quantity.
const ANONYMOUS: [&str; 7] = ["prediction", "output", "probability", "probabilities", "class", "score", "value"];
/// Short names and what they stand for.
const SHORT: [(&str, &str); 5] = [
    ("soh", "state health"),
    ("rul", "remaining useful life"),
    ("soc", "state charge"),
    ("temp", "temperature"),
    ("cap", "capacity"),
];

type Words = BTreeSet<String>;

pub(crate) fn judge(manifest: &Manifest) -> Verdict {
    let mut targets: Vec<(String, Words)> = Vec::new();
    if let Some(training) = &manifest.training {
        targets.push((training.target.clone(), words(&training.target)));
        targets.push((training.target.clone(), words(head(&training.target))));
    }
    for output in &manifest.outputs {
        targets.push((output.name.clone(), words(&output.name)));
    }
    targets.retain(|(_, words)| !words.is_empty() && !words.iter().all(|word| ANONYMOUS.contains(&word.as_str())));
    for input in &manifest.inputs {
        let name = words(&input.name);
        let bare: Words = name.iter().filter(|word| !ANSWER.contains(&word.as_str())).cloned().collect();
        let claims = bare.len() < name.len();
        let same = targets.iter().find(|(_, target)| name == *target || claims && (bare == *target || bare.is_empty()));
        let answer = same.map(|(target, _)| target.as_str()).or((claims && bare.is_empty()).then_some("the target"));
        if let Some(target) = answer {
            return Verdict::failed(
                format!("the input `{}` is the target, `{target}`", input.name),
                REQUIRED,
                "train without it: nobody has it when the model is asked",
            );
        }
    }
    if targets.is_empty() {
        return Verdict::not_applicable("neither `training.target` nor an output names what is predicted", REQUIRED);
    }
    Verdict::passed(format!("none of {} inputs is called that", manifest.inputs.len()), REQUIRED)
}

/// The quantity a target begins with, without how it is defined: `range in km, real-world` is the range.
fn head(target: &str) -> &str {
    let end = target.find([',', '(', ';', ':']).unwrap_or(target.len());
    let first = &target[..end];
    let ends = |word: &str| ENDS.contains(&word.to_lowercase().as_str());
    let mut place = 0;
    for word in first.split(' ') {
        if place > 0 && ends(word) {
            return &first[..place];
        }
        place += word.len() + 1;
    }
    first
}

/// A name's words, in any order, without units and endings of plurals.
fn words(name: &str) -> Words {
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let long = words.flat_map(|word| {
        let short = SHORT.iter().find(|(short, _)| *short == word);
        short.map_or(word, |(_, long)| long).split(' ')
    });
    long.filter(|word| !IDLE.contains(word)).map(singular).map(str::to_owned).collect()
}

fn singular(word: &str) -> &str {
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with('s') => stem,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_begins_with_its_quantity() {
        let check = |target, expected: &[&str]| {
            let expected: Words = expected.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(words(head(target)), expected, "{target}");
        };
        check("range in km, real-world (EV Database)", &["range"]);
        check("discharge capacity over rated capacity, percent", &["discharge", "capacity"]);
        check("capacity below 1.4 Ah within the next 10 discharges", &["capacity"]);
        check("cell temperature, degrees Celsius, at least 30 s into a discharge", &["cell", "temperature"]);
        check("SoH", &["state", "health"]);
        check("in", &["in"]);
        check("", &[]);
    }
}
