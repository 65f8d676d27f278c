//! Logged requests that a version answers before it serves: what callers really send, beside its golden requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Deployment;
use crate::pipeline::{PredictError, Seen, Want, predict_row};

/// Most time spent on them: a row of a bundled model takes microseconds.
const TIME_MAX: Duration = Duration::from_secs(1);

/// What became of logged requests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rehearsed {
    /// Requests that were answered.
    pub(super) answered: usize,
    /// Requests that this version refuses, as it takes other inputs, or other values.
    pub(super) refused: usize,
    /// What it said to the first of these.
    pub(super) refusal: String,
}

/// Runs requests that a version of this model has answered, the newest first. Blocking.
///
/// A request that is refused is no fault: another version may take other inputs. One that the engine fails or panics at is.
///
/// # Errors
///
/// Which request was failed, and how.
pub(super) fn rehearse(deployment: &Deployment, rows: &[Arc<Seen>]) -> Result<Rehearsed, String> {
    let (mut rehearsed, until) = (Rehearsed::default(), Instant::now() + TIME_MAX);
    // Of pictures nothing is kept that could be run again.
    let rows = if deployment.pictures().is_some() { &[] } else { rows };
    for seen in rows.iter().rev() {
        match predict_row(deployment, Want::Estimate, |row| seen.fill(deployment.plan(), row)) {
            Ok(_) => rehearsed.answered += 1,
            Err(error @ (PredictError::Backend(_) | PredictError::Panicked)) => {
                let (id, version) = (seen.id, seen.served.version);
                let how = match &error {
                    PredictError::Backend(source) => source.to_string(),
                    _ => "it panicked".to_owned(),
                };
                return Err(format!("logged request {id}, which version {version} has answered: {error}: {how}"));
            }
            Err(error) => {
                rehearsed.refused += 1;
                if rehearsed.refused == 1 {
                    rehearsed.refusal = error.to_string();
                }
            }
        }
        if Instant::now() > until {
            break;
        }
    }
    Ok(rehearsed)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ev_models_core::{
        ArtifactDir, Backend, HeadSignature, Instance, LoadError, LoadOptions, Manifest, Model, RunError, Tensor,
        Tensors,
    };
    use uuid::Uuid;

    use super::*;
    use crate::pipeline::{InputValue, Observer};

    const MANIFEST: &str = r#"
[model]
name = "adder"
task = "generic"
description = "Adds."
backend = "forest"
license = "Apache-2.0"
[[inputs]]
name = "x"
dtype = "FP32"
[[heads]]
name = "point"
file = "model.ubj"
[[outputs]]
name = "y"
kind = "prediction"
"#;

    /// What it does with rows from 100 on.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Beyond {
        Adds,
        Fails,
        Panics,
        Dawdles,
    }

    struct Engine(Beyond);
    struct Adder(HeadSignature, Beyond);
    struct AdderInstance(Tensors, Beyond);

    impl Backend for Engine {
        fn name(&self) -> &'static str {
            "forest"
        }

        fn load(&self, _: &ArtifactDir, _: &LoadOptions) -> Result<Arc<dyn Model>, LoadError> {
            let signature = HeadSignature { columns: 1, outputs: 1, description: "adder".to_owned() };
            Ok(Arc::new(Adder(signature, self.0)))
        }
    }

    impl Model for Adder {
        fn signature(&self) -> &HeadSignature {
            &self.0
        }

        fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
            Ok(Box::new(AdderInstance(Tensors::default(), self.1)))
        }
    }

    impl Instance for AdderInstance {
        fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
            let values = batch[0].as_f32().expect("float32");
            if values.iter().any(|value| *value >= 100.0) {
                match self.1 {
                    Beyond::Adds => {}
                    Beyond::Fails => {
                        return Err(RunError::Engine { backend: "forest", reason: "too large for it".to_owned() });
                    }
                    Beyond::Panics => panic!("as it does"),
                    Beyond::Dawdles => std::thread::sleep(Duration::from_millis(300)),
                }
            }
            let values: Vec<f32> = values.iter().map(|value| value + 1.0).collect();
            let tensor = Tensor::f32([values.len(), 1], values);
            self.0 = Tensors::from(vec![tensor.clone(), tensor]);
            Ok(&self.0)
        }
    }

    fn deployment(manifest: &str, version: u32, beyond: Beyond) -> Deployment {
        let manifest = Manifest::parse(manifest).expect("a manifest");
        let loaded =
            Deployment::load(&Engine(beyond), manifest, version, "sha256:0".into(), &ArtifactDir::default(), 1);
        loaded.expect("loaded")
    }

    #[derive(Default)]
    struct Kept(Mutex<Vec<Arc<Seen>>>);

    impl Observer for Kept {
        fn offer(&self, seen: &Arc<Seen>) {
            self.0.lock().expect("no panic").push(Arc::clone(seen));
        }
    }

    /// Rows that a version answers, as observers are shown them.
    fn answered(values: &[f32]) -> Vec<Arc<Seen>> {
        let (production, kept) = (deployment(MANIFEST, 1, Beyond::Adds), Arc::new(Kept::default()));
        production.tap().listen("test", 1.0, Arc::clone(&kept) as _);
        for value in values {
            let outcome = predict_row(&production, Want::Estimate, |row| row.input(0, InputValue::Number(*value)));
            production.tap().show(production.served(), Uuid::nil(), 0, &outcome.expect("answered"));
        }
        let kept = kept.0.lock().expect("no panic").clone();
        assert_eq!(kept.len(), values.len());
        kept
    }

    #[test]
    fn what_another_version_answered_must_not_fail() {
        let check = |values: &[f32], beyond: Beyond, expected: Result<usize, &str>| {
            let found = rehearse(&deployment(MANIFEST, 2, beyond), &answered(values));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!((found.answered, found.refused), (expected, 0)),
                (Err(found), Err(expected)) => {
                    assert!(found.contains("which version 1 has answered") && found.contains(expected), "{found}");
                }
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
        };
        check(&[], Beyond::Panics, Ok(0));
        check(&[1.0, 2.0], Beyond::Panics, Ok(2));
        check(&[1.0, 200.0], Beyond::Adds, Ok(2));
        check(&[1.0, 200.0, 2.0], Beyond::Fails, Err("too large for it"));
        check(&[200.0], Beyond::Panics, Err("it panicked"));
        // No longer than it may take, whatever there is: the newest.
        let many = rehearse(&deployment(MANIFEST, 2, Beyond::Dawdles), &answered(&[200.0; 64])).expect("answered");
        assert!((1..64).contains(&many.answered), "{many:?}");
    }

    #[test]
    fn a_version_may_refuse_what_another_took() {
        let ranged = MANIFEST.replace("dtype = \"FP32\"", "dtype = \"FP32\"\nrange = [0.0, 10.0]");
        let found = rehearse(&deployment(&ranged, 2, Beyond::Adds), &answered(&[5.0, 50.0])).expect("not failed");
        assert_eq!((found.answered, found.refused), (1, 1));
        assert!(found.refusal.contains('x') && found.refusal.contains("50"), "{found:?}");
    }
}
