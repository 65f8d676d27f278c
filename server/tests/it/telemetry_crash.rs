//! Nothing that was acknowledged as durable is lost, and nothing is stored twice, whatever happens to the server.

use std::{net::SocketAddr, path::Path, time::Duration};

use crate::support::{
    assert_eventually,
    disk::SmallDisk,
    fleet::Fleet,
    process::{Evserve, free_port},
    server::{Endpoint, start_in},
};

/// How often the server is killed: `EVSERVE_TEST_KILLS`, or ten times.
fn kills() -> u32 {
    std::env::var("EVSERVE_TEST_KILLS").map_or(10, |text| text.parse().expect("a number of kills"))
}

/// Where gateways stream to, also after the server has died and come back.
fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_lose_nothing_when_the_server_is_killed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let address = address();
    let place = address.to_string();
    let overrides = [("telemetry.address", place.as_str()), ("data.bundled_models", "false")];
    let fleet = Fleet::start(address);
    for kill in 0..kills() {
        // Every fourth time while it starts, and reads what the one before has left.
        let (evserve, longest_ms) = if kill % 4 == 3 {
            (Evserve::spawn(directory.path(), &overrides), 400)
        } else {
            (Evserve::start(directory.path(), &overrides).await, 900)
        };
        tokio::time::sleep(Duration::from_millis(fastrand::u64(20..longest_ms))).await;
        evserve.kill().await;
    }
    let mut evserve = Evserve::start(directory.path(), &overrides).await;
    let acknowledged = fleet.end().await;
    acknowledged.check(evserve.endpoint()).await;
    assert!(acknowledged.breaks > u64::from(kills()) / 2, "the gateways noticed: {}", acknowledged.breaks);
    assert!(acknowledged.readings() > 1_000, "they streamed: {}", acknowledged.readings());
    evserve.terminate().await;
    assert!(evserve.exited().await.success());
    // An end in order changes nothing either.
    let evserve = Evserve::start(directory.path(), &overrides).await;
    acknowledged.check(evserve.endpoint()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_wait_while_the_disk_is_full_and_lose_nothing() {
    let Some(disk) = SmallDisk::mount("32m") else { return };
    let place = address();
    let text = place.to_string();
    let overrides = [("telemetry.address", text.as_str()), ("data.bundled_models", "false")];
    let server = start_in(disk.path(), &overrides).await.expect("the server starts");
    let endpoint = Endpoint::of(&server);
    let fleet = Fleet::start(place);
    let stored = async || endpoint.metric("ev_telemetry_readings_stored_total").await;
    let failed = async || endpoint.metric("ev_telemetry_commits_failed_total").await;
    for round in 0..3 {
        let before = (stored().await, failed().await);
        assert_eventually!(stored().await > before.0, "round {round}: nothing was stored");
        disk.fill(0);
        assert_eventually!(failed().await > before.1, "round {round}: the disk was never full");
        tokio::time::sleep(Duration::from_millis(300)).await;
        disk.free();
    }
    let acknowledged = fleet.end().await;
    acknowledged.check(endpoint).await;
    server.stop().await;
    check_again(disk.path(), &acknowledged).await;
}

async fn check_again(directory: &Path, acknowledged: &crate::support::fleet::Acknowledged) {
    let server = start_in(directory, &[("data.bundled_models", "false")]).await.expect("the server starts");
    acknowledged.check(Endpoint::of(&server)).await;
    server.stop().await;
}
