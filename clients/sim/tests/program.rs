//! The program: what it writes, and what it refuses.

use std::process::{Command, Output};

fn evsim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evsim")).args(arguments).output().expect("it starts")
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_fleet_is_written_with_its_truth() {
    let folder = tempfile::tempdir().expect("a folder");
    let truth = folder.path().join("truth.jsonl");
    let truth = truth.to_str().expect("a path");
    let output = evsim(&[
        "run",
        "--vehicles",
        "2",
        "--seconds",
        "60",
        "--start",
        "driving",
        "--fault",
        "1:short@30",
        "--fault",
        "1:duplicate@30",
        "--truth",
        truth,
    ]);
    let batches = lines(&output);
    assert_eq!(batches.len(), 2 * 6 + 4, "four of the second vehicle's batches are sent twice");
    assert_eq!(batches[0]["vehicle_id"], "sim-0");
    assert_eq!(batches[0]["times_us"].as_array().map(Vec::len), Some(10));
    assert_eq!(batches[0]["columns"].as_array().map(Vec::len), Some(13));
    let truth = fs_err::read_to_string(truth).expect("the truth");
    let truth: Vec<serde_json::Value> = truth.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(truth.len(), 12);
    assert!(truth[11]["short_ohm"].as_f64().is_some_and(|ohm| ohm > 0.0));
    assert!(truth[10]["short_ohm"].is_null());
}

#[test]
fn readings_are_written_as_csv() {
    let output = evsim(&["run", "--vehicles", "1", "--seconds", "20", "--start", "charging", "--format", "csv"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let fields: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(fields, [17; 21]);
}

#[test]
fn a_recording_is_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("drive.csv");
    fs_err::write(&file, "when,soc,speed_kmh\n2021-03-29 11:13:45,80,10\n2021-03-29 11:13:46,79.5,12\n")
        .expect("written");
    let output = evsim(&[
        "replay",
        file.to_str().expect("a path"),
        "--time-column",
        "when",
        "--vehicle-column",
        "",
        "--vehicle-id",
        "twizy",
        "--utc-offset-hours",
        "1",
        "--signal",
        "soc=Vehicle.Powertrain.TractionBattery.StateOfCharge.Current",
        "--speed",
        "100",
    ]);
    let batches = lines(&output);
    assert_eq!(batches[0]["vehicle_id"], "twizy");
    assert_eq!(batches[0]["times_us"][1], 1_617_012_826_000_000_i64);
    assert_eq!(batches[0]["columns"][0]["values"][1], 79.5);
}

#[test]
fn what_cannot_be_is_said() {
    let check = |arguments: &[&str], expected: &str| {
        let output = evsim(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{said}");
    };
    check(&["run", "--fault", "0:fire@1"], "`0:fire@1` is no fault, expected VEHICLE:KIND@SECOND");
    check(&["replay", "/does/not/exist.csv"], "the recording cannot be opened");
    check(&["replay", "x", "--signal", "soc=Charge"], "`Charge` is no signal");
}
