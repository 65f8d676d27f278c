//! Forms batches of rows and runs them on worker threads, one [`Scheduler`] a deployment.
//!
//! Invariants:
//!
//! - Every row that is admitted gets exactly one answer, its own: what the model gives for it does not depend on the
//!   rows it shared a batch with, nor does an error in preparing it touch them.
//! - Everything is bounded: rows and bytes that wait, threads, rows of a run. What is full refuses, and says when to
//!   come back. A caller that goes away frees its place at once.
//! - Nothing is run for nobody: rows whose deadline has passed or whose caller has gone are dropped before they are
//!   prepared, and under overload so are those that cannot be answered in time. [`former`] says how it chooses.
//! - An engine that panics fails its batch and is replaced; one that hangs holds up neither a drain beyond its grace
//!   nor, for more than a second, a drop. Its thread is left behind, since a thread cannot be ended from outside.
//! - The [`Former`] is pure. The rest reads no clock but the monotonic one, and knows no runtime: [`Answers`] is a
//!   plain future, and [`Answers::wait`] is for threads that may block.
//! - Schedulers that share a [`Budget`] run no more batches at one time than it has places, however many threads they
//!   have; one whose engine hangs holds the others up for a second a batch at most. While background work goes on
//!   beside them, such as loading a model, workers of idle priority are run by threads above that priority.
//!
//! Not here: how many CPUs the process may use (its owner knows the quota, and sets the budget and `instance_count`),
//! routing, warm-up, instruments and protobuf (the server turns [`Stats`] and errors into what it shows), decoding of
//! images (a row's [`Prepare`] step belongs to whoever submits it), and running inline, for which [`ExecutionPolicy`]
//! only says when.
//!
//! ```
//! use std::sync::Arc;
//!
//! use ev_batching::{Row, Scheduler, Settings, Urgency};
//! use ev_models_core::{HeadSignature, Instance, LoadError, Model, RunError, Tensor, Tensors};
//!
//! /// Doubles its one column.
//! struct Doubler(HeadSignature);
//! struct DoublerInstance(Tensors);
//!
//! impl Model for Doubler {
//!     fn signature(&self) -> &HeadSignature {
//!         &self.0
//!     }
//!     fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
//!         Ok(Box::new(DoublerInstance(Tensors::default())))
//!     }
//! }
//!
//! impl Instance for DoublerInstance {
//!     fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
//!         let values = batch[0].as_f32().unwrap_or_default().iter().map(|value| value * 2.0).collect();
//!         self.0 = Tensors::from(vec![Tensor::f32([batch[0].rows(), 1], values)]);
//!         Ok(&self.0)
//!     }
//! }
//!
//! let signature = HeadSignature { columns: 1, outputs: 1, description: "doubler".to_owned() };
//! let model: Arc<dyn Model> = Arc::new(Doubler(signature));
//! let scheduler = Scheduler::start("doubler", &model, Settings::default())?;
//!
//! let rows = Row::split(Tensors::from(vec![Tensor::f32([3, 1], vec![1.0, 2.0, 3.0])])).expect("three rows");
//! let answers = scheduler.submit(rows, Urgency::default())?.wait();
//! for (answer, expected) in answers.into_iter().zip([2.0, 4.0, 6.0]) {
//!     assert_eq!(answer?.outputs[0].as_f32(), Some(&[expected][..]));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod budget;
mod cost;
mod error;
pub mod former;
mod inputs;
mod place;
mod row;
mod scheduler;
mod seat;
mod settings;
mod shared;
mod stats;
mod tensors;
mod worker;

pub use answer::{Answer, RowResult, Timings};
pub use budget::{Background, Budget};
pub use cost::{Cost, Execution, ExecutionPolicy, INLINE_MAX};
pub use error::{Bound, PrepareError, RowError, StartError, SubmitError};
pub use former::{Cut, Former};
pub use inputs::{InputError, RowInputs};
pub use place::take_place;
pub use row::{Prepare, Row, RowShape, Scratch};
pub use scheduler::{Answers, Drained, Scheduler};
pub use settings::{Priority, Settings, SettingsError, Urgency, WorkerPriority};
pub use stats::{Cuts, Drops, Failures, Refusals, SizeStats, Stats};

use shared::Job;
