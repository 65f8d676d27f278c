//! What was measured was measured on groups that training has not seen.

use ev_models_core::{Manifest, manifest::Training};

use crate::{gate::Verdict, must_state};

const REQUIRED: &str = "a split by group (vehicle, station, cell, ...) with fewer groups than rows: \
                        `training.split_by`, or a group rule in `training.split`";
const REMEDY: &str = "measure the model on groups that training has not seen, such as scikit-learn's GroupKFold by \
                      vehicle, and say so in `training.split_by`";

/// Ways to split that keep groups together, as libraries call them, in lower case.
const GROUP_SPLITTERS: [&str; 9] = [
    "stratifiedgroupkfold",
    "groupkfold",
    "groupshufflesplit",
    "leaveonegroupout",
    "leavepgroupsout",
    "grouptimeseriessplit",
    "group k-fold",
    "leave-one-group-out",
    "leave one group out",
];
/// What a group is called; `by`, `per` or `held-out` before one of these is a group rule.
const GROUPS: [&str; 27] = [
    "group",
    "vehicle",
    "car",
    "truck",
    "bus",
    "fleet",
    "vin",
    "cell",
    "pack",
    "battery",
    "module",
    "station",
    "site",
    "charger",
    "depot",
    "driver",
    "user",
    "customer",
    "trip",
    "run",
    "make",
    "model",
    "line",
    "manufacturer",
    "device",
    "region",
    "city",
];
/// Words of a split of single rows.
const ROW_WORDS: [&str; 12] = [
    "random",
    "randomly",
    "shuffle",
    "shuffled",
    "train_test_split",
    "row",
    "rows",
    "row-wise",
    "iid",
    "i.i.d.",
    "i.i.d",
    "kfold",
];
/// What `split_by` must not be: a row is no group.
const ROWS: [&str; 10] =
    ["row", "rows", "record", "records", "sample", "samples", "observation", "random", "index", "none"];

pub(crate) fn judge(manifest: &Manifest) -> Verdict {
    match &manifest.training {
        None if must_state(manifest) => Verdict::failed("no `[training]`", REQUIRED, REMEDY),
        None => Verdict::not_applicable("no `[training]`", REQUIRED),
        Some(training) => match problem(training) {
            None => Verdict::passed(found(training), REQUIRED),
            Some(problem) => Verdict::failed(format!("{problem}; {}", found(training)), REQUIRED, REMEDY),
        },
    }
}

fn found(training: &Training) -> String {
    let Training { split, split_by, rows, groups, .. } = training;
    let by = split_by.as_ref().map(|by| format!("by {by}, ")).unwrap_or_default();
    format!("{by}{groups} groups of {rows} rows, `{split}`")
}

fn problem(training: &Training) -> Option<String> {
    let Training { split, split_by, rows, groups, .. } = training;
    if *groups < 2 {
        return Some(format!("{groups} groups cannot be split"));
    }
    if groups > rows {
        return Some("there are more groups than rows".to_owned());
    }
    if let Some(by) = split_by {
        // Stated on its own, it may be that every row is a group: one row a cell.
        let by = by.trim().to_lowercase();
        return (by.is_empty() || ROWS.contains(&&*by)).then(|| format!("`split_by` is `{by}`, which is no group"));
    }
    let text = split.to_lowercase();
    let rest = GROUP_SPLITTERS.iter().fold(text.clone(), |text, splitter| text.replace(splitter, " "));
    let words: Vec<&str> = words(&rest).collect();
    if let Some(word) = words.iter().find(|word| ROW_WORDS.contains(*word)) {
        return Some(format!("the split says `{word}`: rows of one group are in training and test"));
    }
    if rest == text && !names_group(&words) {
        return Some("the split names no group".to_owned());
    }
    (groups == rows).then(|| "there are as many groups as rows".to_owned())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let separates = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    text.split(separates).map(|word| word.trim_end_matches(['.', '-'])).filter(|word| !word.is_empty())
}

/// Whether a group's name stands behind a word that makes it the rule: `by cell`, `by make and model`, `held-out cars`.
fn names_group(words: &[&str]) -> bool {
    let is_group = |word: &str| {
        GROUPS.contains(&word)
            || word.strip_suffix('s').is_some_and(|word| GROUPS.contains(&word))
            || word == "batteries"
    };
    let rule = |word: &str| matches!(word, "by" | "per" | "held-out" | "unseen" | "leave-one");
    words.windows(2).any(|pair| rule(pair[0]) && is_group(pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(split: &str, split_by: Option<&str>, rows: u64, groups: u64) -> Training {
        Training {
            datasets: vec!["trips".to_owned()],
            data_digest: ev_models_core::Digest::of(b"trips"),
            rows,
            groups,
            split: split.to_owned(),
            split_by: split_by.map(str::to_owned),
            target: "range".to_owned(),
            command: "make train".to_owned(),
        }
    }

    #[test]
    fn splits_of_groups_pass_and_splits_of_rows_do_not() {
        let check = |split: &str, expected: Option<&str>| {
            let problem = problem(&training(split, None, 1000, 20));
            match (problem, expected) {
                (None, None) => {}
                (Some(problem), Some(expected)) => assert!(problem.contains(expected), "{split}: {problem}"),
                (problem, expected) => panic!("{split}: {problem:?}, expected {expected:?}"),
            }
        };
        check("GroupKFold(5) by make and first word of model", None);
        check("StratifiedGroupKFold(5) of the training photos, near duplicates together", None);
        check("by cell: every cell of one family once held out", None);
        check("80/20, held-out vehicles", None);
        check("GroupShuffleSplit, 20 % of the vehicles", None);
        check("80/20 random split", Some("`random`"));
        check("train_test_split(test_size=0.2, random_state=42)", Some("`train_test_split`"));
        check("KFold(5), shuffled", Some("`kfold`"));
        check("5 folds of rows", Some("`rows`"));
        check("published split", Some("names no group"));
        check("", Some("names no group"));
        check("simulated runs by run, i.i.d. records at random, GroupKFold(5)", Some("`i.i.d`"));
    }

    #[test]
    fn what_is_stated_on_its_own_counts_and_so_do_the_numbers() {
        let check = |split, split_by, rows, groups, passes: bool| {
            let problem = problem(&training(split, split_by, rows, groups));
            assert_eq!(problem.is_none(), passes, "{split} {split_by:?} {rows} {groups}: {problem:?}");
        };
        check("published split", Some("cell"), 124, 124, true);
        check("published split", Some("rows"), 124, 12, false);
        check("published split", Some(" "), 124, 12, false);
        check("GroupKFold(5) by cell", None, 124, 124, false);
        check("GroupKFold(5) by cell", None, 124, 125, false);
        check("GroupKFold(5) by cell", None, 124, 1, false);
        check("GroupKFold(5) by cell", None, 124, 2, true);
    }
}
