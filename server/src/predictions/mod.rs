//! The prediction log: what of predictions is kept, and from whom it comes.
//!
//! `ev-outcomes` writes it and knows no models; here a deployment's predictions become what it writes, on its thread.

mod recent;

use std::{path::Path, sync::Arc, time::Duration};

use ev_batching::{WorkerPriority, take_place};
use ev_models_core::{DataType, manifest::OutputKind};
use ev_outcomes::{
    Counts, Dropped, Input, InputKind, Outcomes, OutcomesError, Output, Prediction, PredictionLog, Rate, Report,
    Reported, Status, Value, Version,
};
use tokio::{sync::oneshot, time::timeout};

use self::recent::{Recent, Rows};

use crate::{
    config::PredictionLogConfig,
    deploy::Deployment,
    pipeline::{Estimate, InputValue, Observer, Seen},
    telemetry::now_us,
};

/// What the log is called among those who listen to a deployment.
const NAME: &str = "log";
/// The cohort of a text that the model does not know.
const OTHER: &str = "(other)";
/// Longest wait for what is on its way to the log.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(5);

/// Outcomes of other servers' predictions that are kept or taken at one time.
pub(crate) const OUTCOMES_AT_ONCE: usize = 500;

/// Logs predictions of deployments, and knows what came of them.
pub(crate) struct Predictions {
    config: PredictionLogConfig,
    log: Arc<PredictionLog<Logged>>,
    outcomes: Outcomes,
    recent: Recent,
}

/// Logs those of one deployment.
struct OfDeployment {
    log: Arc<PredictionLog<Logged>>,
    about: Arc<About>,
    rate: Rate,
}

/// What all predictions of a deployment share.
struct About {
    version: Arc<Version>,
    /// The input whose values are cohorts.
    cohort: Option<usize>,
    /// Where the newest are kept in memory; none of pictures.
    recent: Option<Arc<Rows>>,
}

/// A prediction on its way.
struct Logged {
    seen: Arc<Seen>,
    about: Arc<About>,
}

// === impl Predictions ===

impl Predictions {
    /// Opens the log in a directory. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written, or another process writes there.
    pub(crate) fn start(config: &PredictionLogConfig, directory: &Path) -> Result<Predictions, OutcomesError> {
        // Whoever waits for an answer comes before who keeps it.
        let begin = || take_place(WorkerPriority::Idle);
        let (log, outcomes) = PredictionLog::start(directory, config.settings(), Arc::new(now_us), begin)?;
        Ok(Predictions { config: config.clone(), log: Arc::new(log), outcomes, recent: Recent::default() })
    }

    /// Listens to a deployment, before it serves.
    pub(crate) fn listen(&self, deployment: &Deployment) {
        let share = self.config.share_of(deployment.model());
        if share > 0.0 {
            let has_rows = deployment.pictures().is_none();
            let recent = if has_rows { self.recent.of(deployment.model()) } else { None };
            let about = Arc::new(About { version: version(deployment), cohort: self.cohort(deployment), recent });
            let rate = Rate::new(self.config.rows_per_second_max);
            let observer = OfDeployment { log: Arc::clone(&self.log), about, rate };
            deployment.tap().listen(NAME, share, Arc::new(observer));
        }
    }

    fn cohort(&self, deployment: &Deployment) -> Option<usize> {
        let name = self.config.cohorts.get(deployment.model())?;
        let input = deployment.plan().input(name);
        let kind = input.and_then(|input| deployment.plan().inputs.get(input)).map(|input| input.dtype);
        if !matches!(kind, Some(DataType::Bytes | DataType::Bool)) {
            let (model, version) = (deployment.model(), deployment.version);
            tracing::warn!(
                model,
                version,
                input = name,
                "predictions have no cohorts: this is no text or flag that the model takes"
            );
            return None;
        }
        input
    }

    /// The newest logged rows of a model, the newest last, at most [`recent::ROWS_MAX`]; none from before this process.
    pub(crate) fn recent(&self, model: &str) -> Vec<Arc<Seen>> {
        self.recent.of(model).map(|rows| rows.copied()).unwrap_or_default()
    }

    /// The input whose values are a model's cohorts.
    pub(crate) fn cohort_input(&self, model: &str) -> Option<&str> {
        self.config.cohorts.get(model).map(String::as_str)
    }

    /// What happened, and how right predictions were.
    pub(crate) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// Stores reports. What is not in the log may be on its way there.
    ///
    /// # Errors
    ///
    /// When the log cannot be written; some reports may have been stored, and storing them again is safe.
    pub(crate) async fn report(&self, reports: &[Report], source: &str) -> Result<Vec<Reported>, OutcomesError> {
        let mut results = self.outcomes.report(reports, source, now_us()).await?;
        let missing: Vec<usize> = (0..results.len()).filter(|place| results[*place] == Reported::NotLogged).collect();
        if missing.is_empty() {
            return Ok(results);
        }
        self.flush().await;
        let again: Vec<Report> = missing.iter().map(|place| reports[*place].clone()).collect();
        let found = self.outcomes.report(&again, source, now_us()).await?;
        for (place, found) in missing.into_iter().zip(found) {
            results[place] = found;
        }
        Ok(results)
    }

