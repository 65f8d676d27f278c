//! Promotion gates: who may be in production, and who says so.

use ev_client::Code;
use ev_proto::ev::registry::v1::{
    GateResult, GateState, GetGatesRequest, GetGatesResponse, SetAliasRequest, WaiveGateRequest, get_gates_request,
};
use ev_registry::{AuditQuery, Registry, RegistryConfig, audit};

use crate::support::{
    booster::{Stump, booster},
    refusal::Refusal,
    server::TestServer,
    zoo::{Model, Registry as RegistryClient, bundled},
};

async fn client(server: &TestServer) -> RegistryClient {
    RegistryClient::new(server.endpoint().channel().await)
}

async fn set_alias(registry: &RegistryClient, model: &str, alias: &str, version: u32) -> Result<u32, Refusal> {
    let request = SetAliasRequest { model: model.to_owned(), alias: alias.to_owned(), version, expected_version: None };
    let set = registry.clone().set_alias(request).await.map_err(Refusal::from)?;
    Ok(set.into_inner().previous_version)
}

async fn waive(registry: &RegistryClient, model: &str, version: u32, gate: &str, reason: &str) -> Result<(), Refusal> {
    let request =
        WaiveGateRequest { model: model.to_owned(), version, gate: gate.to_owned(), reason: reason.to_owned() };
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("x-evserve-actor", "ada".parse().expect("a header"));
    registry.clone().waive_gate(request).await.map(drop).map_err(Refusal::from)
}

async fn gates(registry: &RegistryClient, model: &str, version: u32, judge_again: bool) -> GetGatesResponse {
    let version_choice = Some(get_gates_request::VersionChoice::Version(version));
    let request = GetGatesRequest { model: model.to_owned(), version_choice, judge_again };
    registry.clone().get_gates(request).await.expect("judged").into_inner()
}

fn of(state: GateState, gates: &[GateResult]) -> Vec<&str> {
    gates.iter().filter(|gate| gate.state() == state).map(|gate| gate.gate.as_str()).collect()
}

/// What refuses production: exactly these gates, each with what was measured and what to do.
#[track_caller]
fn is_refused(refused: &Refusal, gates: &[(&str, &str)]) {
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "GATE_FAILED"), "{refused:?}");
    let fields: Vec<String> = refused.fields.iter().map(|(field, _)| field.clone()).collect();
    let expected: Vec<String> = gates.iter().map(|(gate, _)| format!("gates.{gate}")).collect();
    assert_eq!(fields, expected, "{refused:?}");
    for ((_, description), (_, measured)) in refused.fields.iter().zip(gates) {
        assert!(description.contains(measured) && description.contains("required: "), "{description}");
    }
}

#[tokio::test]
async fn every_bundled_model_passes_or_says_why_not() {
    let server = TestServer::start(&[]).await;
    let registry = client(&server).await;
    for model in bundled() {
        let judged = gates(&registry, &model, 1, false).await;
        let waived: &[&str] = match model.as_str() {
            "thermal-risk" => &["synthetic", "group_split"],
            "battery-rul" => &["baseline"],
            _ => &[],
        };
        assert_eq!(of(GateState::Failed, &judged.gates), [] as [&str; 0], "{model}: {:#?}", judged.gates);
        assert_eq!(of(GateState::Waived, &judged.gates), waived, "{model}");
        assert!(judged.passed, "{model}");
        for gate in judged.gates.iter().filter(|gate| gate.state() == GateState::Waived) {
            assert!(gate.waiver_reason.len() > 40 && gate.waived_by == "evserve", "{gate:?}");
        }
        // What it states is judged, by what is known of pictures and numbers.
        let judged_gates = of(GateState::Passed, &judged.gates).len() + waived.len();
        assert!(judged_gates >= 8, "{model}: {:#?}", judged.gates);
        set_alias(&registry, &model, "production", 1).await.expect("it stays");
    }
    server.stop().await;
}

