//! Every declared class is the answer to some row.

use ev_models_core::{
    Manifest,
    manifest::{Condition, IfMissing, Output, OutputKind},
};
use fastrand::Rng;

use crate::{
    Measured, Probe, Row, SEARCH_ROWS_MAX, Subject, Value,
    gate::Verdict,
    rows::{Sample, candidates, domains, narrow},
};

const REQUIRED: &str = "every declared class is the likeliest answer to some row";
/// Rows a search for one class starts from, the likeliest first.
const STARTS: usize = 6;
/// Times a search goes through all inputs.
const SWEEPS: usize = 4;
/// Classes that a report names.
const NAMED_MAX: usize = 10;

pub(crate) fn judge(manifest: &Manifest, subject: Subject<'_>, sample: &Sample) -> Verdict {
    let Some(output) = manifest.outputs.iter().find(|output| output.kind == OutputKind::Classes) else {
        return Verdict::not_applicable("the model answers no classes", REQUIRED);
    };
    if manifest.preprocessing.is_some() {
        return Verdict::not_applicable("pictures cannot be generated", REQUIRED);
    }
    let Subject::Loaded { probe, measured } = subject else {
        return Verdict::not_applicable("the version does not load", REQUIRED);
    };
    let golden = measured.golden.iter().filter_map(|row| Some((row.clone(), probe.predict(row)?)));
    let known: Vec<(Row, Vec<f64>)> = golden.chain(sample.full.iter().chain(&sample.partial).cloned()).collect();
    let mut search = Search::new(manifest, output, probe, measured);
    let count = output.classes.len();
    let mut met = vec![false; count];
    for (_, answer) in &known {
        search.meet(&mut met, answer);
    }
    for class in 0..count {
        if !met[class] {
            search.look_for(class, &known, &mut met);
        }
    }
    let missing: Vec<&str> =
        output.classes.iter().zip(&met).filter(|(_, met)| !**met).map(|(class, _)| class.as_str()).collect();
    let tried = known.len() + search.tried;
    if missing.is_empty() {
        return Verdict::passed(format!("all {count} were met in {tried} rows"), REQUIRED);
    }
    let named = missing.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    Verdict::failed(
        format!("{} of {count} classes were not met in {tried} rows: {named}", missing.len()),
        REQUIRED,
        "declare only classes the model can answer, train on rows of each, or show a golden request that each answers",
    )
}

struct Search<'a> {
    manifest: &'a Manifest,
    output: &'a Output,
    probe: &'a dyn Probe,
    domains: Vec<Option<[f64; 2]>>,
    rng: Rng,
    tried: usize,
    tries_max: usize,
}

// === impl Search ===

impl<'a> Search<'a> {
    fn new(manifest: &'a Manifest, output: &'a Output, probe: &'a dyn Probe, measured: &Measured) -> Search<'a> {
        let (domains, rng) = (domains(manifest, measured), Rng::with_seed(7));
        Search { manifest, output, probe, domains, rng, tried: 0, tries_max: measured.rows(SEARCH_ROWS_MAX) }
    }

    /// Notes the class that an answer is.
    fn meet(&self, met: &mut [bool], answer: &[f64]) {
        if answer.len() != self.output.classes.len() {
            return;
        }
        let most = answer.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Of two that are as likely, neither is the answer.
        let mut likeliest = answer.iter().enumerate().filter(|(_, probability)| **probability >= most);
        if let (Some((class, _)), None) = (likeliest.next(), likeliest.next()) {
            met[class] = true;
        }
    }

    /// Changes one input after the other as long as that makes the class likelier, from rows where it is likeliest.
    fn look_for(&mut self, class: usize, known: &[(Row, Vec<f64>)], met: &mut [bool]) {
        for (mut row, mut best) in self.starts(class, known) {
            for _ in 0..SWEEPS {
                let before = best;
                for index in 0..row.len() {
                    self.improve(class, &mut row, index, &mut best, met);
                    if met[class] || self.tried >= self.tries_max {
                        return;
                    }
                }
                if best <= before {
                    break;
                }
            }
        }
    }

    fn improve(&mut self, class: usize, row: &mut Row, index: usize, best: &mut f64, met: &mut [bool]) {
        let input = &self.manifest.inputs[index];
        for value in candidates(self.manifest, input, self.domains[index], &mut self.rng) {
            let previous = std::mem::replace(&mut row[index], value);
            let found = self.ask(row, class, met);
            if found.is_some_and(|found| found > *best) {
                *best = found.unwrap_or(*best);
            } else {
                row[index] = previous;
            }
            if met[class] || self.tried >= self.tries_max {
                return;
            }
        }
    }

    /// How likely a class is for a row.
    fn ask(&mut self, row: &Row, class: usize, met: &mut [bool]) -> Option<f64> {
        self.tried += 1;
        let answer = self.probe.predict(row)?;
        self.meet(met, &answer);
        answer.get(class).copied()
    }

    /// Rows to begin with: where the class is likeliest, and of a class that rules give, where its source is and the
    /// rules hold.
    fn starts(&mut self, class: usize, known: &[(Row, Vec<f64>)]) -> Vec<(Row, f64)> {
        let output = self.output;
        let mut starts = Vec::new();
        for rule in output.rules.iter().filter(|rule| rule.to == output.classes[class]) {
            let Some(from) = output.classes.iter().position(|name| *name == rule.from) else { continue };
            for (mut row, _) in likeliest(from, known, STARTS) {
                for condition in &rule.when {
                    self.fulfil(&mut row, condition);
                }
                starts.push((row, f64::NEG_INFINITY));
            }
        }
        starts.extend(likeliest(class, known, STARTS));
        starts
    }

    /// Gives an input a value for which a condition holds, inside what the model was trained on where that is possible.
    fn fulfil(&self, row: &mut Row, condition: &Condition) {
        let Some(index) = self.manifest.inputs.iter().position(|input| input.name == condition.input) else { return };
        let input = &self.manifest.inputs[index];
        let [low, high] = self.domains[index].unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
        let low = condition.at_least.map_or(low, |bound| bound.max(low));
        let high = condition.below.map_or(high, |bound| bound.min(high));
        let number = match (low.is_finite(), high.is_finite()) {
            (true, true) => f64::midpoint(low, high),
            (true, false) => low + 1.0,
            (false, true) => high - 1.0,
            (false, false) => 0.0,
        };
        row[index] = match condition.if_missing {
            IfMissing::Holds if !input.required => None,
            _ if input.dtype == ev_models_core::DataType::Bool => Some(Value::Flag(number >= 0.5)),
            _ => Some(Value::Number(narrow(number))),
        };
    }
}

fn likeliest(class: usize, known: &[(Row, Vec<f64>)], count: usize) -> Vec<(Row, f64)> {
    let probability = |answer: &[f64]| answer.get(class).copied().unwrap_or(f64::NEG_INFINITY);
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_by(|&a, &b| probability(&known[b].1).total_cmp(&probability(&known[a].1)));
    order.into_iter().take(count).map(|place| (known[place].0.clone(), probability(&known[place].1))).collect()
}
