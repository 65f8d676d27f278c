//! What is changed is told: the audit log, as it was at a time, and as it happens; versions are deleted and pinned.

use ev_client::Code;
use ev_proto::{
    ev::registry::v1::{
        AuditEvent, DeleteVersionRequest, GetAuditLogRequest, PinVersionRequest, SetAliasRequest, UnpinVersionRequest,
        VerifyAuditLogRequest, WatchEventsRequest,
    },
    inference::{
        ModelReadyRequest, ModelRepositoryParameter, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient, model_repository_parameter::ParameterChoice,
    },
};
use tonic::Request;

use crate::support::{
    refusal::Refusal,
    server::TestServer,
    zoo::{Model, Registry},
};

async fn registry(server: &TestServer) -> Registry {
    Registry::new(server.endpoint().channel().await)
}

fn alias(alias: &str, version: u32) -> SetAliasRequest {
    SetAliasRequest { model: "ev-range".into(), alias: alias.into(), version, expected_version: None }
}

/// By a caller who says who it is.
fn by<T>(actor: &'static str, request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("x-evserve-actor", actor.parse().expect("a header"));
    request
}

async fn log(registry: &mut Registry, request: GetAuditLogRequest) -> Vec<AuditEvent> {
    registry.get_audit_log(request).await.expect("answered").into_inner().events
}

fn of_range() -> GetAuditLogRequest {
    GetAuditLogRequest { model: "ev-range".into(), ..Default::default() }
}

#[tokio::test]
async fn who_did_what_is_told_page_by_page_and_as_of_a_time() {
    let server = TestServer::start(&[]).await;
    let mut registry = registry(&server).await;
    Model::of("ev-range").upload(&registry).await.expect("registered");
    registry.set_alias(by("ci", alias("canary", 2))).await.expect("set");
    let before = log(&mut registry, of_range()).await.remove(0);
    registry.set_alias(alias("production", 2)).await.expect("set");
    registry.set_alias(alias("canary", 0)).await.expect("removed");

    let events = log(&mut registry, of_range()).await;
    let told: Vec<_> =
        events.iter().map(|event| (event.action.as_str(), event.alias.as_str(), event.version)).collect();
    let expected = [
        ("remove_alias", "canary", 2),
        ("set_alias", "production", 2),
        ("judge", "", 2),
        ("set_alias", "canary", 2),
        ("judge", "", 2),
        ("register", "", 2),
        ("set_alias", "production", 1),
        ("register", "", 1),
    ];
    assert_eq!(told, expected);
    let actors: Vec<&str> = events.iter().map(|event| event.actor.as_str()).collect();
    let (caller, ci, server_itself) = ("127.0.0.1", "ci from 127.0.0.1", "evserve");
    assert_eq!(actors, [caller, caller, server_itself, ci, server_itself, caller, server_itself, server_itself]);
    assert_eq!(events[1].detail_json, r#"{"previous_version":1}"#);

    let mut paged = Vec::new();
    let mut request = GetAuditLogRequest { page_size: 4, ..of_range() };
    loop {
        let page = registry.get_audit_log(request.clone()).await.expect("answered").into_inner();
        paged.extend(page.events);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(paged, events);
    let then = log(&mut registry, GetAuditLogRequest { as_of: before.time, ..of_range() }).await;
    let then: Vec<_> = then.iter().map(|event| (event.alias.as_str(), event.version)).collect();
    assert_eq!(then, [("canary", 2), ("production", 1)]);

    let verified = registry.verify_audit_log(VerifyAuditLogRequest {}).await.expect("answered").into_inner();
    let newest = log(&mut registry, GetAuditLogRequest::default()).await.remove(0);
    assert!(verified.ok && verified.problem.is_empty(), "{verified:?}");
    assert_eq!((verified.head_sequence, verified.head_hash), (newest.sequence, newest.hash));
    for (request, code, reason) in [
        (GetAuditLogRequest { page_size: 1001, ..of_range() }, Code::InvalidArgument, "INVALID_PAGE"),
        (GetAuditLogRequest { page_token: "x".into(), ..of_range() }, Code::InvalidArgument, "INVALID_PAGE"),
        (GetAuditLogRequest { as_of: before.time, ..Default::default() }, Code::InvalidArgument, "MISSING_FIELD"),
        (
            GetAuditLogRequest { as_of: before.time, model: "nonesuch".into(), ..Default::default() },
            Code::NotFound,
            "NOT_FOUND",
        ),
    ] {
        let refused = registry.get_audit_log(request).await.map_err(Refusal::from).expect_err("refused");
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason));
    }
    server.stop().await;
}

