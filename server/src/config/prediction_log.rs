//! `[predictions.log]`.

use std::{collections::BTreeMap, time::Duration};

use bytesize::ByteSize;
use ev_outcomes::Settings;
use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid};

/// `[predictions.log]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictionLogConfig {
    /// Share of predictions that are logged, 0 to 1.
    pub share: f64,
    /// Most of one version in a second; in a tenth of it, a tenth of them.
    pub rows_per_second_max: u32,
    /// Most that wait to be written.
    pub queue_rows_max: usize,
    /// Rows of a file.
    pub file_rows_max: usize,
    /// Size of a file's rows, before they are compressed.
    pub file_size_max: ByteSize,
    /// Longest time that rows wait for their file.
    #[serde(with = "humantime_serde")]
    pub file_age_max: Duration,
    /// How long files are kept.
    #[serde(with = "humantime_serde")]
    pub keep_files: Duration,
    /// Most bytes of all files.
    pub files_size_max: ByteSize,
    /// How long answers and outcomes are kept.
    #[serde(with = "humantime_serde")]
    pub keep_answers: Duration,
    /// Most answers.
    pub answers_max: u64,
    /// The share of a model, by its name, where it is another.
    #[serde(default)]
    pub shares: BTreeMap<String, f64>,
    /// The input whose values are a model's cohorts, by the model's name.
    #[serde(default)]
    pub cohorts: BTreeMap<String, String>,
}

// === impl PredictionLogConfig ===

impl PredictionLogConfig {
    /// Share of a model's predictions.
    pub(crate) fn share_of(&self, model: &str) -> f64 {
        self.shares.get(model).copied().unwrap_or(self.share)
    }

    /// The largest share of any model.
    pub(crate) fn share_max(&self) -> f64 {
        self.shares.values().copied().fold(self.share, f64::max)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            queue_rows_max: self.queue_rows_max,
            file_rows_max: self.file_rows_max,
            file_bytes_max: self.file_size_max.as_u64(),
            file_age_max: self.file_age_max,
            keep_files: self.keep_files,
            files_bytes_max: self.files_size_max.as_u64(),
            keep_answers: self.keep_answers,
            answers_max: self.answers_max,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let of_models = self.shares.iter().map(|(model, share)| (format!("shares.{model}"), *share));
        for (name, found) in std::iter::once(("share".to_owned(), self.share)).chain(of_models) {
            if !(0.0..=1.0).contains(&found) {
                return Err(invalid(format!("predictions.log.{name} is {found}, expected 0 to 1")));
            }
        }
        for (name, found, max) in
            [("queue_rows_max", self.queue_rows_max, 1_000_000), ("file_rows_max", self.file_rows_max, 10_000_000)]
        {
            if !(1..=max).contains(&found) {
                return Err(invalid(format!("predictions.log.{name} is {found}, expected 1 to {max}")));
            }
        }
        if !(10..=1_000_000).contains(&self.rows_per_second_max) {
            let found = self.rows_per_second_max;
            return Err(invalid(format!("predictions.log.rows_per_second_max is {found}, expected 10 to 1000000")));
        }
        if !(1..=1_000_000_000).contains(&self.answers_max) {
            let found = self.answers_max;
            return Err(invalid(format!("predictions.log.answers_max is {found}, expected 1 to 1000000000")));
        }
        if !(ByteSize::kib(64)..=ByteSize::gib(4)).contains(&self.file_size_max) {
            let found = self.file_size_max;
            return Err(invalid(format!("predictions.log.file_size_max is {found}, expected 64KiB to 4GiB")));
        }
        let years = Duration::from_secs(100 * 366 * 86_400);
        for (name, found, least) in [
            ("file_age_max", self.file_age_max, Duration::from_secs(1)),
            ("keep_files", self.keep_files, Duration::from_secs(60)),
            ("keep_answers", self.keep_answers, Duration::from_secs(60)),
        ] {
            if !(least..=years).contains(&found) {
                return Err(invalid(format!("predictions.log.{name} is {found:?}, expected {least:?} to 100 years")));
            }
        }
        Ok(())
    }
}
