//! `evctl models show`.

use std::time::SystemTime;

use ev_client::{
    Client, VersionChoice, VersionRef,
    proto::ev::registry::v1::{GateState, GetVersionResponse, Version, Waiver},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    gates::{failed, signature_text},
    size_text, state_of,
};
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    predict::short_digest,
    style::{ACCENT, BAD, BOLD, DIM, WARN},
    table::{Cell, Listing, Table},
};

#[derive(Debug, Serialize)]
struct Shown {
    version: Json,
    manifest: Value,
    gates: Vec<Json>,
    waivers: Vec<Json>,
    signatures: Vec<Json>,
}

#[derive(Debug, Serialize)]
struct Versions {
    versions: Vec<Json>,
}

pub(crate) async fn run(client: &Client, output: &Output, version: VersionRef) -> Result<Exit, Failure> {
    if version.choice == VersionChoice::Production {
        let versions = client.registry().list_versions(&version.model).await?;
        let json = Versions { versions: versions.iter().map(to_json).collect() };
        output.answer(&json, || render_versions(&version.model, &versions))?;
        return Ok(Exit::Ok);
    }
    let response = client.registry().get_version(version).await?;
    let trust = trust(&response);
    let GetVersionResponse { version, manifest_json, gates, waivers, signatures } = response;
    let version = version.unwrap_or_default();
    let manifest: Value = serde_json::from_str(&manifest_json).map_err(Failure::Decode)?;
    let shown = Shown {
        version: to_json(&version),
        manifest,
        gates: gates.iter().map(|gate| Json::new("ev.registry.v1.GateResult", gate)).collect(),
        waivers: waivers.iter().map(|waiver| Json::new("ev.registry.v1.Waiver", waiver)).collect(),
        signatures: signatures.iter().map(|one| Json::new("ev.registry.v1.VersionSignature", one)).collect(),
    };
    output.answer(&shown, || render(&version, &trust, &shown.manifest))?;
    Ok(Exit::Ok)
}

pub(crate) fn to_json(version: &Version) -> Json {
    Json::new("ev.registry.v1.Version", version)
}

fn render_versions(model: &str, versions: &[Version]) -> String {
    let mut table = Table::new(["version", "aliases", "state", "registered", "size", "digest", "description"]);
    for version in versions {
        let (state, style) = state_of(version.state());
        table.row([
            Cell::styled(version.version.to_string(), BOLD),
            Cell::styled(version.aliases.join(", "), ACCENT),
            Cell::styled(state, style),
            registered(version).into(),
            size_text(version.size_bytes).into(),
            Cell::styled(short_digest(&version.digest), DIM),
            version.description.as_str().into(),
        ]);
    }
    let newest = versions.first().map_or(1, |version| version.version);
    format!(
        "{}\n{DIM}One version with its inputs and metrics: evctl models show {model}:{newest}{DIM:#}",
        table.render()
    )
}

