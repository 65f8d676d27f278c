//! Alerts, who acknowledged them and what webhooks owe, over `kill -9` and a full disk.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use ev_alerts::webhook;
use ev_proto::ev::thermal::v1::{
    AcknowledgeAlertRequest, Alert, AlertFilter, AlertState, Severity, thermal_risk_client::ThermalRiskClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::transport::Channel;

use crate::{
    alerts::{CALM, Gateway, list, runaway},
    support::{disk::SmallDisk, process::Evserve, server::Endpoint},
};

const SECRET: &str = "a secret of the test";
/// No models: they are not what is restarted.
const SETTINGS: [(&str, &str); 1] = [("data.bundled_models", "false")];

async fn thermal(server: &Evserve) -> ThermalRiskClient<Channel> {
    ThermalRiskClient::new(server.endpoint().channel().await)
}

/// Looks every 20 ms whether something holds, for half a minute.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1_500 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within half a minute: {what}");
}

fn open_ones() -> AlertFilter {
    AlertFilter { state: AlertState::Open.into(), ..AlertFilter::default() }
}

async fn critical(client: &mut ThermalRiskClient<Channel>) -> Alert {
    eventually("a critical alert", async || {
        list(client, open_ones()).await.into_iter().find(|alert| alert.severity() == Severity::Critical)
    })
    .await
}

fn journal(data: &Path) -> String {
    fs_err::read_to_string(data.join("alerts/alerts.journal")).unwrap_or_default()
}

/// Until the file says it: from then on it survives.
async fn written(data: &Path, text: &str) {
    eventually(text, async || journal(data).contains(text).then_some(())).await;
}

fn logged(server: &Evserve, message: &str) -> bool {
    let messages = server.logs();
    messages.iter().any(|line| line["fields"]["message"].as_str().is_some_and(|text| text.starts_with(message)))
}

/// A receiver that accepts everything; what it was sent, once the signature was checked.
async fn receive(address: SocketAddr) -> Arc<Mutex<Vec<serde_json::Value>>> {
    let received: Arc<Mutex<Vec<serde_json::Value>>> = Arc::default();
    let listener = TcpListener::bind(address).await.expect("the address is free again");
    let seen = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::clone(&seen)));
        }
    });
    received
}