#[tokio::test]
async fn production_refuses_what_a_gate_stops_until_somebody_waives_it() {
    let server = TestServer::start(&[]).await;
    let registry = client(&server).await;
    let mut copy = Model::of("ev-range");
    copy.table("training").insert("split".to_owned(), "80/20, rows shuffled".into());
    let registered = copy.upload(&registry).await.expect("registered");
    assert!(registered.created, "gates do not keep a version from being registered");
    assert_eq!(of(GateState::Failed, &registered.gates), ["group_split"], "{:#?}", registered.gates);

    let refused = set_alias(&registry, "ev-range", "production", 2).await.expect_err("refused");
    is_refused(&refused, &[("group_split", "the split says `rows`")]);
    assert!(
        refused
            .message
            .contains("version 2 of model `ev-range` may not be in production: gate `group_split` failed: the split"),
        "{refused:?}"
    );
    set_alias(&registry, "ev-range", "canary", 2).await.expect("other aliases are free");
    let judged = gates(&registry, "ev-range", 2, false).await;
    assert!(!judged.passed && judged.judged_at.is_some(), "{judged:?}");

    // A waiver of something else helps nothing.
    waive(&registry, "ev-range", 2, "synthetic", "not the point").await.expect("waived");
    let refused = set_alias(&registry, "ev-range", "production", 2).await.expect_err("refused");
    is_refused(&refused, &[("group_split", "")]);
    waive(&registry, "ev-range", 2, "group_split", "rows are one car each").await.expect("waived");
    assert_eq!(set_alias(&registry, "ev-range", "production", 2).await.expect("it may"), 1);
    let judged = gates(&registry, "ev-range", 2, false).await;
    let waived = judged.gates.iter().find(|gate| gate.gate == "group_split").expect("its result");
    assert_eq!((waived.state(), waived.waiver_reason.as_str()), (GateState::Waived, "rows are one car each"));
    assert_eq!(waived.waived_by, "ada from 127.0.0.1");
    assert!(judged.passed);

    // The waiver is of this version alone, and the log tells of it.
    copy.set("description", "Another one.");
    copy.upload(&registry).await.expect("registered");
    let refused = set_alias(&registry, "ev-range", "production", 3).await.expect_err("refused");
    is_refused(&refused, &[("group_split", "")]);
    let directory = server.stop().await;
    let registry = Registry::open(&RegistryConfig::new(directory.path().join("registry"))).await.expect("opened");
    let rows = registry.audit(&AuditQuery::after(0)).await.expect("rows");
    let waivers: Vec<_> = rows.iter().filter(|row| row.action == audit::WAIVE && row.model == "ev-range").collect();
    assert_eq!(waivers.len(), 2);
    assert!(waivers[1].detail.contains("rows are one car each") && waivers[1].version == Some(2), "{waivers:?}");
    assert_eq!(registry.verify_audit().await.expect("verified").fault, None);
}

#[tokio::test]
async fn going_back_is_not_judged_again() {
    let server = TestServer::start(&[]).await;
    let registry = client(&server).await;
    Model::of("battery-soh").upload(&registry).await.expect("registered");
    for version in [2, 1, 2, 1] {
        set_alias(&registry, "battery-soh", "production", version).await.expect("it may");
    }
    let directory = server.stop().await;
    let registry = Registry::open(&RegistryConfig::new(directory.path().join("registry"))).await.expect("opened");
    let rows = registry.audit(&AuditQuery::after(0)).await.expect("rows");
    let judged = rows.iter().filter(|row| row.action == audit::JUDGE).map(|row| row.version);
    // At registration, and before it first served; version 1 served already.
    assert_eq!(judged.collect::<Vec<_>>(), [Some(2), Some(2)]);
}

/// Two columns within 0 and 100, and a generic answer.
fn by_hand(name: &str, output: &str, booster: Vec<u8>) -> Model {
    let input = |name: &str| {
        format!(
            "[[inputs]]\nname = \"{name}\"\ndtype = \"FP32\"\nunit = \"1\"\nrange = [0.0, 100.0]\nrequired = true\n"
        )
    };
    let text = format!(
        "[model]\nname = \"{name}\"\ntask = \"generic\"\ndescription = \"Made by hand.\"\nbackend = \"forest\"\n\
         license = \"MIT\"\n{}{}[[heads]]\nname = \"point\"\nfile = \"model.json\"\n{output}",
        input("first"),
        input("second")
    );
    let files = [("model.json".to_owned(), booster)].into();
    Model { manifest: text.parse().expect("TOML"), files }
}

const CLASSES: &str = "[calibration]\nmethod = \"none\"\n[[calibration.tiers]]\nmin_coverage = 0.0\ntemperature = 1.0\n\
                       [[outputs]]\nname = \"risk\"\nkind = \"classes\"\nclasses = [\"Low\", \"Middle\", \"High\"]\n";
const NUMBER: &str = "[[outputs]]\nname = \"wear\"\nkind = \"prediction\"\nunit = \"1\"\n";

/// High is declared, and learned: but wherever it is likely, Middle is likelier.
fn never_high(high: f32) -> Model {
    let stump = |class, column, threshold, leaves| Stump { class, column, threshold, leaves };
    let stumps = [
        stump(0, 0, 50.0, [2.0, -2.0]),
        stump(1, 0, 50.0, [-2.0, 2.0]),
        stump(2, 0, 50.0, [-2.0, 1.0]),
        stump(2, 1, 99.5, [0.0, high]),
    ];
    by_hand("never-high", CLASSES, booster(2, 3, &stumps))
}

