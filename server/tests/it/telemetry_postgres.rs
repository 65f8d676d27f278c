//! Telemetry in PostgreSQL: kept there by configuration, shared by replicas, and there after it was away.

use std::{error::Error as _, net::SocketAddr, time::Duration};

use ev_proto::ev::telemetry::v1::{Durability, ListVehiclesRequest, Open, VehicleSequence, stream_response::Message};

use crate::{
    support::{
        fleet::Fleet,
        postgres::Postgres,
        process::{Evserve, free_port, run},
        server::{TestServer, start_in},
    },
    telemetry::{Gateway, batch, open, queries, query},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_lose_nothing_when_the_database_is_restarted() {
    let Some(postgres) = Postgres::start().await else { return };
    let (url, address) = (postgres.url(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let place = address.to_string();
    let overrides = [
        ("telemetry.database_url", url.as_str()),
        ("telemetry.address", place.as_str()),
        ("data.bundled_models", "false"),
    ];
    let server = TestServer::start(&overrides).await;
    let fleet = Fleet::start(address);
    for mode in ["fast", "immediate", "fast", "immediate", "immediate"] {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(300..1_200))).await;
        postgres.stop(mode).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..500))).await;
        postgres.start_again().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let acknowledged = fleet.end().await;
    acknowledged.check(server.endpoint()).await;
    assert!(acknowledged.breaks > 0 && acknowledged.readings() > 1_000, "{acknowledged:?}");
    let directory = server.stop().await;
    assert!(!directory.path().join("telemetry").exists(), "nothing of it is in the data directory");
    let server = TestServer::start_on(directory, &overrides).await;
    acknowledged.check(server.endpoint()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_a_database() {
    let Some(postgres) = Postgres::start().await else { return };
    let url = postgres.url();
    let overrides = [("telemetry.database_url", url.as_str()), ("data.bundled_models", "false")];
    // At the same moment, in an empty database.
    let (one, other) = tokio::join!(TestServer::start(&overrides), TestServer::start(&overrides));
    let (mut gateway, _) = Gateway::open(one.endpoint(), open("depot-1")).await;
    gateway.batch(batch("car-1", 1)).await;
    gateway.batch(batch("car-1", 2)).await;
    gateway.until_applied("car-1", 2).await;
    drop(gateway);
    let kept = queries(other.endpoint()).await.query(query("car-1")).await.expect("answered").into_inner();
    assert_eq!(kept.times_us.len(), 6);

    // A gateway that comes to the other one goes on where it was.
    let last_acked = vec![VehicleSequence { vehicle_id: "car-1".into(), sequence: 1 }];
    let (mut gateway, opened) = Gateway::open(other.endpoint(), Open { last_acked, ..open("depot-1") }).await;
    assert_eq!(opened.next_expected[0].sequence, 3);
    gateway.batch(batch("car-1", 2)).await;
    let Message::Ack(ack) = gateway.next().await else { panic!("expected an acknowledgement") };
    assert_eq!((ack.sequence, ack.is_duplicate, ack.durability()), (2, true, Durability::Durable));
    gateway.batch(batch("car-1", 3)).await;
    gateway.until_applied("car-1", 3).await;
    let vehicles = queries(one.endpoint()).await.list_vehicles(ListVehiclesRequest::default()).await;
    let vehicles = vehicles.expect("answered").into_inner().vehicles;
    assert_eq!((vehicles.len(), vehicles[0].readings, vehicles[0].completeness), (1, 9, 1.0));
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_the_database_and_says_what_to_do() {
    let Some(postgres) = Postgres::start().await else { return };
    let url = postgres.url();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let refused = async |url: &str, wait: &str| {
        let overrides =
            [("telemetry.database_url", url), ("telemetry.database_wait", wait), ("data.bundled_models", "false")];
        let error = start_in(directory.path(), &overrides).await.err().expect("refused");
        let mut told = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            told = format!("{told}: {error}");
            source = error.source();
        }
        assert!(!told.contains("secret"), "{told}");
        told
    };
    // What waiting does not change is told at once.
    let told = refused(&format!("{}/nonesuch", url.trim_end_matches("/postgres")), "1h").await;
    for word in ["evserve:***@127.0.0.1", "telemetry.database_url", "\"nonesuch\" does not exist"] {
        assert!(told.contains(word), "`{word}` in {told}");
    }
    postgres.stop("fast").await;
    let told = refused(&url, "500ms").await;
    for word in ["did not answer for 500ms", "telemetry.database_url", "telemetry.database_wait", "efused"] {
        assert!(told.contains(word), "`{word}` in {told}");
    }

    // While it waits it can be ended, and when the database comes it serves.
    let overrides = [("telemetry.database_url", url.as_str()), ("data.bundled_models", "false")];
    let waits = |evserve: &Evserve| {
        let is_waiting = |line: &serde_json::Value| line["fields"]["message"] == "waiting for the telemetry database";
        evserve.logs().iter().any(is_waiting)
    };
    let mut evserve = Evserve::spawn(directory.path(), &overrides);
    crate::support::assert_eventually!(waits(&evserve), "it does not wait: {:?}", evserve.logs());
    evserve.terminate().await;
    assert!(evserve.exited().await.success(), "{:?}", evserve.logs());
    let evserve = Evserve::spawn(directory.path(), &overrides);
    crate::support::assert_eventually!(waits(&evserve), "it does not wait: {:?}", evserve.logs());
    postgres.start_again().await;
    let evserve = evserve.ready().await;
    queries(evserve.endpoint()).await.list_vehicles(ListVehiclesRequest::default()).await.expect("answered");
    let shown = format!("{:?}", evserve.logs());
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_over_tls_is_who_its_certificate_says() {
    let Some(postgres) = Postgres::start().await else { return };
    let made = || rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let (own, other) = (made(), made());
    let postgres = postgres.with_tls(&own.cert.pem(), &own.signing_key.serialize_pem()).await;
    let folder = tempfile::tempdir().expect("a temporary directory");
    let url = |certificate: &rcgen::Certificate, name: &str| {
        let path = folder.path().join(name);
        fs_err::write(&path, certificate.pem()).expect("written");
        format!("{}?sslmode=verify-full&sslrootcert={}", postgres.url(), path.display())
    };
    let refused = async |url: String, words: &[&str]| {
        let overrides = [
            ("telemetry.database_url", url.as_str()),
            ("telemetry.database_wait", "500ms"),
            ("data.bundled_models", "false"),
        ];
        let error = start_in(folder.path(), &overrides).await.err().expect("refused");
        let told = format!("{error}: {:?}", error.source());
        for word in words {
            assert!(told.contains(word), "`{word}` in {told}");
        }
    };
    refused(url(&other.cert, "other.pem"), &["telemetry.database_url", "ertificate"]).await;
    refused(format!("{}?sslmode=disable", postgres.url()), &["telemetry.database_url", "no encryption"]).await;

    let url = url(&own.cert, "own.pem");
    let server = TestServer::start(&[("telemetry.database_url", &url), ("data.bundled_models", "false")]).await;
    let (mut gateway, _) = Gateway::open(server.endpoint(), open("depot-1")).await;
    gateway.batch(batch("car-1", 1)).await;
    gateway.until_applied("car-1", 1).await;
    let kept = queries(server.endpoint()).await.query(query("car-1")).await.expect("answered").into_inner();
    assert_eq!(kept.times_us.len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn the_password_is_not_printed() {
    let set = "telemetry.database_url=postgres://ev:secret@db.example/telemetry";
    let output = run(&["check-config", "--set", set]).await;
    assert!(output.status.success());
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("database_url = \"postgres://ev:***@db.example/telemetry\""), "{told}");
    assert!(!told.contains("secret"), "{told}");
}