fn render(version: &Version, trust: &[(&'static str, String)], manifest: &Value) -> String {
    let mut listing = Listing::default();
    listing.line("model", format!("{BOLD}{} version {}{BOLD:#}", version.model, version.version));
    listing.line("description", &version.description);
    let (state, style) = state_of(version.state());
    let reason = if version.state_reason.is_empty() { String::new() } else { format!(": {}", version.state_reason) };
    listing.line("state", format!("{style}{state}{style:#}{reason}"));
    let aliases = if version.aliases.is_empty() { "none".to_owned() } else { version.aliases.join(", ") };
    listing.line("aliases", format!("{ACCENT}{aliases}{ACCENT:#}"));
    listing.line("task", &version.task);
    listing.line("backend", &version.backend);
    if !version.runtime_description.is_empty() {
        listing.line("runs", &version.runtime_description);
    }
    listing.line("license", &version.license);
    listing.line("size", size_text(version.size_bytes));
    listing.line("registered", registered(version));
    listing.line("digest", &version.digest);
    for (name, text) in trust {
        listing.line(*name, text);
    }
    [listing.render(), inputs(manifest), metrics(manifest)]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

/// How it stands with the promotion gates, what is waived, and who signed it.
fn trust(response: &GetVersionResponse) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let count = |state: GateState| response.gates.iter().filter(|gate| gate.state() == state).count();
    if !response.gates.is_empty() {
        let failed: Vec<&str> = failed(&response.gates).collect();
        let failed = match failed.as_slice() {
            [] => String::new(),
            failed => format!(", {BAD}failed: {}{BAD:#}", failed.join(", ")),
        };
        lines.push(("gates", format!("{} passed{failed}", count(GateState::Passed))));
    }
    for Waiver { gate, reason, waived_by, .. } in &response.waivers {
        lines.push(("waived", format!("{WARN}{gate}{WARN:#} by {waived_by}: {reason}")));
    }
    lines.extend(response.signatures.iter().map(|signature| ("signed by", signature_text(signature))));
    lines
}

fn inputs(manifest: &Value) -> String {
    let mut table = Table::new(["input", "type", "unit", "accepted", "trained on", "required"]);
    let rows = tables(manifest, "inputs");
    for input in rows {
        let trained_on = match input["vocabulary"].as_array() {
            Some(vocabulary) => format!("{} known texts", vocabulary.len()),
            None => span(&input["trained_range"]),
        };
        table.row([
            text(&input["name"]).into(),
            text(&input["dtype"]).into(),
            text(&input["unit"]).into(),
            span(&input["range"]).into(),
            trained_on.into(),
            if input["required"] == true { "yes" } else { "" }.into(),
        ]);
    }
    if rows.is_empty() { String::new() } else { table.render() }
}

fn metrics(manifest: &Value) -> String {
    let mut table = Table::new(["metric", "value", "baseline", "naive", "unit", "split"]);
    let rows = tables(manifest, "metrics");
    for metric in rows {
        table.row([
            text(&metric["name"]).into(),
            text(&metric["value"]).into(),
            text(&metric["baseline"]).into(),
            text(&metric["naive"]).into(),
            text(&metric["unit"]).into(),
            text(&metric["split"]).into(),
        ]);
    }
    if rows.is_empty() { String::new() } else { table.render() }
}

fn tables<'a>(manifest: &'a Value, key: &str) -> &'a [Value] {
    manifest[key].as_array().map_or(&[], Vec::as_slice)
}

/// Of a value that may be absent.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn span(value: &Value) -> String {
    match value.as_array().map(Vec::as_slice) {
        Some([low, high]) => format!("{} to {}", text(low), text(high)),
        _ => String::new(),
    }
}

fn registered(version: &Version) -> String {
    let time = version.created_at.and_then(|time| SystemTime::try_from(time).ok());
    time.map_or_else(String::new, |time| humantime::format_rfc3339_seconds(time).to_string())
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use serde_json::json;

    use super::*;

    #[test]
    fn inputs_and_metrics_are_read_from_the_manifest() {
        let manifest = json!({
            "inputs": [
                {"name": "make", "dtype": "BYTES", "vocabulary": ["Kia", "Tesla"], "required": true},
                {"name": "battery_capacity_kwh", "dtype": "FP32", "unit": "kWh", "range": [1, 1000], "trained_range": [21.3, 123.0]},
            ],
            "metrics": [{"name": "mae", "split": "by make", "value": 21.5, "baseline": 40.25, "unit": "km"}],
        });
        assert_eq!(
            strip_str(&inputs(&manifest)).to_string(),
            "\
INPUT                  TYPE    UNIT   ACCEPTED    TRAINED ON      REQUIRED
make                   BYTES                      2 known texts   yes
battery_capacity_kwh   FP32    kWh    1 to 1000   21.3 to 123.0
"
        );
        assert_eq!(
            strip_str(&metrics(&manifest)).to_string(),
            "\
METRIC   VALUE   BASELINE   NAIVE   UNIT   SPLIT
mae      21.5    40.25              km     by make
"
        );
        assert_eq!(inputs(&json!({})), "");
    }
}
