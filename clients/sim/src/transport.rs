//! What happens to batches on their way.

use fastrand::Rng;

use crate::{Batch, Fault, FaultKind};

/// A vehicle's way to the server, with its faults.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    faults: Vec<Fault>,
    random: Rng,
}

// === impl Transport ===

impl Transport {
    pub(crate) fn new(faults: Vec<Fault>, seed: u64) -> Transport {
        Transport { faults, random: Rng::with_seed(seed) }
    }

    /// What arrives of a batch that was sent at a time of the simulation.
    pub(crate) fn carry(&mut self, mut batch: Batch, now_s: f64) -> Vec<Batch> {
        let mut copies = 1;
        for fault in self.faults.iter().filter(|fault| now_s >= fault.at_s) {
            match &fault.kind {
                FaultKind::ClockSkew(seconds) => {
                    #[expect(clippy::cast_possible_truncation, reason = "saturates, which is as wrong as any skew")]
                    let skew_us = (seconds * 1e6) as i64;
                    batch.times_us.iter_mut().for_each(|time| *time = time.saturating_add(skew_us));
                }
                FaultKind::Gap(seconds) if now_s < fault.at_s + seconds => copies = 0,
                FaultKind::Duplicate => copies *= 2,
                FaultKind::Garbage => {
                    for column in &mut batch.columns {
                        for value in &mut column.values {
                            if self.random.f64() < 0.3 {
                                *value = [f32::NAN, f32::INFINITY, -1e30, 1e9, 65535.0][self.random.usize(0..5)];
                            }
                        }
                    }
                }
                FaultKind::Gap(_) | FaultKind::InternalShort(_) | FaultKind::StuckSensor(_) => {}
            }
        }
        let resend = Batch { is_resend: true, ..batch.clone() };
        let mut arriving = vec![batch];
        arriving.resize(copies, resend);
        arriving
    }
}