async fn answer(mut stream: TcpStream, seen: Arc<Mutex<Vec<serde_json::Value>>>) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
            };
            let length: usize = header("content-length").and_then(|text| text.parse().ok()).expect("a length");
            if body.len() >= length {
                let signature = header(webhook::HEADER).expect("signed");
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
                let now = i64::try_from(now.as_secs()).expect("small");
                assert_eq!(webhook::verify(SECRET, &signature, &body.as_bytes()[..length], now, 60), Ok(()));
                seen.lock().expect("no panic").push(serde_json::from_str(&body[..length]).expect("JSON"));
                bytes.clear();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("answered");
                continue;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

#[tokio::test]
async fn an_alert_goes_on_after_a_kill_and_is_delivered_then() {
    let data = tempfile::tempdir().expect("a folder");
    // Nobody listens there yet.
    let receiver = TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a port");
    let config = format!(
        "[[alerts.webhooks]]\nurl = \"http://{receiver}/hook\"\nsecret = \"{SECRET}\"\nattempts_max = 100\nbackoff_min = \"50ms\"\nbackoff_max = \"100ms\"\n"
    );
    fs_err::write(data.path().join("evserve.toml"), config).expect("written");

    let server = Evserve::start(data.path(), &SETTINGS).await;
    let mut client = thermal(&server).await;
    let gateway = Gateway::open(server.endpoint()).await;
    gateway.send("bus-1", 1, 0, &[CALM; 300]).await;
    gateway.send("bus-1", 2, 300, &runaway()).await;
    let raised = critical(&mut client).await;
    let request = AcknowledgeAlertRequest { id: raised.id.clone(), by: "night shift".into(), note: "on it".into() };
    client.acknowledge_alert(request).await.expect("acknowledged");
    written(data.path(), "night shift").await;
    server.kill().await;

    let server = Evserve::start(data.path(), &SETTINGS).await;
    let mut client = thermal(&server).await;
    let open = list(&mut client, open_ones()).await;
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!((&open[0].id, open[0].severity()), (&raised.id, Severity::Critical));
    let acknowledgement = open[0].acknowledgement.clone().expect("kept");
    assert_eq!((acknowledgement.by.as_str(), acknowledgement.note.as_str()), ("night shift", "on it"));
    assert!(logged(&server, "alerts go on from before"));

    // What was owed is delivered, each event once, in order, and then owed no longer.
    let received = receive(receiver).await;
    let owed = usize::try_from(open[0].revision).expect("small");
    eventually("deliveries", async || (received.lock().expect("no panic").len() >= owed).then_some(())).await;
    let revisions = |received: &[serde_json::Value]| {
        let mut found: Vec<u64> = received.iter().filter_map(|event| event["alert"]["revision"].as_u64()).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(revisions(&received.lock().expect("no panic")), (1..=owed as u64).collect::<Vec<_>>());
    assert!(received.lock().expect("no panic").iter().all(|event| event["alert"]["id"] == *raised.id));
    eventually("settled", async || {
        let text = journal(data.path());
        (text.matches("\"settled\"").count() == owed).then_some(())
    })
    .await;

    // The pack is as it was: nothing is raised a second time.
    let gateway = Gateway::open(server.endpoint()).await;
    let mut burning = CALM;
    burning[0] = 140.0;
    gateway.send("bus-1", 3, 330, &[burning; 8]).await;
    gateway.send("bus-2", 1, 0, &[CALM; 300]).await;
    gateway.send("bus-2", 2, 300, &runaway()).await;
    eventually("another pack's alert", async || {
        list(&mut client, open_ones()).await.into_iter().find(|alert| alert.vehicle_id == "bus-2")
    })
    .await;
    let of_the_first = AlertFilter { vehicle_id: "bus-1".into(), ..AlertFilter::default() };
    let all = list(&mut client, of_the_first).await;
    assert_eq!(all.iter().map(|alert| &alert.id).collect::<Vec<_>>(), [&raised.id]);
    server.kill().await;
}

/// A cell's voltage is down by 9 % after five minutes of rest: when that is told, and for what.
async fn told_of_a_drop(is_killed: bool) -> Alert {
    let data = tempfile::tempdir().expect("a folder");
    let mut server = Evserve::start(data.path(), &SETTINGS).await;
    let mut gateway = Gateway::open(server.endpoint()).await;
    gateway.send("bus-1", 1, 0, &[CALM; 300]).await;
    let stored = async |endpoint: Endpoint, series: &str| {
        eventually(series, async || (endpoint.metric(series).await >= 300.0).then_some(())).await;
    };
    stored(server.endpoint(), "ev_telemetry_readings_stored_total").await;
    if is_killed {
        server.kill().await;
        server = Evserve::start(data.path(), &SETTINGS).await;
        stored(server.endpoint(), "ev_features_readings_replayed_total").await;
        let started = gateway.started;
        gateway = Gateway::open(server.endpoint()).await;
        gateway.started = started;
    }
    let mut dropped = CALM;
    dropped[1] *= 0.91;
    gateway.send("bus-1", 2, 300, &[dropped; 10]).await;
    let mut client = thermal(&server).await;
    let mut alert = eventually("an alarm", async || {
        list(&mut client, open_ones()).await.into_iter().find(|alert| alert.severity() == Severity::High)
    })
    .await;
    if let Some(time) = &mut alert.event_time {
        time.seconds -= gateway.started;
    }
    server.kill().await;
    alert
}

#[tokio::test]
async fn the_rule_knows_after_a_kill_what_voltages_were_before() {
    let (whole, killed) = tokio::join!(told_of_a_drop(false), told_of_a_drop(true));
    let told = |alert: &Alert| (alert.sign.clone(), alert.value, alert.limit, alert.event_time);
    assert_eq!(told(&killed), told(&whole));
    assert_eq!(whole.sign, "voltage_drop");
}

#[tokio::test]
async fn an_end_in_good_order_keeps_everything_too() {
    let data = tempfile::tempdir().expect("a folder");
    let mut server = Evserve::start(data.path(), &SETTINGS).await;
    let gateway = Gateway::open(server.endpoint()).await;
    gateway.send("bus-1", 1, 0, &[CALM; 300]).await;
    gateway.send("bus-1", 2, 300, &runaway()).await;
    let raised = critical(&mut thermal(&server).await).await;
    drop(gateway);
    server.terminate().await;
    assert!(server.exited().await.success());
    let server = Evserve::start(data.path(), &SETTINGS).await;
    let open = list(&mut thermal(&server).await, open_ones()).await;
    assert_eq!(open.iter().map(|alert| &alert.id).collect::<Vec<_>>(), [&raised.id]);

    // A second process is kept out.
    let other = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(data.path().join("alerts"), other.path().join("alerts")).expect("linked");
    let mut second = Evserve::spawn(other.path(), &SETTINGS);
    assert!(!second.exited().await.success());
    // Its last words may be on their way still.
    eventually("what is in use", async || {
        format!("{:?}", second.logs()).contains("alerts.lock is in use").then_some(())
    })
    .await;
    server.kill().await;
}

#[tokio::test]
async fn a_damaged_journal_is_told_and_set_aside() {
    let data = tempfile::tempdir().expect("a folder");
    fs_err::create_dir_all(data.path().join("alerts")).expect("made");
    fs_err::write(data.path().join("alerts/alerts.journal"), "what is this?").expect("written");
    let server = Evserve::start(data.path(), &SETTINGS).await;
    assert!(logged(&server, "the journal of alerts is not one"));
    assert_eq!(fs_err::read_to_string(data.path().join("alerts/alerts.damaged")).expect("aside"), "what is this?");
    assert!(list(&mut thermal(&server).await, open_ones()).await.is_empty());
    // And a new one is begun.
    written(data.path(), "\"format\"").await;
    server.kill().await;
}

#[tokio::test]
async fn a_full_disk_costs_alerts_only_that_they_are_not_kept() {
    let Some(disk) = SmallDisk::mount("1m") else { return };
    let data = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(disk.path(), data.path().join("alerts")).expect("linked");
    let server = Evserve::start(data.path(), &SETTINGS).await;
    written(data.path(), "\"format\"").await;
    disk.fill(0);
    let mut client = thermal(&server).await;
    let gateway = Gateway::open(server.endpoint()).await;
    // More than fits where the file has room already.
    for number in 0..12 {
        let vehicle = format!("bus-{number}");
        gateway.send(&vehicle, 1, 0, &[CALM; 300]).await;
        gateway.send(&vehicle, 2, 300, &runaway()).await;
    }
    let last = AlertFilter { vehicle_id: "bus-11".into(), ..open_ones() };
    let raised = eventually("an alert", async || list(&mut client, last.clone()).await.into_iter().next()).await;
    eventually("the log", async || logged(&server, "alerts cannot be kept on the disk").then_some(())).await;
    assert!(!journal(data.path()).contains(&raised.id));

    disk.free();
    written(data.path(), &raised.id).await;
    eventually("the log", async || logged(&server, "alerts are kept on the disk again").then_some(())).await;
    server.kill().await;
    let server = Evserve::start(data.path(), &SETTINGS).await;
    let open = list(&mut thermal(&server).await, open_ones()).await;
    assert_eq!(open.len(), 12);
    assert!(open.iter().any(|alert| alert.id == raised.id));
    server.kill().await;
}
