//! A worker's seat: the instance that sits there, and what is done when it panics.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use ev_models_core::{Instance, Model, RunError, Tensors};

use crate::tensors;

/// Pause after the second failure in a row; each further one doubles it.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause: an engine that recovers is back within this time.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// One instance and its replacement.
pub(crate) struct Seat {
    model: Arc<dyn Model>,
    instance: Option<Box<dyn Instance>>,
    /// Panics and failed replacements since the last run that ended.
    failures: u32,
}

/// A run that gave no rows.
pub(crate) enum Failure {
    /// The engine refused the batch.
    Run(Arc<RunError>),
    /// An output does not have a row for each row of the batch.
    Output { output: usize, found: Vec<usize> },
    /// The engine panicked, saying this.
    Panicked(String),
}

// === impl Seat ===

impl Seat {
    pub(crate) fn new(model: Arc<dyn Model>, instance: Box<dyn Instance>) -> Seat {
        Seat { model, instance: Some(instance), failures: 0 }
    }

    /// Runs a batch, and splits what it gives by row.
    pub(crate) fn run(&mut self, batch: &Tensors, rows: usize) -> Result<Vec<Tensors>, Failure> {
        let Some(instance) = &mut self.instance else {
            return Err(Failure::Panicked("the instance was not replaced yet".to_owned()));
        };
        let ran = catch_unwind(AssertUnwindSafe(|| match instance.run(batch) {
            Ok(outputs) => tensors::split(outputs, rows)
                .map_err(|output| Failure::Output { output, found: outputs[output].shape.clone() }),
            Err(error) => Err(Failure::Run(Arc::new(error))),
        }));
        match ran {
            Ok(result) => {
                self.failures = 0;
                result
            }
            Err(panic) => {
                self.failures = self.failures.saturating_add(1);
                self.vacate();
                Err(Failure::Panicked(message(panic)))
            }
        }
    }

    /// True when the seat is empty.
    pub(crate) fn is_vacant(&self) -> bool {
        self.instance.is_none()
    }

    /// Puts a new instance into an empty seat; false when the engine made none.
    pub(crate) fn fill(&mut self) -> bool {
        let model = &self.model;
        match catch_unwind(AssertUnwindSafe(|| model.instantiate())) {
            Ok(Ok(instance)) => {
                self.instance = Some(instance);
                true
            }
            Ok(Err(_)) | Err(_) => {
                self.failures = self.failures.saturating_add(1);
                false
            }
        }
    }

    /// How long to pause before the seat is used again.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let doublings = self.failures.checked_sub(2)?;
        Some(BACKOFF_MIN.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(BACKOFF_MAX))
    }

    fn vacate(&mut self) {
        // What an instance that panicked does when it is dropped is not to be relied upon either.
        let instance = self.instance.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(instance)));
    }
}

/// What a panic said.
pub(crate) fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    // Dropping the payload may panic in its turn.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    text.unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        struct Never;
        impl Model for Never {
            fn signature(&self) -> &ev_models_core::HeadSignature {
                unreachable!("nobody asks")
            }
            fn instantiate(&self) -> Result<Box<dyn Instance>, ev_models_core::LoadError> {
                panic!("never")
            }
        }
        let check = |failures: u32, expected: Option<u64>| {
            let seat = Seat { model: Arc::new(Never), instance: None, failures };
            assert_eq!(seat.pause(), expected.map(Duration::from_millis), "{failures}");
        };
        check(0, None);
        check(1, None);
        check(2, Some(50));
        check(3, Some(100));
        check(8, Some(3_200));
        check(9, Some(5_000));
        check(u32::MAX, Some(5_000));
        let mut seat = Seat { model: Arc::new(Never), instance: None, failures: 1 };
        assert!(!seat.fill() && seat.is_vacant() && seat.pause().is_some());
    }
}
