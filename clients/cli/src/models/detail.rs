//! What a change of the registry was about, in words.

use ev_signing::PublicKey;
use serde_json::{Map, Value};

use super::size_text;
use crate::{style::harmless, table::clip};

/// Characters that are shown of a detail this program knows no words for; JSON output has all of it.
const UNKNOWN_CHARACTERS: usize = 100;

/// The detail of an event, by its action; empty where the event's other fields say it all.
pub(super) fn words(action: &str, detail_json: &str) -> String {
    let Ok(Value::Object(detail)) = serde_json::from_str(detail_json) else {
        return clip(&harmless(detail_json), UNKNOWN_CHARACTERS);
    };
    if detail.is_empty() {
        return String::new();
    }
    // A server of another release may say something else of the same action.
    known(action, &detail).unwrap_or_else(|| clip(&harmless(detail_json), UNKNOWN_CHARACTERS))
}

fn known(action: &str, detail: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| detail.get(key).and_then(Value::as_str).map(harmless);
    let number = |key: &str| detail.get(key).and_then(Value::as_u64);
    if detail.get("adopted") == Some(&Value::Bool(true)) {
        return Some("was there before the log".to_owned());
    }
    match action {
        "register" => Some(size_text(number("size_bytes")?)),
        "set_alias" => match detail.get("previous_version")? {
            Value::Null => Some("new".to_owned()),
            previous => Some(format!("from version {}", previous.as_u64()?)),
        },
        // The version that it pointed at is the event's own.
        "remove_alias" => detail.get("previous_version").map(|_| String::new()),
        "pin" => text("reason"),
        "judge" => judged(detail.get("gates")?.as_array()?),
        "waive" => Some(format!("{}: {}", text("gate")?, text("reason")?)),
        "sign" => Some(format!("key {}", text("public_key")?.parse::<PublicKey>().ok()?.id())),
        "collect_garbage" => Some(format!("{}, {}", count(number("files")?, "file"), size_text(number("bytes")?))),
        "set_version_policy" => text("policy"),
        "rollout" => {
            let (from, to) = (number("baseline_version")?, number("candidate_version")?);
            let share = detail.get("percent").and_then(Value::as_f64).filter(|percent| *percent > 0.0);
            let share = share.map_or_else(String::new, |percent| format!(" with {percent} %"));
            let reason = text("reason").filter(|reason| !reason.is_empty());
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            Some(format!("{} {from} -> {to}, {}{share}{reason}", text("action")?, text("phase")?))
        }
        _ => None,
    }
}

/// How many gates said what; those that failed by name.
fn judged(gates: &[Value]) -> Option<String> {
    let mut failed = Vec::new();
    for gate in gates {
        let text = |key: &str| gate.get(key).and_then(Value::as_str);
        let (gate, state) = (text("gate")?, text("state")?);
        if state == "failed" {
            failed.push(harmless(gate));
        }
    }
    let gates = count(u64::try_from(gates.len()).ok()?, "gate");
    Some(match failed.len() {
        0 => format!("{gates}, none failed"),
        several => format!("{gates}, {several} failed: {}", failed.join(", ")),
    })
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_event_has_words() {
        let check = |action: &str, detail: Value, expected: &str| {
            assert_eq!(words(action, &detail.to_string()), expected, "{action}");
        };
        check("register", json!({"size_bytes": 3 << 20}), "3.00 MiB");
        check("register", json!({"adopted": true}), "was there before the log");
        check("set_alias", json!({"previous_version": 1}), "from version 1");
        check("set_alias", json!({"previous_version": null}), "new");
        check("set_alias", json!({"adopted": true}), "was there before the log");
        check("remove_alias", json!({"previous_version": 1}), "");
        check("delete_version", json!({}), "");
        check("pin", json!({"reason": "in the recall's report"}), "in the recall's report");
        check("unpin", json!({}), "");
        let gate = |gate: &str, state: &str| json!({"gate": gate, "state": state, "measured": "x".repeat(400)});
        let gates = [gate("signature", "passed"), gate("synthetic", "failed"), gate("baseline", "not_applicable")];
        check("judge", json!({"gates": gates}), "3 gates, 1 failed: synthetic");
        check("judge", json!({"gates": gates[..1]}), "1 gate, none failed");
        check("judge", json!({"gates": [gates[1], gates[1]]}), "2 gates, 2 failed: synthetic, synthetic");
        check("waive", json!({"gate": "synthetic", "reason": "no open data"}), "synthetic: no open data");
        let public_key = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
        let key = public_key.parse::<PublicKey>().expect("32 bytes").id();
        check("sign", json!({"public_key": public_key, "signature": "c2ln"}), &format!("key {key}"));
        check("collect_garbage", json!({"files": 1, "bytes": 2048}), "1 file, 2.00 KiB");
        check("collect_garbage", json!({"files": 3, "bytes": 0}), "3 files, 0 B");
        check("set_version_policy", json!({"policy": "latest:2"}), "latest:2");
        let rollout = |action: &str, phase: &str, percent: f64, reason: &str| {
            json!({
                "rollout": "0199", "action": action, "phase": phase, "percent": percent,
                "baseline_version": 3, "candidate_version": 4, "reason": reason,
            })
        };
        check("rollout", rollout("start", "pending", 0.0, ""), "start 3 -> 4, pending");
        check(
            "rollout",
            rollout("advance", "canary", 2.5, "guards pass"),
            "advance 3 -> 4, canary with 2.5 %: guards pass",
        );
    }

    #[test]
    fn what_is_not_known_is_shown_as_it_is() {
        let check = |action: &str, detail: &str, expected: &str| assert_eq!(words(action, detail), expected);
        check("of_another_release", r#"{"a":1}"#, r#"{"a":1}"#);
        check("judge", r#"{"gates":"all"}"#, r#"{"gates":"all"}"#);
        check("judge", r#"{"gates":[{"gate":1}]}"#, r#"{"gates":[{"gate":1}]}"#);
        check("pin", "no JSON \u{1b}[2J", "no JSON  [2J");
        check("pin", &"é".repeat(101), &format!("{}…", "é".repeat(100)));
        check("pin", r#"{"reason":"\u001b[2Jgone"}"#, " [2Jgone");
    }
}
