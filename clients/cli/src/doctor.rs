//! `evctl doctor`: every check that can be made from outside, and what to do.

use std::time::{Duration, SystemTime};

use ev_client::{Client, Code, Error, ServingStatus, proto::ev::registry::v1::VersionState};
use serde::Serialize;

use crate::{
    cli::GlobalOptions,
    exit::Exit,
    failure::Failure,
    output::Output,
    style::{BAD, GOOD, WARN},
    table::{Cell, Table},
};

/// Services whose health depends on a model, by the name that people and health use; the others are checked by use.
const SERVICES: [(&str, &str); 5] = [
    ("range", "ev.range.v1.RangePrediction"),
    ("utilization", "ev.charging.v1.ChargingUtilization"),
    ("battery", "ev.battery.v1.BatteryHealth"),
    ("thermal", "ev.thermal.v1.ThermalRisk"),
    ("image", "ev.vision.v1.VehicleVision"),
];

/// Pings of which the median is taken.
const PINGS: usize = 5;
/// A round trip above this deserves a look.
const SLOW: Duration = Duration::from_millis(50);
/// Clocks apart by more than this deserve a look; the server tells whole seconds.
const SKEW: Duration = Duration::from_secs(3);

/// What is wrong, all in all.
#[derive(Debug, Serialize)]
struct Diagnosis {
    ok: bool,
    checks: Vec<Check>,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    result: CheckResult,
    found: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum CheckResult {
    Ok,
    Warn,
    Fail,
}

pub(crate) async fn run(global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
    let mut checks = Vec::new();
    match Client::connect_with(&global.server, global.config()).await {
        Err(error @ Error::Unreachable { .. }) => {
            let advice = "start one with: make demo, or correct --server";
            checks.push(Check::fail("connection", error.to_string(), advice));
        }
        Err(error) => return Err(error.into()),
        Ok(client) => {
            checks.push(Check::ok("connection", format!("to {}", global.server)));
            examine(&client, &mut checks).await;
        }
    }
    let ok = checks.iter().all(|check| check.result != CheckResult::Fail);
    let diagnosis = Diagnosis { ok, checks };
    output.answer(&diagnosis, || render(&diagnosis))?;
    Ok(if ok { Exit::Ok } else { Exit::Failed })
}

async fn examine(client: &Client, checks: &mut Vec<Check>) {
    checks.extend(pings(client).await);
    checks.push(version(client).await);
    checks.push(readiness(client).await);
    for (name, service) in SERVICES {
        checks.push(health(client, name, service).await);
    }
    match client.registry().list_models().await {
        Err(error) => checks.push(Check::fail("models", error.to_string(), "see the server's log")),
        Ok(models) if models.is_empty() => {
            checks.push(Check::warn("models", "none", "import one with: evctl models import DIR --alias production"));
        }
        Ok(models) => checks.extend(models.iter().map(model)),
    }
}

/// Latency, and the clock that came with it.
async fn pings(client: &Client) -> Vec<Check> {
    let mut round_trips = Vec::new();
    let mut server_time = None;
    for _ in 0..PINGS {
        match client.ping().await {
            Err(error) => return vec![Check::fail("latency", error.to_string(), "see the server's log")],
            Ok(ping) => {
                round_trips.push(ping.round_trip);
                server_time = ping.server_time;
            }
        }
    }
    round_trips.sort();
    vec![latency(round_trips[PINGS / 2]), clock(server_time, SystemTime::now())]
}

fn latency(round_trip: Duration) -> Check {
    let found = format!("{:.1} ms for a round trip", round_trip.as_secs_f64() * 1e3);
    if round_trip > SLOW {
        return Check::warn("latency", found, "is the network far or the server busy?");
    }
    Check::ok("latency", found)
}

fn clock(server: Option<SystemTime>, here: SystemTime) -> Check {
    let Some(server) = server else { return Check::ok("clock", "the server does not tell its time") };
    let (apart, word) = match server.duration_since(here) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if apart <= SKEW {
        return Check::ok("clock", "agrees with this machine's");
    }
    let found = format!("{} {word} this machine's", humantime::format_duration(Duration::from_secs(apart.as_secs())));
    Check::warn("clock", found, "synchronise both clocks (NTP): times in answers are the server's")
}

async fn version(client: &Client) -> Check {
    match client.open_inference().server_metadata().await {
        Err(error) if error.code() == Some(Code::Unimplemented) => {
            Check::warn("version", "the server does not speak the Open Inference Protocol", "is it of another version?")
        }
        Err(error) => Check::fail("version", error.to_string(), "is this an evserve server?"),
        Ok(server) => {
            let found = format!("{} {}", server.name, server.version);
            if server.version == env!("CARGO_PKG_VERSION") {
                return Check::ok("version", found);
            }
            Check::warn("version", found, concat!("evctl is ", env!("CARGO_PKG_VERSION"), "; use the same version"))
        }
    }
}

async fn readiness(client: &Client) -> Check {
    match client.open_inference().server_ready().await {
        Ok(true) => Check::ok("ready", "no production model is being loaded"),
        Ok(false) => Check::fail("ready", "a production model is still being loaded", "wait, and see the models below"),
        Err(error) if error.code() == Some(Code::Unimplemented) => {
            Check::warn("ready", "the server does not say", "see the services and models below")
        }
        Err(error) => Check::fail("ready", error.to_string(), "see the server's log"),
    }
}

async fn health(client: &Client, name: &str, service: &str) -> Check {
    let name = format!("service {name}");
    match client.health().check(service).await {
        Ok(ServingStatus::Serving) => Check::ok(name, "serving"),
        Ok(_) => Check::fail(name, "not serving", "is its model loaded? see: evctl models list"),
        Err(error) if error.code() == Some(Code::NotFound) => {
            Check::warn(name, "the server has no such service", "is it of another version?")
        }
        Err(error) => Check::fail(name, error.to_string(), "see the server's log"),
    }
}

fn model(model: &ev_client::proto::ev::registry::v1::Model) -> Check {
    let name = format!("model {}", model.name);
    let Some(version) = &model.production else {
        let latest = model.latest.as_ref().map_or(1, |latest| latest.version);
        let advice = format!("let it serve with: evctl models alias {} production {latest}", model.name);
        return Check::warn(name, "no version is in production", advice);
    };
    let found = format!("version {}", version.version);
    match version.state() {
        VersionState::Ready => Check::ok(name, format!("{found} is ready")),
        VersionState::Loading => Check::warn(name, format!("{found} is loading"), "wait a moment and look again"),
        VersionState::Failed => Check::fail(
            name,
            format!("{found} cannot be loaded: {}", version.state_reason),
            format!("check its files with: evctl models verify {}:{}", model.name, version.version),
        ),
        VersionState::Registered | VersionState::Unspecified => {
            Check::fail(name, format!("{found} is not loaded"), "see the server's log")
        }
    }
}

fn render(diagnosis: &Diagnosis) -> String {
    let mut table = Table::new(["check", "result", "found", "what to do"]);
    for Check { name, result, found, advice } in &diagnosis.checks {
        let result = match result {
            CheckResult::Ok => Cell::styled("ok", GOOD),
            CheckResult::Warn => Cell::styled("WARN", WARN),
            CheckResult::Fail => Cell::styled("FAIL", BAD),
        };
        table.row([name.into(), result, found.into(), advice.into()]);
    }
    let count = |wanted| diagnosis.checks.iter().filter(|check| check.result == wanted).count();
    let last = match (count(CheckResult::Fail), count(CheckResult::Warn)) {
        (0, 0) => format!("{GOOD}all is well{GOOD:#}"),
        (0, warnings) => format!("{WARN}it works; {warnings} to look at{WARN:#}"),
        (failures, _) => format!("{BAD}{failures} failed{BAD:#}"),
    };
    format!("{}\n{last}", table.render())
}

// === impl Check ===

impl Check {
    fn new(name: impl Into<String>, result: CheckResult, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { name: name.into(), result, found: found.into(), advice: advice.into() }
    }

