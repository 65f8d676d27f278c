//! Webhooks against a real HTTP server.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use ev_alerts::{
    Alert, AlertEvent, Alerts, AlertsConfig, Assessment, Cause, Notice, Report,
    webhook::{self, Roots, Secret, Webhook, WebhookConfig, WebhookStats},
};
use ev_domain::{RiskClass, Severity, VehicleId};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

const SECRET: &str = "a secret of the test";
const NOW_S: i64 = 1_800_000_000;

/// What came in: header by name, and body.
type Received = Arc<Mutex<Vec<(HashMap<String, String>, serde_json::Value)>>>;

/// Answers with these statuses, then with 200; `Retry-After: 0` on each.
async fn receiver(statuses: &[u16]) -> (SocketAddr, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let received: Received = Arc::default();
    let statuses = Arc::new(Mutex::new(statuses.iter().rev().copied().collect::<Vec<u16>>()));
    let seen = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, statuses) = (Arc::clone(&seen), Arc::clone(&statuses));
            let service = service_fn(move |request| answer(request, Arc::clone(&seen), Arc::clone(&statuses)));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, received)
}

async fn answer(
    request: Request<Incoming>,
    seen: Received,
    statuses: Arc<Mutex<Vec<u16>>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let headers: HashMap<String, String> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let header = headers.get(webhook::HEADER).cloned().unwrap_or_default();
    assert_eq!(webhook::verify(SECRET, &header, &body, NOW_S + 10, 60), Ok(()), "the signature");
    seen.lock().expect("alone").push((headers, serde_json::from_slice(&body).expect("JSON")));
    let status = statuses.lock().expect("alone").pop().unwrap_or(200);
    let mut response = Response::new(Full::new(Bytes::from_static(b"thanks")));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert("retry-after", http::HeaderValue::from_static("0"));
    Ok(response)
}

fn config(address: SocketAddr) -> WebhookConfig {
    WebhookConfig {
        backoff_min: Duration::from_millis(2),
        backoff_max: Duration::from_millis(10),
        timeout: Duration::from_millis(500),
        attempts_max: 4,
        ..WebhookConfig::new(format!("http://{address}/hook?fleet=1"), Secret::new(SECRET.to_owned()))
    }
}

fn start(alerts: &Alerts, config: WebhookConfig) -> (Arc<WebhookStats>, JoinHandle<()>) {
    let webhook = Webhook::new(config, Roots::none(), Arc::new(|| NOW_S), 5).expect("a configuration");
    (webhook.stats(), tokio::spawn(webhook.run(alerts.subscribe())))
}

fn alerts() -> Alerts {
    Alerts::new(AlertsConfig::default().life, 1)
}

fn report(alerts: &Alerts, name: &str, class: RiskClass) -> usize {
    let vehicle = VehicleId::new(name).expect("an id");
    let assessment = Assessment { class, cause: Cause::Onset, value: f32::NAN, limit: 129.0, time_us: 7 };
    alerts.report(&Report::of_rule(&vehicle, &assessment), 1_000_000)
}

#[tokio::test]
async fn events_arrive_signed() {
    let (address, received) = receiver(&[]).await;
    let alerts = alerts();
    let (stats, running) = start(&alerts, config(address));
    report(&alerts, "bus-1", RiskClass::Runaway);
    drop(alerts);
    running.await.expect("it ends once all is delivered");
    assert_eq!((stats.delivered(), stats.retried(), stats.dead_letters()), (1, 0, 0));
    let received = received.lock().expect("alone");
    let (headers, body) = &received[0];
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(body["happening"], "raised");
    assert_eq!(body["alert"]["vehicle_id"], "bus-1");
    assert_eq!(body["alert"]["severity"], "critical");
    assert_eq!(body["alert"]["action_id"], "stop_charging_isolate_evacuate");
    assert_eq!((&body["alert"]["value"], &body["alert"]["limit"]), (&serde_json::Value::Null, &129.0.into()));
    assert_eq!(body["id"], headers["evserve-event-id"].as_str());
}

#[tokio::test]
async fn failures_are_retried_with_the_same_id() {
    let (address, received) = receiver(&[503, 429, 500]).await;
    let alerts = alerts();
    let (stats, running) = start(&alerts, config(address));
    report(&alerts, "bus-1", RiskClass::Alarm);
    drop(alerts);
    running.await.expect("it ends");
    assert_eq!((stats.delivered(), stats.retried(), stats.dead_letters()), (1, 3, 0));
    let received = received.lock().expect("alone");
    assert_eq!(received.len(), 4);
    assert!(received.iter().all(|(_, body)| body["id"] == received[0].1["id"]));
}

#[tokio::test]
async fn what_is_refused_or_fails_too_often_is_given_up() {
    let check = |statuses: &'static [u16], attempts: usize| async move {
        let (address, received) = receiver(statuses).await;
        let alerts = alerts();
        let (stats, running) = start(&alerts, config(address));
        report(&alerts, "bus-1", RiskClass::Alarm);
        drop(alerts);
        running.await.expect("it ends");
        assert_eq!((stats.delivered(), stats.dead_letters()), (0, 1), "{statuses:?}");
        assert_eq!(received.lock().expect("alone").len(), attempts, "{statuses:?}");
    };
    check(&[400], 1).await;
    check(&[404], 1).await;
    check(&[301], 1).await;
    check(&[500, 500, 500, 500, 500], 4).await;
}

