//! The newest logged rows of each model, in memory, for versions that are about to serve.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::pipeline::Seen;

/// Rows that are kept of a model, some hundred bytes each.
pub(crate) const ROWS_MAX: usize = 64;
/// Models of which rows are kept; of others none are.
const MODELS_MAX: usize = 256;

/// The newest rows of each model.
#[derive(Default)]
pub(super) struct Recent(Mutex<HashMap<String, Arc<Rows>>>);

/// The newest rows of one model, the newest last.
#[derive(Default)]
pub(super) struct Rows(Mutex<VecDeque<Arc<Seen>>>);

// === impl Recent ===

impl Recent {
    /// Where a model's rows go; none beyond the models of which rows are kept.
    pub(super) fn of(&self, model: &str) -> Option<Arc<Rows>> {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if models.len() >= MODELS_MAX && !models.contains_key(model) {
            return None;
        }
        Some(Arc::clone(models.entry(model.to_owned()).or_default()))
    }
}

// === impl Rows ===

impl Rows {
    fn all(&self) -> MutexGuard<'_, VecDeque<Arc<Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a row, and forgets the oldest beyond the most. Of the log's thread: nobody who predicts waits.
    pub(super) fn push(&self, seen: &Arc<Seen>) {
        let mut rows = self.all();
        while rows.len() >= ROWS_MAX {
            rows.pop_front();
        }
        rows.push_back(Arc::clone(seen));
    }

    pub(super) fn copied(&self) -> Vec<Arc<Seen>> {
        self.all().iter().cloned().collect()
    }
}
