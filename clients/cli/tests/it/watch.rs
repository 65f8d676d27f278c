//! What `evctl` shows as it happens, over deaths of the server it watches.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    evctl,
    model::{MODEL, version},
    real::{RealServer, free},
    watching::Watching,
};

/// A data directory, and where its server is watched.
struct Place {
    home: TempDir,
    grpc: SocketAddr,
}

// === impl Place ===

impl Place {
    fn new() -> Place {
        Place { home: tempfile::tempdir().expect("a directory"), grpc: free() }
    }

    fn start(&self) -> Option<RealServer> {
        self.start_at(self.grpc)
    }

    fn start_at(&self, grpc: SocketAddr) -> Option<RealServer> {
        self.start_with(grpc, &[("EVSERVE_DATA__BUNDLED_MODELS", "false")])
    }

    fn start_with(&self, grpc: SocketAddr, settings: &[(&str, &str)]) -> Option<RealServer> {
        RealServer::start_on(&self.home.path().join("data"), grpc, free(), settings)
    }

    /// Sends a recording as this vehicle's.
    fn send(&self, server: &RealServer, vehicle: &str, recording: &str) {
        let file = self.home.path().join("recording.csv");
        fs_err::write(&file, recording).expect("written");
        let file = file.display().to_string();
        let to = ["--ingest", &server.ingest, "--vehicle", vehicle, "--speed", "max", "--as-if-now"];
        done(&server.url, &[&["telemetry", "send", &file], &to[..]].concat());
    }

    /// Waits until alerts' journal says something: from then on a death does not take it back.
    fn journalled(&self, words: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        let journal = || fs_err::read_to_string(self.home.path().join("data/alerts/alerts.journal"));
        while !journal().is_ok_and(|text| text.contains(words)) {
            assert!(Instant::now() < end, "the journal does not say `{words}`");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the server, has others do something with it where nobody watches, and starts it again.
    fn behind_the_back(&self, server: RealServer, work: impl FnOnce(&str)) -> RealServer {
        server.kill();
        let elsewhere = self.start_at(free()).expect("it was there before");
        work(&elsewhere.url);
        elsewhere.kill();
        self.start().expect("it was there before")
    }
}

/// Bundled models have no part in this, and alerts come and go with readings.
const ALERTS: [(&str, &str); 3] = [
    ("EVSERVE_DATA__BUNDLED_MODELS", "false"),
    ("EVSERVE_ALERTS__LIFE__RAISE_AFTER__MEDIUM", "0s"),
    ("EVSERVE_ALERTS__LIFE__LOWER_AFTER", "1s"),
];
/// A vehicle that is nearly empty, and one that is not.
const EMPTY: &str = "time,soc\n0,10\n";
const FILLED: &str = "time,soc\n0,60\n";

/// The id of a vehicle's alert, once there is one in this state.
fn alert(url: &str, vehicle: &str, state: &str) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let listed = evctl(url, &["-o", "json", "alerts", "list", "--vehicle", vehicle]);
        let alerts = listed.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        if let Some(alert) = alerts.into_iter().find(|alert| alert["state"] == state) {
            return alert["id"].as_str().expect("an id").to_owned();
        }
        assert!(Instant::now() < end, "{vehicle} has no alert that is {state}: {}", listed.stdout);
    }
}

/// Sends a vehicle's readings until the watch shows one: it sees what comes after it has begun.
fn shown(place: &Place, server: &RealServer, watching: &Watching, vehicle: &str, recording: &str) -> String {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        place.send(server, vehicle, recording);
        if let Some(line) = watching.line_within(Duration::from_millis(500)) {
            return line;
        }
        assert!(Instant::now() < end, "nothing is shown of {vehicle}");
    }
}

/// Runs a command that has to succeed.
fn done(url: &str, arguments: &[&str]) {
    let run = evctl(url, arguments);
    assert_eq!(run.code, 0, "{arguments:?}: {}{}", run.stdout, run.stderr);
}

fn import(url: &str, description: &str, arguments: &[&str]) {
    let directory = version(description);
    let path = directory.path().display().to_string();
    done(url, &[&["models", "import", &path], arguments].concat());
}

