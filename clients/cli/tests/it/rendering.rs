//! What the program shows of given answers and errors.

use std::sync::atomic::Ordering;

use crate::support::{evctl, evctl_with_input, fake::FakeServer};

const TESLA: [&str; 6] = ["predict", "range", "--make", "Tesla", "--model", "Model 3"];

#[test]
fn a_table_for_people() {
    let server = FakeServer::start();
    let run = evctl(&server.url, &TESLA);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(
        run.stdout,
        "\
range                 314 km
8 in 10 lie between   250  ···················├────●────┤··  371 km
status                OK
feature coverage      25 % of the model's inputs were given
model                 ev-range version 1 sha256:0123456789ab
prediction id         p-1
time in the server    3.5 us (queue 0.0, features 1.0, inference 2.0)
"
    );
    assert_eq!(run.stderr, "");
}

#[test]
fn json_for_scripts() {
    let server = FakeServer::start();
    let run = evctl(&server.url, &[&TESLA[..], &["-o", "json", "--model-version", "7"]].concat());
    assert_eq!(
        run.stdout,
        r#"{
  "range_q10_km": 250.0,
  "range_q50_km": 314.2,
  "range_q90_km": 371.0,
  "info": {
    "model": {
      "name": "ev-range",
      "version": 7,
      "digest": "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    },
    "prediction_id": "p-1",
    "status": "PREDICTION_STATUS_OK",
    "out_of_distribution": [],
    "feature_coverage": 0.25,
    "timings": {
      "queue_ns": 0,
      "features_ns": 1000,
      "inference_ns": 2000,
      "total_ns": 3500
    },
    "features": [],
    "degraded": false
  }
}
"#
    );
}

#[test]
fn lines_in_lines_out_in_order() {
    let server = FakeServer::start();
    let input = "{\"make\":\"A\",\"model\":\"B\"}\n\nnonsense\n{\"model\":\"B\"}\n{\"make\":\"A\",\"model\":\"B\"}\n";
    let run = evctl_with_input(&server.url, &["predict", "range", "--file", "-"], input);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("{\"id\":1,\"response\":{\"range_q10_km\":250.0,"), "{}", lines[0]);
    assert_eq!(
        lines[1],
        "{\"id\":3,\"error\":{\"code\":3,\"message\":\"line 3: expected ident at column 2\",\"reason\":\"BAD_LINE\",\
         \"field_violations\":[]}}"
    );
    assert!(lines[2].starts_with("{\"id\":4,\"error\":{\"code\":3,\"message\":\"`make` is missing\""), "{}", lines[2]);
    assert!(lines[3].starts_with("{\"id\":5,\"response\""), "{}", lines[3]);
    assert_eq!((run.code, run.stderr.as_str()), (1, "4 rows answered, 2 of them with an error\n"));
}

#[test]
fn a_long_stream_does_not_stall() {
    let server = FakeServer::start();
    let input = "{\"make\":\"A\",\"model\":\"B\"}\n".repeat(5000);
    let run = evctl_with_input(&server.url, &["predict", "range", "--file", "-"], &input);
    assert_eq!((run.code, run.stdout.lines().count()), (0, 5000), "{}", run.stderr);
}

#[test]
fn an_overloaded_server_is_asked_again() {
    let server = FakeServer::start();
    let run = evctl(&server.url, &["predict", "range", "--make", "Overloaded", "--model", "X"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(server.calls.load(Ordering::Relaxed), 2);
}

#[test]
fn attempts_are_bounded() {
    let server = FakeServer::start();
    let run = evctl(&server.url, &["predict", "range", "--make", "Loading", "--model", "X"]);
    assert_eq!(run.code, 1);
    assert_eq!(server.calls.load(Ordering::Relaxed), 3);
    assert_eq!(
        run.stderr,
        "error: still loading (UNAVAILABLE)\n  → try again in a moment\n  → see what is wrong with: evctl doctor\n"
    );
}

#[test]
fn waiting_is_bounded() {
    let server = FakeServer::start();
    let run = evctl(&server.url, &["predict", "range", "--make", "Slow", "--model", "X", "--timeout", "1s"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(run.stderr.contains("DEADLINE_EXCEEDED") && run.stderr.contains("--timeout"), "{}", run.stderr);
}

#[test]
fn an_absent_server_is_told_apart() {
    let run = evctl("http://127.0.0.1:1", &["models", "list"]);
    assert_eq!(run.code, 3);
    assert!(run.stderr.starts_with("error: no server answers at http://127.0.0.1:1: "), "{}", run.stderr);
    assert!(run.stderr.contains("start one with: make demo"), "{}", run.stderr);

    let run = evctl("http://127.0.0.1:1", &["-o", "json", "models", "list"]);
    assert!(run.stderr.starts_with("{\"error\":{\"code\":\"UNREACHABLE\""), "{}", run.stderr);

    let run = evctl("http://127.0.0.1:1", &["doctor"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("connection   FAIL"), "{}", run.stdout);
}

#[test]
fn usage_errors_have_their_own_code() {
    for arguments in [
        &["predict", "range"][..],
        &["--server", "ftp://x", "models", "list"],
        &["--server", "https://x", "models", "list"],
        &["predict", "range", "--file", "/nonexistent.jsonl"],
        &["predict", "battery", "--cycles", "1", "--model-version", "2"],
        &["models", "import", "/nonexistent"],
        &["models", "init", "/nonexistent.ubj"],
    ] {
        let server = FakeServer::start();
        let run = evctl(&server.url, arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
    }
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = evctl("http://127.0.0.1:1", &["completions", shell]);
        assert_eq!(run.code, 0);
        assert!(run.stdout.contains("evctl") && run.stdout.contains("utilization"), "{shell}");
    }
}
