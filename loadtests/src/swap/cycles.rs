//! Does memory stay what it was after a thousand loads and unloads?

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    Bench, SwapError,
    probe::{PRODUCTION, Stage},
};

/// Time for what was replaced to be freed before memory is looked at.
const SETTLE: Duration = Duration::from_millis(1_500);
/// Loads and unloads after which memory is what later samples are held against.
const WARMED: u32 = 10;
/// Samples after that.
const SAMPLES: u32 = 20;

/// Memory after so many loads and unloads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MemorySample {
    /// Loads and unloads before.
    pub cycle: u32,
    /// `VmRSS` in bytes.
    pub resident: u64,
    /// `Pss` in bytes.
    pub proportional: u64,
}

/// What a test of loads and unloads found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CyclesReport {
    /// The model.
    pub model: String,
    /// Loads and unloads.
    pub cycles: u32,
    /// Memory after the tenth, and then at even distances.
    pub memory: Vec<MemorySample>,
    /// From the call of a swap to its answer, the mean.
    pub swap_ms: f64,
}

/// Loads one version and unloads the other, again and again.
///
/// # Errors
///
/// [`SwapError`].
pub async fn run_cycles(
    bench: &Bench,
    cycles: u32,
    mut progress: impl FnMut(&MemorySample),
) -> Result<CyclesReport, SwapError> {
    let stage = Stage::set(bench).await?;
    let (mut memory, mut swapping) = (Vec::new(), Duration::ZERO);
    for cycle in 1..=cycles {
        let began = std::time::Instant::now();
        stage.alias(PRODUCTION, stage.versions[usize::from(cycle % 2 == 1)]).await?;
        swapping += began.elapsed();
        if cycle == WARMED || cycle == cycles || cycle % (cycles / SAMPLES).max(1) == 0 {
            tokio::time::sleep(SETTLE).await;
            let found = stage.server.memory()?;
            let sample = MemorySample { cycle, resident: found.resident, proportional: found.proportional };
            progress(&sample);
            memory.push(sample);
        }
    }
    let swap_ms = swapping.as_secs_f64() * 1e3 / f64::from(cycles.max(1));
    Ok(CyclesReport { model: bench.subject.model.clone(), cycles, memory, swap_ms })
}

// === impl CyclesReport ===

impl CyclesReport {
    /// Memory at the end over that after the tenth load and unload; NaN where there were fewer.
    #[must_use]
    pub fn growth(&self) -> f64 {
        let tenth = self.memory.iter().find(|sample| sample.cycle == WARMED);
        match (tenth, self.memory.last()) {
            (Some(tenth), Some(last)) => mb(last.resident) / mb(tenth.resident),
            _ => f64::NAN,
        }
    }

    /// One sentence for each promise that was not kept.
    #[must_use]
    pub fn broken(&self, growth_max: f64) -> Vec<String> {
        let growth = self.growth();
        if growth <= growth_max {
            return Vec::new();
        }
        let cycles = self.cycles;
        vec![format!(
            "memory after {cycles} loads is {growth:.3} times that after the tenth, expected at most {growth_max}"
        )]
    }
}

impl fmt::Display for MemorySample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemorySample { cycle, resident, proportional } = *self;
        write!(f, "{cycle:>6} loads: VmRSS {:>7.1} MB, Pss {:>7.1} MB", mb(resident), mb(proportional))
    }
}

impl fmt::Display for CyclesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CyclesReport { model, cycles, swap_ms, .. } = self;
        writeln!(f, "{model}: {cycles} loads and unloads, {swap_ms:.1} ms each")?;
        for sample in &self.memory {
            writeln!(f, "{sample}")?;
        }
        writeln!(f, "the last over the tenth: {:.3}", self.growth())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a process has less than 2^52 bytes")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cycles: &[(u32, u64)]) -> CyclesReport {
        let sample =
            |(cycle, resident): &(u32, u64)| MemorySample { cycle: *cycle, resident: *resident, proportional: 0 };
        let memory = cycles.iter().map(sample).collect();
        CyclesReport { model: "m".to_owned(), cycles: 100, memory, swap_ms: 1.0 }
    }

    #[test]
    fn the_last_is_held_against_the_tenth() {
        let check = |cycles: &[(u32, u64)], is_kept: bool| {
            assert_eq!(report(cycles).broken(1.05).is_empty(), is_kept, "{cycles:?}");
        };
        check(&[(5, 10), (10, 100), (100, 105)], true);
        check(&[(5, 10), (10, 100), (100, 106)], false);
        check(&[(10, 100), (50, 120), (100, 90)], true);
        check(&[(100, 100)], false);
        check(&[], false);
    }
}
