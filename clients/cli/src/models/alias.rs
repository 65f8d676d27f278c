//! `evctl models alias`.

use ev_client::{Client, proto::ev::registry::v1::SetAliasResponse};

use crate::{exit::Exit, failure::Failure, json::Json, output::Output, style::BOLD};

pub(crate) async fn run(
    client: &Client,
    output: &Output,
    name: &str,
    alias: &str,
    version: u32,
    expect: Option<u32>,
) -> Result<Exit, Failure> {
    let response = client.registry().set_alias(name, alias, version, expect).await?;
    let json = Json::new("ev.registry.v1.SetAliasResponse", &response);
    output.answer(&json, || render(name, alias, version, &response))?;
    Ok(Exit::Ok)
}

/// A gate and why it is waived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaiverArgument {
    gate: String,
    reason: String,
}

/// Reads `GATE=REASON`.
pub(crate) fn waiver(text: &str) -> Result<WaiverArgument, String> {
    match text.split_once('=').map(|(gate, reason)| (gate.trim(), reason.trim())) {
        Some((gate, reason)) if !gate.is_empty() && !reason.is_empty() => {
            Ok(WaiverArgument { gate: gate.to_owned(), reason: reason.to_owned() })
        }
        _ => Err("expected a gate and the reason, such as synthetic='no open data of such packs'".to_owned()),
    }
}

/// Waives gates for a version.
pub(crate) async fn waive(
    client: &Client,
    name: &str,
    version: u32,
    waivers: &[WaiverArgument],
) -> Result<(), Failure> {
    for WaiverArgument { gate, reason } in waivers {
        client.registry().waive_gate(name, version, gate, reason).await?;
    }
    Ok(())
}

fn render(name: &str, alias: &str, version: u32, response: &SetAliasResponse) -> String {
    let before = match response.previous_version {
        0 => "it is new".to_owned(),
        same if same == version => "as before".to_owned(),
        previous => format!("before: {previous}; back with: evctl models alias {name} {alias} {previous}"),
    };
    format!("{BOLD}{name}@{alias}{BOLD:#} points at version {BOLD}{version}{BOLD:#} ({before})")
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn a_waiver_is_a_gate_and_a_reason() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let expected =
                expected.map(|(gate, reason)| WaiverArgument { gate: gate.to_owned(), reason: reason.to_owned() });
            assert_eq!(waiver(text).ok(), expected, "{text}");
        };
        check("synthetic=no open data", Some(("synthetic", "no open data")));
        check(" synthetic = a = b ", Some(("synthetic", "a = b")));
        for wrong in ["", "synthetic", "synthetic=", "=because", "= "] {
            check(wrong, None);
        }
    }

    #[test]
    fn the_way_back_is_shown() {
        let check = |previous_version, expected: &str| {
            let response = SetAliasResponse { version: None, previous_version };
            assert_eq!(strip_str(&render("m", "production", 4, &response)).to_string(), expected);
        };
        check(0, "m@production points at version 4 (it is new)");
        check(4, "m@production points at version 4 (as before)");
        check(3, "m@production points at version 4 (before: 3; back with: evctl models alias m production 3)");
    }
}
