//! `evctl outcomes` against the real server.

use serde_json::Value;

use crate::support::{evctl, real::RealServer};

#[test]
fn outcomes_are_reported_from_files_and_compared() {
    let Some(server) = RealServer::start_with(&[("EVSERVE_PREDICTIONS__LOG__SHARE", "1")]) else { return };
    let run = |arguments: &[&str]| evctl(&server.url, arguments);
    let home = tempfile::tempdir().expect("a directory");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = run(&["-o", "json", "predict", "range", "--make", "Tesla", "--model", "Model 3"]);
        let answer: Value = serde_json::from_str(&answer.stdout).expect("JSON");
        ids.push(answer["info"]["prediction_id"].as_str().expect("an id").to_owned());
    }
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs_err::write(&path, text).expect("written");
        path.display().to_string()
    };
    let nobody = "00000000-0000-7000-8000-000000000000";
    let csv = write("trips.csv", &format!("prediction_id,actual\n{},412.5\n{nobody},1\n", ids[0]));
    let reported = run(&["outcomes", "report", &csv, "--source", "test"]);
    assert_eq!(reported.code, 1, "one was refused: {}", reported.stderr);
    assert!(reported.stdout.starts_with("2 outcomes: 1 stored, 1 refused\n"), "{}", reported.stdout);
    assert!(reported.stdout.contains("line 3: NOT_LOGGED: this prediction is not in the log"), "{}", reported.stdout);

    let line = format!("{{\"prediction_id\": \"{}\", \"number\": 400}}\n", ids[1]);
    let json = write("trips.jsonl", &line);
    let reported = run(&["-o", "json", "outcomes", "report", &json]);
    assert_eq!(reported.code, 0, "{}", reported.stderr);
    let result: Value = serde_json::from_str(&reported.stdout).expect("JSON");
    assert_eq!((&result["line"], &result["status"]), (&1.into(), &"REPORT_STATUS_STORED".into()));
    let corrected = write("corrected.csv", &format!("prediction_id,actual\n{},390\n", ids[1]));
    assert!(run(&["outcomes", "report", &corrected]).stdout.contains("CONFLICT: 400 was reported before"));
    let superseded = run(&["outcomes", "report", &corrected, "--supersede"]);
    assert_eq!((superseded.code, superseded.stdout.as_str()), (0, "1 outcome: 1 corrected\n"));

    let compared = run(&["-o", "json", "outcomes", "compare", "ev-range"]);
    let compared: Value = serde_json::from_str(&compared.stdout).expect("JSON");
    assert_eq!(compared["comparisons"][0]["scored"], 2);
    let table = run(&["outcomes", "compare", "ev-range", "--by-cohort", "--from", "1h"]);
    assert_eq!(table.code, 0, "{}", table.stderr);
    assert!(table.stdout.contains("all") && table.stdout.contains("(not given)"), "{}", table.stdout);

    let bad = write("bad.csv", "prediction_id,truth\n");
    let refused = run(&["outcomes", "report", &bad]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("the column `truth` is not known"), "{}", refused.stderr);
    let unknown = run(&["outcomes", "compare", "ev-rang"]);
    assert!(unknown.stderr.contains("no prediction of model `ev-rang` was logged"), "{}", unknown.stderr);
}
