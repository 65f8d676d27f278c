//! `evctl models watch` and `evctl rollout watch` over deaths of the server they watch.

use std::net::SocketAddr;

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
        let settings = [("EVSERVE_DATA__BUNDLED_MODELS", "false")];
        RealServer::start_on(&self.home.path().join("data"), grpc, free(), &settings)
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
