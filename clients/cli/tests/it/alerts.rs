//! `evctl alerts` against the real server.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use ev_client::{Client, proto::ev::thermal::v1::ListAlertsRequest};
use serde_json::Value;

use crate::support::{Run, evctl, real::RealServer};

fn lines(run: &Run) -> Vec<Value> {
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn server() -> Option<RealServer> {
    RealServer::start_with(&[("EVSERVE_ALERTS__LIFE__RAISE_AFTER__MEDIUM", "0s")])
}

/// The alert that a nearly empty vehicle raises.
fn raise(server: &RealServer, vehicle: &str) -> Value {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("drive.csv");
    fs_err::write(&file, "time,soc\n0,10\n").expect("written");
    let file = file.display().to_string();
    let arguments = ["telemetry", "send", &file, "--vehicle", vehicle, "--speed", "max", "--ingest", &server.ingest];
    let run = evctl(&server.url, &arguments);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // A watch tells what is open, or what happens next: there is no moment to miss.
    let arguments = ["-o", "json", "alerts", "watch", "--vehicle", vehicle, "--count", "1"];
    lines(&evctl(&server.url, &arguments)).remove(0)["alert"].take()
}

/// `evctl alerts watch` while it runs.
struct Watch {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

// === impl Watch ===

impl Watch {
    fn start(server: &str, arguments: &[&str]) -> Watch {
        let mut child = Command::new(env!("CARGO_BIN_EXE_evctl"))
            .args(["alerts", "watch"])
            .args(arguments)
            .env("EVCTL_SERVER", server)
            .stdout(Stdio::piped())
            .spawn()
            .expect("evctl starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Watch { child, stdout }
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        let bytes = self.stdout.read_line(&mut line).expect("UTF-8");
        (bytes > 0).then_some(line)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_alert_is_seen_and_acknowledged() {
    let Some(server) = server() else { return };
    let alert = raise(&server, "car-1");
    let id = alert["id"].as_str().expect("an id");
    assert_eq!((&alert["vehicle_id"], &alert["value"], &alert["limit"]), (&"car-1".into(), &10.0.into(), &15.0.into()));
    assert_eq!(
        (&alert["severity"], &alert["topic"]),
        (&"SEVERITY_MEDIUM".into(), &"ALERT_TOPIC_STATE_OF_CHARGE".into())
    );

    let ids = |arguments: &[&str]| {
        let listed = lines(&evctl(&server.url, &[&["-o", "json", "alerts", "list"], arguments].concat()));
        listed.iter().map(|alert| alert["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--open", "--vehicle", "car-1", "--topic", "state-of-charge", "--severity-min", "medium"]), [id]);
    for others in [["--vehicle", "car-2"], ["--topic", "thermal"], ["--severity-min", "high"]] {
        assert!(ids(&others).is_empty(), "{others:?}");
    }
    let table = evctl(&server.url, &["alerts", "list"]).stdout;
    for part in ["car-1", "MEDIUM", "state-of-charge", "10 %, limit 15 %", "Charge the vehicle", "open", id] {
        assert!(table.contains(part), "{part}: {table}");
    }

    let mut watch = Watch::start(&server.url, &["--vehicle", "car-1", "--count", "2"]);
    let open = watch.next().expect("a line");
    assert!(open.contains("state-of-charge open") && open.contains(id), "{open}");
    let run = evctl(&server.url, &["alerts", "ack", id, "--by", "night shift", "--note", "on it"]);
    assert!(run.code == 0 && run.stdout.contains("acknowledged by night shift"), "{}{}", run.stdout, run.stderr);
    let run = evctl(&server.url, &["alerts", "ack", id, "--by", "day shift"]);
    assert!(run.stdout.contains("by night shift") && run.stderr.contains("acknowledged before"), "{}", run.stderr);
    assert!(evctl(&server.url, &["alerts", "list", "--open"]).stdout.contains("night shift"));
    let known = watch.next().expect("a line");
    assert!(known.contains("state-of-charge acknowledged") && known.contains("by night shift  on it"), "{known}");
    assert_eq!(watch.next(), None, "two events were asked for");
}

#[test]
fn the_newest_alerts_come_first() {
    let Some(server) = server() else { return };
    let [_, newest] = ["car-1", "car-2"].map(|vehicle| raise(&server, vehicle));
    let run = evctl(&server.url, &["alerts", "list", "--limit", "1"]);
    assert!(run.stdout.contains("car-2") && !run.stdout.contains("car-1"), "{}", run.stdout);
    assert!(run.stderr.contains("there are more than 1 alerts"), "{}", run.stderr);
    let run = evctl(&server.url, &["alerts", "list", "--limit", "2"]);
    assert!(run.stdout.lines().count() == 3 && run.stderr.is_empty(), "{}{}", run.stdout, run.stderr);
    let listed = lines(&evctl(&server.url, &["-o", "json", "alerts", "list", "--limit", "1"]));
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &newest["id"]));
}

#[tokio::test]
async fn the_client_follows_pages_to_the_last() {
    let Some(server) = server() else { return };
    let mut raised = ["car-1", "car-2", "car-3"].map(|vehicle| raise(&server, vehicle)["id"].to_string());
    raised.reverse();
    let client = Client::connect(&server.url).await.expect("connected");
    let mut pages = client.thermal().list_alerts(ListAlertsRequest { page_size: 1, ..ListAlertsRequest::default() });
    let mut listed = Vec::new();
    while let Some(page) = pages.next().await.expect("a page") {
        assert!(page.alerts.len() <= 1);
        listed.extend(page.alerts.into_iter().map(|alert| format!("{:?}", alert.id)));
    }
    assert_eq!(listed, raised);
}

#[test]
fn wrong_acknowledgements_say_what_to_do() {
    let Some(server) = RealServer::start() else { return };
    let check = |arguments: &[&str], expected: &[&str]| {
        let run = evctl(&server.url, &[&["alerts"], arguments].concat());
        let named = expected.iter().all(|expected| run.stderr.contains(expected));
        assert!(run.code == 1 && named, "{}: {}{}", run.code, run.stdout, run.stderr);
    };
    let unknown = "01994d6e-0000-7000-8000-000000000000";
    check(&["ack", unknown, "--by", "me"], &["UNKNOWN_ALERT", "evctl alerts list"]);
    check(&["ack", "17", "--by", "me"], &["`17`", "evctl alerts list"]);
    check(&["ack", unknown, "--by", &"x".repeat(200)], &["--by", "200 bytes", "evctl alerts ack --help"]);
    check(&["list", "--vehicle", "a b"], &["a b", "evctl telemetry vehicles"]);
    let none = evctl(&server.url, &["alerts", "list"]).stdout;
    assert!(none.contains("evctl alerts watch"), "{none}");
}
