//! The prediction log: what was answered, kept as Parquet files, and compared with what happened.
//!
//! Invariants:
//!
//! - Nobody who predicts waits: the queue is bounded, and what does not fit is dropped and counted.
//! - What was written survives the process: a row is in the database within a tenth of a second, and leaves it when the
//!   file it is in is synced and has its name. A file that has its name is whole.
//! - A full disk costs rows, not answers, and the log goes on when there is space.
//! - An outcome belongs to one prediction and is counted once; one that is corrected is kept beside.
//! - Everything that is kept has a bound in time and in size.
//!
//! Not here: models, the wire, the choice of which predictions are logged, and the clock, which is passed in.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! use std::{sync::{Arc, mpsc}, time::Duration};
//! use ev_outcomes::{Actual, Output, Prediction, PredictionLog, Question, Report, Reported, Settings, Status, Version};
//!
//! let directory = tempfile::tempdir()?;
//! let settings = Settings::default();
//! let (log, outcomes) =
//!     PredictionLog::<Prediction>::start(directory.path(), settings, Arc::new(|| 1_700_000_000_000_000), || {})?;
//! let version = Arc::new(Version {
//!     model: "ev-range".to_owned(),
//!     version: 1,
//!     digest: "sha256:0".to_owned(),
//!     inputs: Vec::new(),
//!     output: Output::Quantiles,
//! });
//! let id = uuid::Uuid::now_v7();
//! log.offer(Prediction {
//!     id,
//!     time_us: 1_700_000_000_000_000,
//!     version,
//!     cohort: String::new(),
//!     key: None,
//!     inputs: Vec::new(),
//!     status: Status::Ok,
//!     answer: vec![380.0, 400.0, 430.0],
//!     coverage: 1.0,
//!     total: Duration::from_micros(20),
//! });
//! let (done, written) = mpsc::channel::<()>();
//! log.flush(false, move || drop(done));
//! let _ = written.recv();
//!
//! let report = Report { prediction: id, actual: Actual::Number(410.0), observed_us: None, supersedes: false };
//! assert_eq!(outcomes.report(&[report], "trip computer", 1).await?, [Reported::Stored]);
//! let question = Question { model: "ev-range".to_owned(), ..Question::default() };
//! assert_eq!(outcomes.compare(&question).await?[0].scored, 1);
//! log.stop();
//! # Ok(())
//! # })
//! # }
//! ```

mod codec;
mod error;
mod log;
mod prediction;
mod rate;
mod report;
mod score;
mod store;

pub use error::OutcomesError;
pub use log::{Clock, Counts, Dropped, PredictionLog, Settings};
pub use prediction::{Input, InputKind, Output, Prediction, Status, Value, Version};
pub use rate::Rate;
pub use report::{Actual, REPORTS_MAX, Report, Reported, SOURCE_BYTES_MAX};
pub use score::{ClassScore, Errors, NumberScore, Score};
pub use store::{Comparison, ErrorsQuestion, Outcomes, PAIRS_MAX, Question};