#[tokio::test]
async fn watchers_miss_nothing_and_end_when_the_server_drains() {
    let server = TestServer::start(&[]).await;
    let mut registry = registry(&server).await;
    let mut live = registry.watch_events(WatchEventsRequest::default()).await.expect("watched").into_inner();
    Model::of("ev-range").upload(&registry).await.expect("registered");
    registry.set_alias(alias("canary", 2)).await.expect("set");
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(live.message().await.expect("a message").and_then(|message| message.event).expect("an event"));
    }
    let actions: Vec<_> = told.iter().map(|event| (event.action.as_str(), event.version)).collect();
    assert_eq!(actions, [("register", 2), ("judge", 2), ("set_alias", 2)]);

    // From any row on, and of one model.
    let request = WatchEventsRequest { after_sequence: Some(0), model: "ev-range".into() };
    let mut again = registry.watch_events(request).await.expect("watched").into_inner();
    let mut rows = Vec::new();
    for _ in 0..5 {
        rows.push(again.message().await.expect("a message").and_then(|message| message.event).expect("an event"));
    }
    let numbers: Vec<_> = rows.iter().map(|event| (event.action.as_str(), event.version)).collect();
    assert_eq!(numbers, [("register", 1), ("set_alias", 1), ("register", 2), ("judge", 2), ("set_alias", 2)]);
    assert_eq!(rows[2..], told);
    let stop = tokio::spawn(server.stop());
    for mut watcher in [live, again] {
        let ended = loop {
            match watcher.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a reason"),
                Err(status) => break Refusal::from(status),
            }
        };
        assert_eq!((ended.code, ended.reason.as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    }
    stop.await.expect("stopped");
}

#[tokio::test]
async fn a_version_is_deleted_when_neither_alias_nor_pin_refers_to_it() {
    let server = TestServer::start(&[]).await;
    let mut registry = registry(&server).await;
    Model::of("ev-range").upload(&registry).await.expect("registered");
    let delete = |version| DeleteVersionRequest { model: "ev-range".into(), version };
    let refused = registry.delete_version(delete(1)).await.map_err(Refusal::from).expect_err("refused");
    let message = "version 1 of model `ev-range` is in use by alias `production`";
    refused.is(Code::FailedPrecondition, "VERSION_IN_USE", message);

    let pin = |reason: &str| PinVersionRequest { model: "ev-range".into(), version: 2, reason: reason.into() };
    let pinned = registry.pin_version(pin("kept\u{1b} for the audit\0")).await.expect("pinned").into_inner();
    assert!(pinned.changed && pinned.version.is_some_and(|version| version.pinned));
    assert!(!registry.pin_version(pin("")).await.expect("pinned").into_inner().changed);
    let refused = registry.delete_version(delete(2)).await.map_err(Refusal::from).expect_err("refused");
    refused.is(Code::FailedPrecondition, "VERSION_IN_USE", "version 2 of model `ev-range` is in use by a pin");
    let refused = registry.pin_version(pin(&"x".repeat(1001))).await.map_err(Refusal::from).expect_err("refused");
    refused.is_field("TOO_LONG", "reason", "has 1001 characters, expected at most 1000");
    let unpin = UnpinVersionRequest { model: "ev-range".into(), version: 2 };
    let unpinned = registry.unpin_version(unpin).await.expect("unpinned").into_inner();
    assert!(unpinned.changed && unpinned.version.is_some_and(|version| !version.pinned));

    let deleted = registry.delete_version(delete(2)).await.expect("deleted").into_inner();
    assert_eq!(deleted.version.map(|version| version.version), Some(2));
    let refused = registry.delete_version(delete(2)).await.map_err(Refusal::from).expect_err("refused");
    refused.is(Code::NotFound, "NOT_FOUND", "version 2 of model `ev-range` does not exist");
    let events = log(&mut registry, of_range()).await;
    assert_eq!(events[0].action, "delete_version");
    assert_eq!(
        (events[2].action.as_str(), events[2].detail_json.as_str()),
        ("pin", r#"{"reason":"kept for the audit"}"#)
    );
    // What comes again is a new version.
    let again = Model::of("ev-range").upload(&registry).await.expect("registered");
    assert_eq!(again.version.map(|version| version.version), Some(3));
    server.stop().await;
}

#[tokio::test]
async fn triton_clients_load_and_unload() {
    let server = TestServer::start(&[]).await;
    let channel = server.endpoint().channel().await;
    let mut client = GrpcInferenceServiceClient::new(channel.clone());
    Model::named_as("ev-range", "my-range").upload(&Registry::new(channel)).await.expect("registered");
    let load = |name: &str| RepositoryModelLoadRequest { model_name: name.into(), ..Default::default() };
    let unload = |name: &str| RepositoryModelUnloadRequest { model_name: name.into(), ..Default::default() };
    let mut probe = client.clone();
    let mut ready = async || {
        let request = ModelReadyRequest { name: "my-range".into(), version: String::new() };
        probe.model_ready(request).await.expect("answered").into_inner().ready
    };
    assert!(!ready().await);
    for _ in 0..2 {
        client.repository_model_load(load("my-range")).await.expect("loaded");
        assert!(ready().await);
    }
    client.repository_model_unload(unload("my-range")).await.expect("unloaded");
    assert!(!ready().await);
    let refused = client.repository_model_unload(unload("my-range")).await.map_err(Refusal::from).expect_err("refused");
    refused.is(Code::NotFound, "NOT_FOUND", "alias `production` of model `my-range` does not exist");
    for name in ["nonesuch", ""] {
        let refused = client.repository_model_load(load(name)).await.map_err(Refusal::from).expect_err("refused");
        assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "NOT_FOUND"));
    }
    let parameter = ModelRepositoryParameter { parameter_choice: Some(ParameterChoice::StringParam("{}".into())) };
    let request = RepositoryModelLoadRequest { parameters: [("config".into(), parameter)].into(), ..load("my-range") };
    let refused = client.repository_model_load(request).await.map_err(Refusal::from).expect_err("refused");
    refused.is_field(
        "UNSUPPORTED_PARAMETER",
        "parameters",
        "`config` is not taken: what a model needs comes with its version",
    );
    server.stop().await;
}
