//! Health, reflection and probes.

use ev_client::{Code, ServingStatus};
use tokio_stream::StreamExt as _;
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{
    assert_eventually,
    server::{TestServer, shared},
};

const PREDICTIONS: [&str; 5] = [
    "ev.range.v1.RangePrediction",
    "ev.charging.v1.ChargingUtilization",
    "ev.battery.v1.BatteryHealth",
    "ev.thermal.v1.ThermalRisk",
    "ev.vision.v1.VehicleVision",
];

/// Services whose health is that of the process.
const OTHERS: [&str; 7] = [
    "",
    "ev.features.v1.FeatureStore",
    "ev.outcomes.v1.Outcomes",
    "ev.registry.v1.ModelRegistry",
    "ev.registry.v1.Rollouts",
    "ev.telemetry.v1.TelemetryQuery",
    "inference.GRPCInferenceService",
];

#[tokio::test]
async fn every_service_has_its_own_health() {
    let client = shared().client().await;
    for service in OTHERS.into_iter().chain(PREDICTIONS) {
        let found = async || client.health().check(service).await.expect("known");
        assert_eventually!(found().await == ServingStatus::Serving, "{service}");
    }
    let unknown = client.health().check("ev.weather.v1.Forecast").await.expect_err("unknown");
    assert_eq!(unknown.code(), Some(Code::NotFound));
}

#[tokio::test]
async fn a_server_without_models_is_alive_but_its_services_are_not() {
    let server = TestServer::start(&[("data.bundled_models", "false")]).await;
    let client = server.client().await;
    for service in PREDICTIONS {
        let found = async || client.health().check(service).await.ok();
        assert_eventually!(found().await == Some(ServingStatus::NotServing), "{service}");
    }
    for service in OTHERS {
        let found = async || client.health().check(service).await.ok();
        assert_eventually!(found().await == Some(ServingStatus::Serving), "{service}");
    }
    let request = ev_proto::ev::range::v1::PredictRequest::default();
    let refused = client.range().predict(request).await.map_err(crate::support::refusal::Refusal::from);
    let message = "no model `(for task range)` is registered; registered: none";
    refused.expect_err("refused").is(Code::NotFound, "UNKNOWN_MODEL", message);
    let request = ev_proto::ev::battery::v1::PredictRequest::default();
    let refused = client.battery().predict(request).await.map_err(crate::support::refusal::Refusal::from);
    let message = "no model `(for task battery_soh)` is registered; registered: none";
    refused.expect_err("refused").is(Code::NotFound, "UNKNOWN_MODEL", message);
    server.stop().await;
}

#[tokio::test]
async fn reflection_lists_every_service_in_both_versions() {
    let channel = shared().channel().await;
    let mut expected: Vec<String> = PREDICTIONS.map(str::to_owned).to_vec();
    expected.extend(OTHERS.into_iter().filter(|service| !service.is_empty()).map(str::to_owned));
    expected.push("grpc.health.v1.Health".to_owned());

    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.expect("answered").into_inner();
    let answer = answers.next().await.expect("an answer").expect("an answer").message_response;
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(listed)) = answer else {
        panic!("expected services, found {answer:?}");
    };
    let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    assert!(expected.iter().all(|service| names.contains(service)), "{names:?}");

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "ev.thermal.v1.ThermalRisk".into(),
        )),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.expect("answered").into_inner();
    let answer = answers.next().await.expect("an answer").expect("an answer").message_response;
    let found = matches!(answer, Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)));
    assert!(found, "{answer:?}");
}

#[tokio::test]
async fn probes_say_where_the_process_stands() {
    let endpoint = shared();
    assert_eq!(endpoint.get("/livez").await, (200, "live".to_owned()));
    assert_eq!(endpoint.get("/readyz").await, (200, "ready".to_owned()));
    assert_eq!(endpoint.get("/startupz").await, (200, "started".to_owned()));
    assert_eq!(endpoint.get("/").await.0, 404);
    assert_eq!(endpoint.request("POST", "/readyz").await, (405, "only GET".to_owned()));
    assert_eq!(endpoint.request("HEAD", "/readyz").await, (200, String::new()));
}

#[tokio::test]
async fn a_draining_server_is_live_but_not_ready() {
    // The pause lasts as long as the test looks.
    let server = TestServer::start(&[("shutdown.pause", "1h")]).await;
    let endpoint = server.endpoint();
    let client = server.client().await;
    let (server, _directory) = server.into_parts();
    let stopping = tokio::spawn(server.stop());
    assert_eventually!(endpoint.get("/readyz").await == (503, "draining".to_owned()), "still ready");
    assert_eq!(endpoint.get("/livez").await.0, 200);
    assert_eq!(endpoint.get("/startupz").await.0, 200);
    for service in OTHERS.into_iter().chain(PREDICTIONS) {
        let found = async || client.health().check(service).await.expect("known");
        assert_eventually!(found().await == ServingStatus::NotServing, "{service}");
    }
    let request =
        ev_proto::ev::thermal::v1::AssessRequest { cell_temperature_max_celsius: Some(30.0), ..Default::default() };
    client.thermal().assess(request).await.expect("calls are answered while endpoints converge");
    stopping.abort();
}