#[test]
fn changes_are_told_once_over_a_death_of_the_server() {
    let place = Place::new();
    let Some(server) = place.start() else { return };
    import(&server.url, "First.", &["--alias", "production"]);
    let watching = Watching::start(&server.url, &["models", "watch", MODEL, "--after", "0"]);
    let mut lines = watching.lines_to("set_alias");
    assert!(lines.iter().any(|line| line.contains("judge") && line.contains(" gates, none failed")), "{lines:?}");
    let server = place.behind_the_back(server, |url| {
        done(url, &["models", "pin", MODEL, "1", "--reason", "in the report"]);
        done(url, &["models", "unpin", MODEL, "1"]);
    });
    lines.extend(watching.lines_to("unpin"));
    watching.note("the connection is lost (");
    watching.note("connected again");
    done(&server.url, &["models", "alias", MODEL, "canary", "1"]);
    lines.extend(watching.lines_to("canary"));
    assert!(lines.iter().any(|line| line.contains(" pin ") && line.ends_with("in the report")), "{lines:?}");
    let rows: Vec<u64> = lines.iter().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    assert_eq!(rows.len(), lines.len(), "{lines:?}");
    assert!(rows.is_sorted_by(|a, b| a < b), "a row was told twice, or out of order: {lines:?}");
    let last = rows.last().expect("rows").to_string();
    let all = evctl(&server.url, &["-o", "json", "models", "audit", MODEL]);
    assert_eq!(all.stdout.matches("\"sequence\"").count(), rows.len(), "up to row {last}: {}", all.stdout);
}

#[test]
fn a_rollout_is_watched_over_a_death_of_the_server() {
    let place = Place::new();
    let Some(server) = place.start() else { return };
    import(&server.url, "First.", &["--alias", "production"]);
    import(&server.url, "Second.", &[]);
    done(&server.url, &["rollout", "start", MODEL, "2", "--step", "5:1h"]);
    let watching = Watching::start(&server.url, &["rollout", "watch", MODEL]);
    watching.lines_to("canary, step 1 of 1, 5 % of the requests");
    let server = place.behind_the_back(server, |url| {
        done(url, &["rollout", "pause", MODEL, "--reason", "lunch"]);
        done(url, &["rollout", "resume", MODEL, "--reason", "coffee"]);
    });
    watching.note("the connection is lost (");
    watching.note("connected again");
    let meanwhile = [watching.line(), watching.line()];
    assert!(meanwhile[0].contains("paused") && meanwhile[0].contains("lunch"), "{meanwhile:?}");
    assert!(meanwhile[1].contains("canary, step 1 of 1, 5 %") && meanwhile[1].contains("coffee"), "{meanwhile:?}");
    done(&server.url, &["rollout", "promote", MODEL, "--reason", "enough"]);
    let (code, lines) = watching.end();
    assert_eq!((code, lines.len()), (0, 1), "{lines:?}");
    assert!(lines[0].contains("promoted") && lines[0].contains("enough"), "{lines:?}");

    // By its id, not by its model: another one is the model's newest when the connection is there again.
    done(&server.url, &["rollout", "start", MODEL, "1", "--step", "5:1h"]);
    let watching = Watching::start(&server.url, &["rollout", "watch", MODEL]);
    watching.lines_to("canary");
    let server = place.behind_the_back(server, |url| {
        done(url, &["rollout", "abort", MODEL, "--reason", "wrong one"]);
        done(url, &["rollout", "start", MODEL, "1", "--step", "10:1h"]);
    });
    let (code, lines) = watching.end();
    assert_eq!((code, lines.len()), (1, 1), "{lines:?}");
    assert!(lines[0].contains("aborted") && lines[0].contains("wrong one"), "{lines:?}");
    server.kill();
}

