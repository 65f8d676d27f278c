//! Another version in production, again and again, while callers go on: nobody is refused, and nobody is answered by a
//! version that is gone. `ev-loadtests swap` measures how long they wait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use ev_client::Client;
use ev_proto::ev::{
    range::v1::{PredictRequest, range_prediction_client::RangePredictionClient},
    registry::v1::{VersionState, model_registry_client::ModelRegistryClient},
};

use crate::support::{assert_eventually, server::TestServer, zoo::Model};

/// Callers that ask one after the other.
const CALLERS: usize = 4;
/// Swaps, each of which loads a version and frees the other.
const SWAPS: u32 = 5;

async fn version_of_an_answer(server: &TestServer) -> u32 {
    ask(&mut RangePredictionClient::new(server.endpoint().channel().await)).await
}

/// The version that answers; no request may fail.
async fn ask(client: &mut RangePredictionClient<tonic::transport::Channel>) -> u32 {
    let request = PredictRequest {
        make: "Kia".to_owned(),
        model: "EV6".to_owned(),
        battery_capacity_kwh: Some(74.0),
        ..PredictRequest::default()
    };
    let response = client.predict(request).await.expect("answered").into_inner();
    response.info.and_then(|info| info.model).expect("a model version").version
}

async fn state(client: &Client, version: u32) -> VersionState {
    let reference = format!("ev-range:{version}").parse().expect("a reference");
    client.registry().get_version(reference).await.expect("found").version.expect("a version").state()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_versions_are_swapped() {
    let server = TestServer::start(&[]).await;
    let registry = ModelRegistryClient::new(server.endpoint().channel().await);
    let mut model = Model::of("ev-range");
    model.set("description", "The same in other words.");
    assert_eq!(model.upload(&registry).await.expect("registered").version.expect("a version").version, 2);
    let client = server.client().await;

    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut client = RangePredictionClient::new(server.endpoint().channel().await);
        let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
        callers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let version = ask(&mut client).await;
                assert!(matches!(version, 1 | 2), "{version}");
                answered.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }));
    }
    for swap in 0..SWAPS {
        let (to, from) = if swap % 2 == 0 { (2, 1) } else { (1, 2) };
        let before = answered.load(Ordering::Relaxed);
        client.registry().set_alias("ev-range", "production", to, Some(from)).await.expect("swapped");
        // From the answer on, nobody gets the other one.
        assert_eq!(version_of_an_answer(&server).await, to);
        assert_eq!(state(&client, to).await, VersionState::Ready);
        assert_eq!(state(&client, from).await, VersionState::Registered, "it is not loaded any more");
        assert_eventually!(answered.load(Ordering::Relaxed) > before + 20, "callers wait");
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no request failed");
    }
    server.stop().await;
}