    /// Waits until what was predicted before is in the log.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.log.flush(false, || {
            // Who asked may have gone.
            let _ = done.send(());
        });
        // What is not there in time is not there for the question.
        let _ = timeout(FLUSH_WAIT_MAX, written).await;
    }

    /// What became of predictions.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        self.log.counts()
    }

    /// Writes what is on its way, and ends.
    pub(crate) async fn stop(&self) {
        let log = Arc::clone(&self.log);
        // It ends by itself when the runtime does not wait for it.
        let _ = tokio::task::spawn_blocking(move || log.stop()).await;
        self.outcomes.close().await;
    }
}

impl Observer for OfDeployment {
    fn offer(&self, seen: &Arc<Seen>) {
        if self.rate.admits(seen.taken_unix_ms) {
            self.log.offer(Logged { seen: Arc::clone(seen), about: Arc::clone(&self.about) });
        } else {
            self.log.leave_out(Dropped::Rate);
        }
    }
}

fn version(deployment: &Deployment) -> Arc<Version> {
    let served = deployment.served();
    let manifest = &served.manifest;
    let inputs = manifest.inputs.iter().map(|input| {
        let kind = match input.dtype {
            DataType::Bytes => InputKind::Text,
            DataType::Bool => InputKind::Flag,
            _ if input.shape.is_empty() => InputKind::Number,
            _ => InputKind::Vector,
        };
        Input { name: input.name.clone(), kind }
    });
    let output = &manifest.outputs[0];
    Arc::new(Version {
        model: served.model().to_owned(),
        version: served.version,
        digest: served.digest.clone(),
        inputs: if deployment.pictures().is_some() { Vec::new() } else { inputs.collect() },
        output: match output.kind {
            OutputKind::Quantiles => Output::Quantiles,
            OutputKind::Probability => Output::Probability,
            OutputKind::Classes => Output::Classes(output.classes.clone()),
            OutputKind::Prediction => Output::Numbers(deployment.plan().head_width()),
        },
    })
}

// === impl Logged ===

impl From<Logged> for Prediction {
    fn from(logged: Logged) -> Prediction {
        let Logged { seen, about } = logged;
        if let Some(recent) = &about.recent {
            recent.push(&seen);
        }
        let (status, answer) = match &seen.estimate {
            Estimate::Unknown => (Status::Unknown, Vec::new()),
            _ if !seen.out_of_distribution.is_empty() => (Status::OutOfDistribution, numbers(&seen.estimate)),
            estimate => (Status::Ok, numbers(estimate)),
        };
        let value = |index| {
            Some(match seen.value(index)? {
                InputValue::Number(number) => Value::Number(number),
                InputValue::Vector(values) => Value::Vector(values.to_vec()),
                InputValue::RawVector(_) => return None,
                InputValue::Text(text) => Value::Text(text.to_owned()),
                InputValue::Flag(flag) => Value::Flag(flag),
            })
        };
        Prediction {
            id: seen.id,
            time_us: i64::try_from(seen.taken_unix_ms.saturating_mul(1_000)).unwrap_or(i64::MAX),
            cohort: about.cohort.map_or(String::new(), |input| cohort(&seen, input)),
            key: seen.inputs.key.as_deref().map(str::to_owned),
            inputs: (0..about.version.inputs.len()).map(value).collect(),
            status,
            answer,
            coverage: seen.coverage,
            total: seen.timings.total,
            version: Arc::clone(&about.version),
        }
    }
}

fn numbers(estimate: &Estimate) -> Vec<f32> {
    match estimate {
        Estimate::Quantiles(quantiles) => quantiles.to_vec(),
        Estimate::Probability(probability) => vec![*probability],
        Estimate::Classes(numbers) | Estimate::Prediction(numbers) => numbers.clone(),
        Estimate::Unknown => Vec::new(),
    }
}

/// One of the vocabulary's texts, so that there are no more cohorts than those and two.
fn cohort(seen: &Seen, input: usize) -> String {
    match seen.value(input) {
        None => String::new(),
        Some(_) if seen.out_of_distribution.iter().any(|outside| outside.input == input) => OTHER.to_owned(),
        Some(InputValue::Text(text)) => text.to_owned(),
        Some(InputValue::Flag(flag)) => flag.to_string(),
        Some(_) => OTHER.to_owned(),
    }
}
