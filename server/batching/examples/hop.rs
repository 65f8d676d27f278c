//! What a hop to a worker and back costs beside running inline: `cargo run --release -p ev-batching --example hop`.
//!
//! One caller, one row at a time, an idle worker: the worst case, in which nothing is shared with other rows.

use std::{
    error::Error,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use ev_batching::{INLINE_MAX, Row, Scheduler, Settings, Urgency, WorkerPriority};
use ev_models_core::{HeadSignature, Instance, LoadError, Model, RunError, Tensor, Tensors};

const PAIRS: usize = 9;
const CALLS: u32 = 2_000;

/// Computes for a set time, and gives back what it got.
struct Busy {
    signature: HeadSignature,
    work: Duration,
}

struct BusyInstance(Duration, Tensors);

impl Model for Busy {
    fn signature(&self) -> &HeadSignature {
        &self.signature
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
        Ok(Box::new(BusyInstance(self.work, Tensors::default())))
    }
}

impl Instance for BusyInstance {
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
        let until = Instant::now() + self.0;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        self.1.clone_from(batch);
        Ok(&self.1)
    }
}

fn row() -> Tensors {
    Tensors::from(vec![Tensor::f32([1, 16], vec![0.5; 16])])
}

fn per_call(mut call: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let started = Instant::now();
    for _ in 0..CALLS {
        call()?;
    }
    Ok(started.elapsed() / CALLS)
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("work       inline     queued     hop        queued / inline (median of {PAIRS} pairs)");
    for work in [Duration::ZERO, Duration::from_micros(20), INLINE_MAX, Duration::from_millis(1)] {
        let signature = HeadSignature { columns: 16, outputs: 16, description: "busy".to_owned() };
        let model: Arc<dyn Model> = Arc::new(Busy { signature, work });
        let scheduler = Scheduler::start(
            "hop",
            &model,
            Settings { worker_priority: WorkerPriority::Normal, ..Settings::default() },
        )?;
        let mut instance = model.instantiate()?;
        let mut pairs = Vec::with_capacity(PAIRS);
        for _ in 0..PAIRS {
            let inline = per_call(|| {
                black_box(instance.run(&row())?.to_vec());
                Ok(())
            })?;
            let queued = per_call(|| {
                let rows = Row::split(row()).ok_or("one row")?;
                for result in scheduler.submit(rows, Urgency::default())?.wait() {
                    drop(black_box(result?));
                }
                Ok(())
            })?;
            pairs.push((queued.as_secs_f64() / inline.as_secs_f64(), inline, queued));
        }
        pairs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, inline, queued) = pairs[PAIRS / 2];
        let hop = queued.saturating_sub(inline);
        println!("{work:<10?} {inline:<10.1?} {queued:<10.1?} {hop:<10.1?} {ratio:.2}");
    }
    Ok(())
}
