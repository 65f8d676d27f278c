//! Who may depend on whom, read from cargo: the table of the workspace's crates, as a test.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

/// Every package with the packages of the workspace it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("ev-proto", &[]),
    ("ev-domain", &[]),
    ("ev-models-core", &[]),
    ("ev-models-candle", &["ev-models-core"]),
    ("ev-models-forest", &["ev-models-core"]),
    ("ev-models-ort", &["ev-models-core"]),
    ("ev-models-xgboost", &["ev-models-core"]),
    ("ev-models", &["ev-models-candle", "ev-models-core", "ev-models-forest", "ev-models-ort", "ev-models-xgboost"]),
    ("ev-alerts", &["ev-domain"]),
    ("ev-batching", &["ev-models-core"]),
    ("ev-features", &["ev-domain"]),
    ("ev-gates", &["ev-models-core"]),
    ("ev-images", &["ev-models-core"]),
    ("ev-outcomes", &[]),
    ("ev-registry", &["ev-models-core"]),
    ("ev-rollouts", &[]),
    ("ev-signing", &["ev-models-core"]),
    ("ev-telemetry", &["ev-domain"]),
    (
        "ev-server",
        &[
            "ev-alerts",
            "ev-batching",
            "ev-domain",
            "ev-features",
            "ev-gates",
            "ev-images",
            "ev-models",
            "ev-models-core",
            "ev-outcomes",
            "ev-proto",
            "ev-registry",
            "ev-rollouts",
            "ev-signing",
            "ev-telemetry",
        ],
    ),
    ("ev-client", &["ev-proto"]),
    // It explains model files without a server: docs/adr/0002.
    ("evctl", &["ev-client", "ev-models-core", "ev-models-forest", "ev-signing"]),
    ("evsim", &["ev-client"]),
    ("ev-loadtests", &["ev-client"]),
    (
        "ev-benches",
        &[
            "ev-client",
            "ev-domain",
            "ev-images",
            "ev-loadtests",
            "ev-models",
            "ev-models-candle",
            "ev-models-core",
            "ev-models-forest",
            "ev-models-ort",
            "ev-models-xgboost",
            "ev-proto",
            "ev-registry",
            "ev-server",
        ],
    ),
];

/// What tests may use beyond that: the server is tested with the client that ships, the thermal rule on simulated packs.
const ALLOWED_IN_TESTS: &[(&str, &[&str])] = &[("ev-server", &["ev-client"]), ("evsim", &["ev-alerts", "ev-domain"])];

/// Libraries that see protobuf and gRPC; no other one does.
const SEES_GRPC: &[&str] = &["ev-proto", "ev-server", "ev-client"];

/// Programs, which may use what they like from outside.
const PROGRAMS: &[&str] = &["evctl", "evsim", "ev-loadtests", "ev-benches"];

/// Packages of which two versions would not understand each other's types.
const ONE_COPY: &[&str] = &["tonic", "prost", "opentelemetry"];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    dev: bool,
}

fn workspace() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn edges(workspace: &Value) -> Vec<Edge> {
    let packages = workspace["packages"].as_array().expect("packages");
    let edge = |package: &Value, dependency: &Value| Edge {
        from: text(package, "name").to_owned(),
        to: text(dependency, "name").to_owned(),
        dev: text(dependency, "kind") == "dev",
    };
    let dependencies = |package: &Value| -> Vec<Edge> {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        dependencies.iter().map(|dependency| edge(package, dependency)).collect()
    };
    packages.iter().flat_map(dependencies).collect()
}

#[test]
fn packages_use_only_what_the_table_allows() {
    let workspace = workspace();
    let names: BTreeSet<&str> =
        workspace["packages"].as_array().expect("packages").iter().map(|package| text(package, "name")).collect();
    let table: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let missing: Vec<_> = names.iter().filter(|name| !table.contains_key(**name)).collect();
    assert!(
        missing.is_empty(),
        "{missing:?} are not in the table of server/tests/architecture.rs: say what they may use"
    );
    let in_tests: BTreeMap<&str, &[&str]> = ALLOWED_IN_TESTS.iter().copied().collect();
    let forbidden: Vec<String> = edges(&workspace)
        .into_iter()
        .filter(|edge| names.contains(edge.to.as_str()))
        .filter(|Edge { from, to, dev }| {
            let allowed = |table: &BTreeMap<&str, &[&str]>| {
                table.get(from.as_str()).is_some_and(|allowed| allowed.contains(&to.as_str()))
            };
            !(allowed(&table) || *dev && allowed(&in_tests))
        })
        .map(|Edge { from, to, dev }| format!("{from} -> {to}{}", if dev { " (in tests)" } else { "" }))
        .collect();
    assert!(
        forbidden.is_empty(),
        "not in the table: {forbidden:?}; an edge that shall be needs an ADR and a line there"
    );
}

#[test]
fn only_the_edges_see_grpc() {
    let seen: Vec<String> = edges(&workspace())
        .into_iter()
        .filter(|edge| !edge.dev && (edge.to == "tonic" || edge.to.starts_with("tonic-")))
        .filter(|edge| edge.to != "tonic-prost-build")
        .filter(|Edge { from, .. }| !SEES_GRPC.contains(&from.as_str()) && !PROGRAMS.contains(&from.as_str()))
        .map(|Edge { from, to, .. }| format!("{from} -> {to}"))
        .collect();
    assert!(seen.is_empty(), "{seen:?}: convert at the edge, in ev-server or ev-client");
}

#[test]
fn engines_know_neither_tokio_nor_each_other() {
    let engines = [
        "ev-models-core",
        "ev-models-candle",
        "ev-models-forest",
        "ev-models-ort",
        "ev-models-xgboost",
        "ev-models",
        "ev-domain",
        "ev-batching",
        "ev-gates",
        "ev-images",
        "ev-rollouts",
    ];
    let seen: Vec<String> = edges(&workspace())
        .into_iter()
        .filter(|Edge { from, to, dev }| !dev && engines.contains(&from.as_str()) && (to == "tokio" || to == "sqlx"))
        .map(|Edge { from, to, .. }| format!("{from} -> {to}"))
        .collect();
    assert!(seen.is_empty(), "{seen:?}: engines are synchronous and do no I/O beyond reading their files");
}

#[test]
fn there_is_one_copy_of_what_is_shared() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock: toml::Table = fs_err::read_to_string(path).expect("Cargo.lock").parse().expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    for name in ONE_COPY {
        let versions: Vec<&str> = packages
            .iter()
            .filter(|package| package["name"].as_str() == Some(name))
            .filter_map(|package| package["version"].as_str())
            .collect();
        assert_eq!(versions.len(), 1, "{name} is in Cargo.lock as {versions:?}");
    }
}
