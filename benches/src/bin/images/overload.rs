//! What is left of the throughput when more comes than can be answered.

use ev_benches::median;

use crate::question::{Kind, Setting, verdict};

/// Least share of the capacity that is still answered.
const GOODPUT: f64 = 0.90;
/// Offered, as multiples of the capacity.
const TIMES: [f64; 3] = [2.0, 5.0, 10.0];
/// Callers of the closed loop that finds the capacity: enough to fill batches.
const CALLERS: usize = 16;

impl Setting {
    /// Open loop at multiples of the capacity.
    pub(crate) fn overload(&self) -> anyhow::Result<()> {
        println!(
            "\n| offered, times the capacity | offered/s | answered/s | of the capacity | at least | refused | resident MB | |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        let server = self.server("0", &["batching.max_queue_size=64".to_owned()])?;
        // Answers come in batches: a short time would count one more or one less.
        let callers = CALLERS.to_string();
        let closed = ["--in-flight", &callers, "--warm-up", "1s", "--duration", "6s"];
        let capacity = || self.pictures(&server, "1", Kind::Photo, &closed).map(|report| report.per_second);
        for times in TIMES {
            let (mut shares, mut reports) = (Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                // Found again each time: the machine's speed is not constant.
                let before = capacity()?;
                let rate = format!("{:.1}", before * times);
                let arguments = ["--rate", &rate, "--warm-up", "3s", "--duration", "8s", "--failed-share-max", "1"];
                let report = self.pictures(&server, "1", Kind::Photo, &arguments)?;
                shares.push(report.per_second / ((before + capacity()?) / 2.0));
                reports.push(report);
            }
            let share = median(shares);
            let of = |value: fn(&ev_benches::grpc::LoadReport) -> f64| median(reports.iter().map(value).collect());
            let answered = of(|report| report.per_second);
            println!(
                "| {times} | {:.0} | {answered:.1} | {share:.2} | {GOODPUT} | {:.0} % | {} | {} |",
                of(|report| report.sent_per_second),
                100.0 * of(|report| report.failed / report.sent),
                server.resident()? / 1_000_000,
                verdict(share >= GOODPUT),
            );
        }
        Ok(())
    }
}