#[tokio::test]
async fn a_receiver_that_is_not_there_or_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = listener.local_addr().expect("an address");
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    for address in [gone, silent] {
        let alerts = alerts();
        let brief = WebhookConfig { timeout: Duration::from_millis(20), ..config(address) };
        let (stats, running) = start(&alerts, brief);
        report(&alerts, "bus-1", RiskClass::Alarm);
        drop(alerts);
        running.await.expect("it ends");
        assert_eq!((stats.delivered(), stats.retried(), stats.dead_letters()), (0, 3, 1));
    }
}

#[tokio::test]
async fn reporting_never_waits_and_what_waits_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = listener.local_addr().expect("an address");
    let alerts = alerts();
    let narrow = WebhookConfig {
        queue_max: 3,
        concurrency: 1,
        attempts_max: 1,
        timeout: Duration::from_millis(200),
        ..config(silent)
    };
    let (stats, running) = start(&alerts, narrow);
    for index in 0..10 {
        assert_eq!(report(&alerts, &format!("bus-{index}"), RiskClass::Alarm), 1);
        tokio::task::yield_now().await;
    }
    // Not severe enough for it.
    report(&alerts, "bus-10", RiskClass::Watch);
    alerts.tick(60_000_000);
    drop(alerts);
    running.await.expect("it ends");
    assert_eq!((stats.dead_letters(), stats.dropped(), stats.missed()), (4, 6, 0));
}

#[tokio::test]
async fn what_was_owed_is_delivered_and_what_is_settled_is_told() {
    let (address, received) = receiver(&[]).await;
    let alerts = alerts();
    let mut hearing = alerts.subscribe();
    report(&alerts, "bus-1", RiskClass::Alarm);
    let Some(Notice::Event(owed)) = hearing.next().await else { panic!("an event") };
    assert!(hearing.try_next().is_none());
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let tell = {
        let told = Arc::clone(&told);
        move |event: &AlertEvent| told.lock().expect("alone").push(event.alert.vehicle.as_str().to_owned())
    };
    // Room for one: the other, which is less severe, is dropped and told at once.
    let narrow = WebhookConfig { queue_max: 1, ..config(address) };
    let webhook = Webhook::new(narrow, Roots::none(), Arc::new(|| NOW_S), 5).expect("a configuration");
    let lesser = AlertEvent {
        alert: Alert {
            vehicle: VehicleId::new("bus-0").expect("an id"),
            severity: Severity::Low,
            ..owed.alert.clone()
        },
        ..(*owed).clone()
    };
    let webhook = webhook.telling(Arc::new(tell)).owing([(*owed).clone(), lesser]);
    assert_eq!(*told.lock().expect("alone"), ["bus-0"]);
    let subscription = alerts.subscribe();
    drop(alerts);
    webhook.run(subscription).await;
    assert_eq!(*told.lock().expect("alone"), ["bus-0", "bus-1"]);
    let received = received.lock().expect("alone");
    assert_eq!((received.len(), &received[0].1["alert"]["id"]), (1, &owed.alert.id.to_string().into()));
}

/// A receiver over TLS that accepts everything, with a certificate of its own for 127.0.0.1, and that certificate.
async fn tls_receiver() -> (SocketAddr, Received, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let received: Received = Arc::default();
    let seen = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                // One that does not trust it ends here.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| answer(request, Arc::clone(&seen), Arc::default()));
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, received, made.cert.pem())
}

#[tokio::test]
async fn events_go_over_tls_to_whom_the_authorities_know_and_to_nobody_else() {
    let (address, received, pem) = tls_receiver().await;
    let (_, _, of_another) = tls_receiver().await;
    let check = async |url: String, roots: Roots, delivered: u64| {
        let alerts = alerts();
        let https = WebhookConfig { url, ..config(address) };
        assert!(https.is_https());
        let webhook = Webhook::new(https, roots, Arc::new(|| NOW_S), 5).expect("a configuration");
        let (stats, running) = (webhook.stats(), tokio::spawn(webhook.run(alerts.subscribe())));
        report(&alerts, "bus-1", RiskClass::Runaway);
        drop(alerts);
        running.await.expect("it ends");
        assert_eq!((stats.delivered(), stats.dead_letters()), (delivered, 1 - delivered));
    };
    let roots = |pem: &str| Roots::from_pem(pem.as_bytes()).expect("a certificate");
    check(format!("https://{address}/hook"), roots(&pem), 1).await;
    // Another authority, none, and another name than the certificate's.
    check(format!("https://{address}/hook"), roots(&of_another), 0).await;
    check(format!("https://{address}/hook"), Roots::none(), 0).await;
    check(format!("https://localhost:{}/hook", address.port()), roots(&pem), 0).await;
    assert_eq!(received.lock().expect("alone").len(), 1, "nothing was said to who was not known");
}
