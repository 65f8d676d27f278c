//! Golden requests, put to versions that need not be their own.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use ev_models_core::{ArtifactDir, Manifest, manifest::GoldenCase};

use super::{Deployment, warmup};
use crate::pipeline::{Estimate, Outcome, Picture};

/// Bytes of the pictures among a version's golden requests that are held at most; the others are not asked.
const PICTURES_MAX_BYTES: usize = 64 * 1024 * 1024;

/// A golden request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Question {
    /// Values by input name.
    Row(BTreeMap<String, serde_json::Value>),
    /// A picture, as its file.
    Picture {
        /// Its path among the version's files.
        file: String,
        /// What is in it.
        bytes: Bytes,
    },
}

/// The golden requests of a version.
#[derive(Debug)]
pub(crate) struct Questions {
    /// What its answers are like.
    pub(crate) manifest: Manifest,
    /// As many as were asked for and may be held, in their order.
    pub(crate) questions: Vec<Question>,
    /// Those beyond.
    pub(crate) left_out: usize,
}

/// What a version answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The calibrated value.
    pub(crate) estimate: Estimate,
    /// Names of inputs outside what it was trained on.
    pub(crate) out_of_distribution: Vec<String>,
}

// === impl Questions ===

impl Questions {
    /// Reads at most `max`. Blocking.
    ///
    /// # Errors
    ///
    /// What is wrong with the golden file, or with a picture.
    pub(super) fn read(manifest: Manifest, artifact: &ArtifactDir, max: usize) -> Result<Questions, String> {
        let cases = warmup::read_golden(&manifest, artifact)?.map(|golden| golden.cases).unwrap_or_default();
        let count = cases.len();
        let (mut questions, mut pictures_bytes) = (Vec::new(), 0);
        for GoldenCase { inputs, image_file, .. } in cases.into_iter().take(max) {
            questions.push(match image_file {
                None => Question::Row(inputs),
                Some(file) => {
                    let bytes = warmup::read_picture(artifact, &file)?;
                    pictures_bytes += bytes.len();
                    if pictures_bytes > PICTURES_MAX_BYTES {
                        break;
                    }
                    Question::Picture { file, bytes }
                }
            });
        }
        let left_out = count - questions.len();
        Ok(Questions { manifest, questions, left_out })
    }
}

// === impl Question ===

impl Question {
    /// What a version that was loaded and serves nobody says; or why it says nothing.
    fn put_to(&self, deployment: &Deployment) -> Result<Answer, String> {
        let outcome = match self {
            Question::Row(inputs) => warmup::predict(deployment, inputs),
            Question::Picture { bytes, .. } => warmup::predict_picture(deployment, Picture::File(bytes.clone())),
        };
        let Outcome { estimate, out_of_distribution, .. } = outcome?;
        let name = |input: usize| deployment.plan().inputs.get(input).map(|input| input.name.clone());
        let out_of_distribution = out_of_distribution.into_iter().filter_map(|field| name(field.input)).collect();
        Ok(Answer { estimate, out_of_distribution })
    }
}

/// Puts one question after the other, until there is no time left.
pub(super) fn put(deployment: &Deployment, questions: &[Question], until: Instant) -> Vec<Result<Answer, String>> {
    let in_time = questions.iter().take_while(|_| Instant::now() < until);
    in_time.map(|question| question.put_to(deployment)).collect()
}
