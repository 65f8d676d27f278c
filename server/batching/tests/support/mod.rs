//! A toy model whose answer for a row depends on that row's values alone, and misbehaves when told to.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use ev_batching::{Scheduler, Settings};
use ev_models_core::{HeadSignature, Instance, LoadError, Model, RunError, Tensor, Tensors};

/// A row with this value makes the run panic.
pub(crate) const PANICS: f32 = -1.0;
/// A row with this value makes the run fail.
pub(crate) const FAILS: f32 = -2.0;
/// A row with this value makes the run end only when the gate is opened.
pub(crate) const HANGS: f32 = -3.0;

/// A thread's place among the others, as Linux says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) nice: i64,
    /// 0: `SCHED_OTHER`, 5: `SCHED_IDLE`.
    pub(crate) policy: i64,
}

/// The toy, as the engine of any number of instances.
pub(crate) struct Toy {
    signature: HeadSignature,
    pub(crate) behaviour: Arc<Behaviour>,
}

/// What the instances do, and what they did.
#[derive(Default)]
pub(crate) struct Behaviour {
    /// Each run takes at least this long.
    pub(crate) slow: Mutex<Duration>,
    pub(crate) gate: Gate,
    /// No instance can be made.
    pub(crate) broken: AtomicBool,
    pub(crate) instances: AtomicUsize,
    pub(crate) live: AtomicUsize,
    pub(crate) runs: Mutex<Vec<usize>>,
    /// Name and place of the threads that ran.
    pub(crate) threads: Mutex<Vec<(String, Place)>>,
}

/// Closed until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    waiting: Mutex<usize>,
    open: Mutex<bool>,
    changed: Condvar,
}

struct ToyInstance {
    behaviour: Arc<Behaviour>,
    outputs: Tensors,
}

/// What the toy gives for a row.
pub(crate) fn expected(row: &[f32]) -> [f32; 2] {
    let sum: f32 = row.iter().enumerate().map(|(column, value)| value * (column as f32 + 1.0)).sum();
    [sum, sum.sin()]
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock().expect("sound") = true;
        self.changed.notify_all();
    }

    /// How many wait at it.
    pub(crate) fn waiting(&self) -> usize {
        *self.waiting.lock().expect("sound")
    }

    fn pass(&self) {
        let open = self.open.lock().expect("sound");
        *self.waiting.lock().expect("sound") += 1;
        drop(self.changed.wait_while(open, |open| !*open).expect("sound"));
        *self.waiting.lock().expect("sound") -= 1;
    }
}

impl Toy {
    pub(crate) fn new() -> Arc<Toy> {
        let signature = HeadSignature { columns: 1, outputs: 2, description: "toy".to_owned() };
        Arc::new(Toy { signature, behaviour: Arc::default() })
    }

    pub(crate) fn start(self: &Arc<Toy>, settings: Settings) -> Scheduler {
        let model: Arc<dyn Model> = Arc::clone(self) as Arc<dyn Model>;
        Scheduler::start("toy", &model, settings).expect("started")
    }
}

impl Model for Toy {
    fn signature(&self) -> &HeadSignature {
        &self.signature
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
        if self.behaviour.broken.load(SeqCst) {
            return Err(LoadError::Engine { backend: "toy", reason: "broken".to_owned() });
        }
        self.behaviour.instances.fetch_add(1, SeqCst);
        self.behaviour.live.fetch_add(1, SeqCst);
        Ok(Box::new(ToyInstance { behaviour: Arc::clone(&self.behaviour), outputs: Tensors::default() }))
    }
}

impl Instance for ToyInstance {
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
        let rows = batch[0].rows();
        self.behaviour.runs.lock().expect("sound").push(rows);
        self.behaviour.threads.lock().expect("sound").push((name(), place()));
        let slow = *self.behaviour.slow.lock().expect("sound");
        if !slow.is_zero() {
            std::thread::sleep(slow);
        }
        let values = batch[0].as_f32().expect("float32");
        assert_eq!(batch[0].shape.iter().product::<usize>(), values.len());
        assert!(!values.contains(&PANICS), "told to");
        if values.contains(&FAILS) {
            return Err(RunError::Engine { backend: "toy", reason: "told to".to_owned() });
        }
        if values.contains(&HANGS) {
            self.behaviour.gate.pass();
        }
        let width = values.len() / rows;
        let outputs: Vec<f32> = values.chunks(width.max(1)).flat_map(expected).collect();
        self.outputs = Tensors::from(vec![
            Tensor::f32([rows, 2], outputs),
            Tensor::f32([rows], values.iter().step_by(width.max(1)).copied().collect()),
        ]);
        Ok(&self.outputs)
    }
}

impl Drop for ToyInstance {
    fn drop(&mut self) {
        self.behaviour.live.fetch_sub(1, SeqCst);
    }
}

fn name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

/// The 19th and 41st fields of the thread's status, where the system shows it.
fn place() -> Place {
    let status = fs_err::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let fields: Vec<&str> = status.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse().ok()).unwrap_or_default();
    Place { nice: field(19), policy: field(41) }
}

/// Waits for something that other threads bring about.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::yield_now();
    }
}