    fn ok(name: impl Into<String>, found: impl Into<String>) -> Check {
        Check::new(name, CheckResult::Ok, found, "")
    }

    fn warn(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check::new(name, CheckResult::Warn, found, advice)
    }

    fn fail(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check::new(name, CheckResult::Fail, found, advice)
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        let here = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let check = |server: SystemTime, result, found: &str| {
            let check = clock(Some(server), here);
            assert_eq!((check.result, check.found.as_str()), (result, found));
        };
        check(here - Duration::from_secs(1), CheckResult::Ok, "agrees with this machine's");
        check(here + Duration::from_secs(75), CheckResult::Warn, "1m 15s ahead of this machine's");
        check(here - Duration::from_secs(60), CheckResult::Warn, "1m behind this machine's");
    }

    #[test]
    fn failures_are_counted_and_advised() {
        let diagnosis = Diagnosis {
            ok: false,
            checks: vec![Check::ok("connection", "to x"), Check::fail("ready", "no", "see the models below")],
        };
        assert_eq!(
            strip_str(&render(&diagnosis)).to_string(),
            "\
CHECK        RESULT   FOUND   WHAT TO DO
connection   ok       to x
ready        FAIL     no      see the models below

1 failed"
        );
        assert_eq!(
            serde_json::to_string(&diagnosis).expect("encoded"),
            "{\"ok\":false,\"checks\":[{\"name\":\"connection\",\"result\":\"ok\",\"found\":\"to x\"},\
             {\"name\":\"ready\",\"result\":\"fail\",\"found\":\"no\",\"advice\":\"see the models below\"}]}"
        );
    }
}
