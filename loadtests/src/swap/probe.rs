//! A server with two versions of a model, and how much it can do.

use std::time::{Duration, Instant};

use ev_client::{Client, Config, RetryPolicy};

use super::{Bench, SwapError, refused, server::Server};
use crate::{
    Load, LoadError, Pace, Report,
    driver::{run, run_keeping},
    recorder::Sample,
};

/// The alias that requests go to.
pub(super) const PRODUCTION: &str = "production";
/// Time to find out how much fits.
const PROBE: Duration = Duration::from_secs(3);
/// In flight on each connection meanwhile.
const PROBE_IN_FLIGHT: usize = 16;
/// What the client sends at most, as share of what it got in a closed loop.
const CLIENT_SHARE: f64 = 0.8;
/// Most requests that wait for an answer: of more the client, or the server, is too slow for the load, and the test fails.
const IN_FLIGHT_MAX: usize = 4_096;
/// Not counted at the beginning of each run.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);

/// A server with two versions of the subject, both of which have been in production.
pub(super) struct Stage<'b> {
    pub(super) bench: &'b Bench,
    pub(super) server: Server,
    pub(super) client: Client,
    /// The first is in production.
    pub(super) versions: [u32; 2],
}

/// How much a server can do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Requests a second that would fill the server's processors.
    pub(super) per_second: f64,
    /// As many processors as it fills, whatever it may use: one for each serving thread, or each worker.
    pub(super) processors: f64,
    /// Requests a second that one client got in a closed loop, and the share of a processor that the server used for them.
    pub(super) closed_loop: (f64, f64),
}

// === impl Stage ===

impl<'b> Stage<'b> {
    /// Starts a server and has each version serve once, so that neither is judged again when it comes back.
    pub(super) async fn set(bench: &'b Bench) -> Result<Stage<'b>, SwapError> {
        let server = Server::start(&bench.place)?;
        let config = Config { retry: RetryPolicy::never(), ..Config::default() };
        let client = Client::connect_with(&server.address(), config).await.map_err(LoadError::Unreachable)?;
        let registry = client.registry();
        let versions =
            [bench.subject.register(&registry, "first").await?, bench.subject.register(&registry, "second").await?];
        for version in [versions[0], versions[1], versions[0]] {
            let moved = registry.set_alias(&bench.subject.model, PRODUCTION, version, None).await;
            moved.map_err(refused("serve a version"))?;
        }
        Ok(Stage { bench, server, client, versions })
    }

    /// Points an alias at a version, and waits until that serves.
    pub(super) async fn alias(&self, alias: &str, version: u32) -> Result<(), SwapError> {
        let moved = self.client.registry().set_alias(&self.bench.subject.model, alias, version, None).await;
        moved.map(|_| ()).map_err(refused("move an alias"))
    }

    /// What fills the server's processors: requests over the share of it that they take. The client may be too slow to fill
    /// it; what a request takes is known all the same. Asked twice, since requests that come one by one take more than
    /// those of a closed loop, for each of which the server is awake already.
    pub(super) async fn capacity(&self) -> Result<Capacity, SwapError> {
        let load = Load {
            pace: Pace::InFlight(PROBE_IN_FLIGHT),
            connections: self.bench.connections,
            warm_up: Duration::ZERO,
            duration: PROBE,
            ..self.bench.subject.load(self.server.address())
        };
        let (before, began) = (self.server.used()?, Instant::now());
        let report = run(&load).await?;
        let share = (self.server.used()? - before).as_secs_f64() / began.elapsed().as_secs_f64();
        let (asked, processors) = (report.per_second, share.round().max(1.0));
        let mut capacity = Capacity { per_second: asked * processors / share, processors, closed_loop: (asked, share) };
        let (report, _, busy) = self.load(self.rate(&capacity), PROBE).await?;
        capacity.per_second = report.per_second * processors / busy;
        Ok(capacity)
    }

    /// Requests a second of the load: what was asked for, as far as the client can send it on time.
    pub(super) fn rate(&self, capacity: &Capacity) -> f64 {
        let most = CLIENT_SHARE * capacity.closed_loop.0;
        self.bench.rate.unwrap_or((self.bench.load * capacity.per_second).min(most))
    }

    /// Loads the server for a while; gives every answer, and the share of a processor that it used.
    pub(super) async fn load(&self, rate: f64, duration: Duration) -> Result<(Report, Vec<Sample>, f64), SwapError> {
        let load = Load {
            pace: Pace::Rate(rate),
            in_flight_max: IN_FLIGHT_MAX,
            connections: self.bench.connections,
            warm_up: WARM_UP,
            duration,
            ..self.bench.subject.load(self.server.address())
        };
        let (before, began) = (self.server.used()?, Instant::now());
        let (report, samples) = run_keeping(&load).await?;
        // Threads that have ended since are not in it.
        let used = self.server.used()?.saturating_sub(before);
        Ok((report, samples, used.as_secs_f64() / began.elapsed().as_secs_f64()))
    }
}
