//! No single input explains the answers.

use std::{cmp::Ordering, collections::HashMap};

use ev_models_core::{DataType, Manifest};

use crate::{
    Row, Subject, Value,
    gate::Verdict,
    rows::{Sample, as_f64},
};

/// Share of the answers' variance that one input may explain.
const EXPLAINED_MAX: f64 = 0.999;
/// Rows without which nothing can be said: bins of [`BIN_ROWS`] would be too wide to tell a curve from noise.
const ROWS_MIN: usize = 1024;
/// Most bins of a number. A straight line leaves 1/128^2 of its variance within them.
const BINS_MAX: usize = 128;
const BIN_ROWS: usize = 8;

pub(crate) fn judge(manifest: &Manifest, subject: Subject<'_>, sample: &Sample) -> Verdict {
    let required = format!("no single input explains more than R2 {EXPLAINED_MAX} of the answers, straight or by rank");
    if manifest.preprocessing.is_some() {
        return Verdict::not_applicable("pictures have no single inputs", required);
    }
    if manifest.inputs.len() < 2 {
        return Verdict::not_applicable("the model has one input", required);
    }
    if matches!(subject, Subject::Refused { .. }) {
        return Verdict::not_applicable("the version does not load", required);
    }
    let rows = sample.full.len();
    if rows < ROWS_MIN {
        return Verdict::not_applicable(
            format!("{rows} generated rows were answered in the time there is, expected at least {ROWS_MIN}"),
            required,
        );
    }
    let answers: Vec<&[f64]> = sample.full.iter().map(|(_, answer)| answer.as_slice()).collect();
    let ranks = ranks(&answers);
    let scalars = manifest.inputs.iter().enumerate().filter(|(_, input)| input.shape.is_empty());
    let explained = scalars.filter_map(|(index, input)| {
        let bins = bins(&sample.full, index, input.dtype);
        let straight = explained(&answers, &bins)?;
        let by_rank = ranks.as_ref().and_then(|ranks| explained(ranks, &bins)).unwrap_or(0.0);
        Some((straight.max(by_rank), input.name.as_str()))
    });
    let most = explained.max_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    let Some((share, name)) = most else {
        return Verdict::not_applicable(format!("the answer to all {rows} generated rows is the same"), required);
    };
    let found = format!("`{name}` alone explains R2 {share:.4} of the answers to {rows} generated rows");
    if share <= EXPLAINED_MAX {
        return Verdict::passed(found, required);
    }
    Verdict::failed(
        found,
        required,
        format!(
            "train without `{name}` if it is the target in other words; if the model needs nothing else, serve a model of one input"
        ),
    )
}

/// The bin of each row by the value of one input: its own for each text and flag, as many rows each for numbers.
fn bins(rows: &[(Row, Vec<f64>)], index: usize, dtype: DataType) -> Vec<usize> {
    if dtype != DataType::Fp32 {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let key = |row: &Row| match row.get(index).and_then(Option::as_ref) {
            Some(Value::Text(text)) => text.clone(),
            Some(Value::Flag(flag)) => flag.to_string(),
            _ => String::new(),
        };
        return rows
            .iter()
            .map(|(row, _)| {
                let next = seen.len();
                *seen.entry(key(row)).or_insert(next)
            })
            .collect();
    }
    let number = |row: usize| {
        rows[row].0.get(index).and_then(Option::as_ref).and_then(Value::as_number).unwrap_or(f64::NEG_INFINITY)
    };
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| number(a).total_cmp(&number(b)));
    let size = rows.len().div_ceil(BINS_MAX).max(BIN_ROWS);
    let mut bins = vec![0; rows.len()];
    let (mut bin, mut held) = (0, 0);
    for (place, &row) in order.iter().enumerate() {
        // Rows of one value stay together.
        let differs = place > 0 && number(order[place - 1]).total_cmp(&number(row)) != Ordering::Equal;
        if held >= size && differs {
            bin += 1;
            held = 0;
        }
        bins[row] = bin;
        held += 1;
    }
    bins
}

/// The share of the variance of all values together that lies between bins, less what as many bins explain by chance;
/// none where nothing varies.
fn explained<A: AsRef<[f64]>>(answers: &[A], bins: &[usize]) -> Option<f64> {
    let width = answers.first()?.as_ref().len();
    let count = bins.iter().max()? + 1;
    let (mut within, mut total) = (0.0, 0.0);
    for column in 0..width {
        let value = |row: usize| answers[row].as_ref().get(column).copied().unwrap_or(0.0);
        let mut sums = vec![(0.0, 0usize); count];
        for (row, &bin) in bins.iter().enumerate() {
            sums[bin].0 += value(row);
            sums[bin].1 += 1;
        }
        let mean = sums.iter().map(|(sum, _)| sum).sum::<f64>() / as_f64(bins.len());
        for (row, &bin) in bins.iter().enumerate() {
            let (sum, rows) = sums[bin];
            within += (value(row) - sum / as_f64(rows)).powi(2);
            total += (value(row) - mean).powi(2);
        }
    }
    let varies = total.is_finite() && total > 1e-12 * as_f64(bins.len());
    let free = as_f64(bins.len()) - as_f64(count);
    (varies && free > 0.0).then(|| 1.0 - within / total * (as_f64(bins.len()) - 1.0) / free)
}

/// Ranks of answers of one value, so that a curve counts as the line it is; none of classes.
fn ranks(answers: &[&[f64]]) -> Option<Vec<[f64; 1]>> {
    if answers.iter().any(|answer| answer.len() != 1) {
        return None;
    }
    let mut order: Vec<usize> = (0..answers.len()).collect();
    order.sort_by(|&a, &b| answers[a][0].total_cmp(&answers[b][0]));
    let mut ranks = vec![[0.0]; answers.len()];
    let mut start = 0;
    while start < order.len() {
        let same = |&&row: &&usize| answers[row][0].total_cmp(&answers[order[start]][0]) == Ordering::Equal;
        let end = start + order[start..].iter().take_while(same).count();
        for &row in &order[start..end] {
            ranks[row] = [as_f64(start + end - 1) / 2.0];
        }
        start = end;
    }
    Some(ranks)
}
