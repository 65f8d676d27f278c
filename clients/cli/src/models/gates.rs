//! `evctl models gates`.

use anstyle::Style;
use ev_client::{
    Client, VersionRef,
    proto::ev::registry::v1::{GateResult, GateState, GetGatesResponse, SignatureState, VersionSignature},
};

use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{ACCENT, BAD, BOLD, DIM, GOOD, PLAIN, WARN},
    table::{Cell, Table, clip},
};

/// Longest text of a cell; JSON has all of it.
const CELL_MAX_CHARS: usize = 60;

pub(crate) async fn run(client: &Client, output: &Output, version: VersionRef, again: bool) -> Result<Exit, Failure> {
    let response = client.registry().gates(version, again).await?;
    output.answer(&Json::new("ev.registry.v1.GetGatesResponse", &response), || render(&response))?;
    Ok(if response.passed { Exit::Ok } else { Exit::Failed })
}

/// Names of gates that keep a version from production.
pub(crate) fn failed(gates: &[GateResult]) -> impl Iterator<Item = &str> {
    gates.iter().filter(|gate| gate.state() == GateState::Failed).map(|gate| gate.gate.as_str())
}

/// A signature in a few words.
pub(crate) fn signature_text(signature: &VersionSignature) -> String {
    let (state, style) = match signature.state() {
        SignatureState::Trusted => ("trusted", GOOD),
        SignatureState::UnknownKey => ("not trusted by this server", WARN),
        SignatureState::Bad => ("NOT OF THIS VERSION", BAD),
        SignatureState::Unspecified => ("unknown", PLAIN),
    };
    format!("{} {style}{state}{style:#} {DIM}brought by {}{DIM:#}", signature.key_id, signature.signed_by)
}

fn render(response: &GetGatesResponse) -> String {
    let mut table = Table::new(["gate", "result", "measured", "required"]);
    for gate in &response.gates {
        let (state, style) = state_of(gate.state());
        let required = Cell::styled(clip(&gate.required, CELL_MAX_CHARS), DIM);
        table.row([
            gate.gate.as_str().into(),
            Cell::styled(state, style),
            clip(&gate.measured, CELL_MAX_CHARS).into(),
            required,
        ]);
    }
    let mut text = table.render();
    for gate in response.gates.iter().filter(|gate| gate.state() == GateState::Failed) {
        text.push_str(&format!("\n{BAD}{}{BAD:#}: {}\n  required: {}\n", gate.gate, gate.measured, gate.required));
        text.push_str(&format!("  {ACCENT}→{ACCENT:#} {}\n", gate.remedy));
    }
    for gate in response.gates.iter().filter(|gate| gate.state() == GateState::Waived) {
        let GateResult { gate, waiver_reason, waived_by, .. } = gate;
        text.push_str(&format!("\n{WARN}{gate}{WARN:#} waived by {waived_by}: {waiver_reason}"));
    }
    for signature in &response.signatures {
        text.push_str(&format!("\nsigned by {}", signature_text(signature)));
    }
    let GetGatesResponse { model, version, passed, .. } = response;
    let last = if *passed {
        format!("{GOOD}{model} version {version} may be in production{GOOD:#}")
    } else {
        format!(
            "{BAD}{model} version {version} may not be in production{BAD:#}; take it upon you with: \
             {BOLD}evctl models alias {model} production {version} --waive GATE='why'{BOLD:#}"
        )
    };
    format!("{}\n\n{last}", text.trim_end())
}

fn state_of(state: GateState) -> (&'static str, Style) {
    match state {
        GateState::Unspecified => ("unknown", PLAIN),
        GateState::Passed => ("passed", GOOD),
        GateState::Failed => ("FAILED", BAD),
        GateState::Waived => ("waived", WARN),
        GateState::NotApplicable => ("not applicable", DIM),
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    fn gate(gate: &str, state: GateState, measured: &str) -> GateResult {
        GateResult {
            gate: gate.to_owned(),
            state: state.into(),
            measured: measured.to_owned(),
            required: "a split by group".to_owned(),
            remedy: "split by group".to_owned(),
            ..GateResult::default()
        }
    }

    #[test]
    fn failures_say_what_to_do_and_waivers_why() {
        let waived = GateResult {
            waiver_reason: "no open data".to_owned(),
            waived_by: "ada from 10.0.0.7".to_owned(),
            ..gate("synthetic", GateState::Waived, "`nature` is synthetic")
        };
        let response = GetGatesResponse {
            model: "mine".to_owned(),
            version: 2,
            passed: false,
            gates: vec![gate("group_split", GateState::Failed, "the split says `rows`"), waived],
            ..GetGatesResponse::default()
        };
        assert_eq!(
            strip_str(&render(&response)).to_string(),
            "\
GATE          RESULT   MEASURED                REQUIRED
group_split   FAILED   the split says `rows`   a split by group
synthetic     waived   `nature` is synthetic   a split by group

group_split: the split says `rows`
  required: a split by group
  → split by group

synthetic waived by ada from 10.0.0.7: no open data

mine version 2 may not be in production; take it upon you with: evctl models alias mine production 2 --waive GATE='why'"
        );
        assert_eq!(failed(&response.gates).collect::<Vec<_>>(), ["group_split"]);
    }
}