#[tokio::test]
async fn a_forest_that_never_answers_a_declared_class_is_stopped() {
    let server = TestServer::start(&[]).await;
    let registry = client(&server).await;
    never_high(0.5).upload(&registry).await.expect("registered");
    let refused = set_alias(&registry, "never-high", "production", 1).await.expect_err("refused");
    is_refused(&refused, &[("classes", "1 of 3 classes were not met")]);
    assert!(refused.fields[0].1.contains(": High;"), "{refused:?}");
    // Half a percent of the rows is enough.
    never_high(1.5).upload(&registry).await.expect("registered");
    set_alias(&registry, "never-high", "production", 2).await.expect("it answers all three");
    server.stop().await;
}

#[tokio::test]
async fn a_forest_whose_answer_is_one_of_its_inputs_is_stopped() {
    let server = TestServer::start(&[]).await;
    let registry = client(&server).await;
    let steps =
        |column| (1..100u8).map(move |step| Stump { class: 0, column, threshold: f32::from(step), leaves: [0.0, 1.0] });
    let copies: Vec<Stump> = steps(0).collect();
    by_hand("copies", NUMBER, booster(2, 0, &copies)).upload(&registry).await.expect("registered");
    let refused = set_alias(&registry, "copies", "production", 1).await.expect_err("refused");
    is_refused(&refused, &[("single_input", "`first` alone explains R2 0.999")]);
    let adds: Vec<Stump> = steps(0).chain(steps(1)).collect();
    by_hand("adds", NUMBER, booster(2, 0, &adds)).upload(&registry).await.expect("registered");
    set_alias(&registry, "adds", "production", 1).await.expect("both count");
    server.stop().await;
}

#[tokio::test]
async fn mistakes_in_what_is_stated_are_stopped() {
    let server = TestServer::start(&[]).await;
    let registry = client(&server).await;
    type Change = fn(&mut Model);
    let mistakes: [(&str, &str, Change); 5] = [
        ("target_leak", "the input `first` is the target", |model| {
            model.element("outputs", "wear").insert("name".to_owned(), "first".into());
        }),
        ("signature", "input `second` has no `unit`", |model| drop(model.element("inputs", "second").remove("unit"))),
        ("license", "`All rights reserved`", |model| model.set("license", "All rights reserved")),
        ("synthetic", "`nature` is synthetic", |model| model.set("nature", "synthetic")),
        ("too_good", "r2 is 0.9995", |model| {
            let metric = "name = \"r2\"\nsplit = \"by site\"\nvalue = 0.9995\nnaive = 0.0";
            let metric: toml::Table = metric.parse().expect("TOML");
            model.manifest.insert("metrics".to_owned(), vec![metric].into());
        }),
    ];
    let stumps = |column| Stump { class: 0, column, threshold: 50.0, leaves: [0.0, 1.0] };
    for (version, (gate, measured, change)) in (1..).zip(mistakes) {
        let mut model = by_hand("mistaken", NUMBER, booster(2, 0, &[stumps(0), stumps(1)]));
        change(&mut model);
        model.upload(&registry).await.expect("registered");
        let refused = set_alias(&registry, "mistaken", "production", version).await.expect_err(gate);
        is_refused(&refused, &[(gate, measured)]);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_waiver_names_a_gate_and_a_reason() {
    let server = TestServer::start(&[]).await;
    let registry = client(&server).await;
    let refused = waive(&registry, "ev-range", 1, "golf", "because").await.expect_err("refused");
    assert_eq!((refused.code, refused.fields[0].0.as_str()), (Code::InvalidArgument, "gate"));
    assert!(refused.message.contains("`golf` is no gate, expected one of: signature, golden"), "{refused:?}");
    let refused = waive(&registry, "ev-range", 1, "golden", "because").await.expect_err("refused");
    assert!(refused.message.contains("cannot be waived"), "{refused:?}");
    for reason in ["", "  ", &"x".repeat(1001)] {
        let refused = waive(&registry, "ev-range", 1, "latency", reason).await.expect_err("refused");
        assert_eq!((refused.code, refused.fields[0].0.as_str()), (Code::InvalidArgument, "reason"), "{refused:?}");
    }
    let refused = waive(&registry, "ev-range", 9, "latency", "because").await.expect_err("refused");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "NOT_FOUND"));
    server.stop().await;
}