#[test]
fn alerts_are_told_once_over_a_death_of_the_server() {
    let place = Place::new();
    let start = |grpc| place.start_with(grpc, &ALERTS);
    let Some(server) = start(place.grpc) else { return };
    let raise = |server: &RealServer, vehicle: &str| {
        place.send(server, vehicle, EMPTY);
        alert(&server.url, vehicle, "ALERT_STATE_OPEN")
    };
    let end = |server: &RealServer, vehicle: &str| {
        place.send(server, vehicle, FILLED);
        alert(&server.url, vehicle, "ALERT_STATE_ENDED")
    };
    raise(&server, "car-0");
    end(&server, "car-0");
    raise(&server, "car-1");
    place.journalled(&raise(&server, "car-2"));
    let watching = Watching::start(&server.url, &["alerts", "watch"]);
    let scripted = Watching::start(&server.url, &["-o", "json", "alerts", "watch"]);
    let mut lines = vec![watching.line(), watching.line()];
    let mut messages = vec![scripted.line(), scripted.line()];

    server.kill();
    let elsewhere = start(free()).expect("it was there before");
    let known = alert(&elsewhere.url, "car-1", "ALERT_STATE_OPEN");
    done(&elsewhere.url, &["alerts", "ack", &known, "--by", "night shift"]);
    end(&elsewhere, "car-2");
    raise(&elsewhere, "car-3");
    end(&elsewhere, "car-3");
    let last = raise(&elsewhere, "car-4");
    place.journalled(&last);
    elsewhere.kill();
    let server = start(place.grpc).expect("it was there before");

    watching.note("the connection is lost (");
    watching.note("connected again");
    lines.extend([(); 4].map(|()| watching.line()));
    done(&server.url, &["alerts", "ack", &last, "--by", "day shift"]);
    lines.push(watching.lines_to("day shift").join("|"));
    let told = |line: &String| {
        let mut words = line.split_whitespace().skip_while(|word| !word.starts_with("car-"));
        (words.next().unwrap_or_default().to_owned(), words.nth(1).unwrap_or_default().to_owned())
    };
    let mut told: Vec<(String, String)> = lines.iter().map(told).collect();
    let (before, meanwhile) = (told.drain(..2).collect::<Vec<_>>(), told);
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(vehicle, what)| ((*vehicle).to_owned(), (*what).to_owned())).collect()
    };
    let mut sorted = before;
    sorted.sort();
    assert_eq!(sorted, pairs(&[("car-1", "open"), ("car-2", "open")]));
    let expected =
        [("car-1", "open"), ("car-2", "ended"), ("car-3", "ended"), ("car-4", "open"), ("car-4", "acknowledged")];
    assert_eq!(meanwhile, pairs(&expected), "{lines:?}");

    // The same for scripts, whose standard error can be parsed as well.
    messages.extend([(); 5].map(|()| scripted.line()));
    let parsed = |line: &String| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    let vehicles: Vec<Value> = messages[2..].iter().map(|line| parsed(line)["alert"]["vehicle_id"].clone()).collect();
    assert_eq!(vehicles, ["car-1", "car-2", "car-3", "car-4", "car-4"]);
    let note = || parsed(&scripted.next_note())["note"].as_str().unwrap_or_default().to_owned();
    assert!(note().starts_with("the connection is lost ("));
    while note() != "connected again" {}
    server.kill();
}

#[test]
fn readings_are_shown_over_a_death_of_the_server() {
    let place = Place::new();
    let Some(server) = place.start() else { return };
    let watching = Watching::start(&server.url, &["telemetry", "tail", "car-1"]);
    let scripted = Watching::start(&server.url, &["-o", "json", "telemetry", "tail", "car-1"]);
    let drive = "time,soc\n0,80\n";
    assert!(shown(&place, &server, &watching, "car-1", drive).contains("80 %"));
    shown(&place, &server, &scripted, "car-1", drive);
    server.kill();
    let server = place.start().expect("it was there before");
    watching.note("the connection is lost (");
    watching.note("readings that came meanwhile may be missing: see them with evctl telemetry query");
    scripted.note("{\"note\":\"the connection is lost (");
    scripted.note("{\"note\":\"connected again");
    place.send(&server, "car-1", "time,soc\n0,70\n");
    watching.lines_to("70 %");
    let seen = scripted.lines_to("70.0");
    assert!(seen.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{seen:?}");
    server.kill();
}

#[test]
fn predictions_are_shown_over_a_death_of_the_server() {
    let place = Place::new();
    let start = || place.start_with(place.grpc, &[]);
    let Some(server) = start() else { return };
    let rest: String = std::iter::once(
        "time,Vehicle.Powertrain.TractionBattery.Temperature.Max,Vehicle.Powertrain.TractionBattery.CellVoltage.Min\n"
            .to_owned(),
    )
    .chain((0..20).map(|second| format!("{second},25.0,3.74\n")))
    .collect();
    let arguments = ["predict", "thermal", "--watch", "--vehicle", "car-1"];
    let watching = Watching::start(&server.url, &arguments);
    let scripted = Watching::start(&server.url, &[&["-o", "json"], &arguments[..]].concat());
    assert!(shown(&place, &server, &watching, "car-1", &rest).contains("NORMAL"));
    shown(&place, &server, &scripted, "car-1", &rest);
    server.kill();
    let server = start().expect("it was there before");
    for watching in [&watching, &scripted] {
        watching.note("the connection is lost (");
        watching.note("connected again");
        watching.note("predictions that were renewed meanwhile are not shown");
        // Of those that came before the end, some may still be unread.
        while watching.line_within(Duration::ZERO).is_some() {}
    }
    assert!(shown(&place, &server, &watching, "car-1", &rest).contains("NORMAL"));
    let line = shown(&place, &server, &scripted, "car-1", &rest);
    let reply: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(reply["assessment"]["risk_class"], "RISK_CLASS_NORMAL");
    server.kill();
}
