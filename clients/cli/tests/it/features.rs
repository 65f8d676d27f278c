//! `evctl features` against the real server.

use serde_json::Value;

use crate::support::{evctl, real::RealServer};

#[test]
fn features_come_from_readings_and_from_outside() {
    let Some(server) = RealServer::start() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("drive.csv");
    fs_err::write(&file, "time,battery_temperature,soc\n0,30,80\n1,31.5,79\n").expect("written");
    let file = file.display().to_string();
    let send = ["telemetry", "send", &file, "--vehicle", "car-1", "--speed", "max", "--as-if-now"];
    let run = evctl(&server.url, &[&send[..], &["--ingest", &server.ingest]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let put = evctl(&server.url, &["features", "put", "car-1", "--view", "battery", "rated_capacity_ah=2.8"]);
    assert_eq!((put.code, put.stdout.as_str()), (0, "1 feature of car-1 written to view battery\n"), "{}", put.stderr);
    let old = ["features", "put", "car-1", "--view", "battery", "rated_capacity_ah=2.9", "--time", "1h"];
    assert!(evctl(&server.url, &old).stdout.contains("nothing was written"));

    // What is durable is applied a moment later.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let table = loop {
        let run = evctl(&server.url, &["features", "get", "car-1", "--view", "pack_now", "--view", "battery"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        if run.stdout.contains("state_of_charge_percent") || std::time::Instant::now() > end {
            assert!(run.stderr.contains("features are missing; see which with --missing"), "{}", run.stderr);
            break run.stdout;
        }
    };
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{table}"));
    assert!(row("state_of_charge_percent").contains("79 %"), "{table}");
    assert!(row("rated_capacity_ah").contains("2.8 Ah") && row("rated_capacity_ah").contains("FRESH"), "{table}");
    assert!(row("cells_in_parallel").contains("DEFAULTED"), "{table}");

    let json = evctl(&server.url, &["-o", "json", "features", "get", "car-1"]);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let features = json["features"].as_array().expect("features");
    let charge = features.iter().find(|feature| feature["name"] == "state_of_charge_percent").expect("declared");
    assert_eq!((&charge["number"], &charge["view"]), (&79.0.into(), &"pack_now".into()));

    let wrong = evctl(&server.url, &["features", "put", "car-1", "--view", "battery", "rated_capacity_ah=-1"]);
    assert_eq!(wrong.code, 1, "{}", wrong.stdout);
    assert!(wrong.stderr.contains("of `rated_capacity_ah` is -1, expected 0.1 to 1000 Ah"), "{}", wrong.stderr);
    let unknown = evctl(&server.url, &["features", "get", "car-1", "--view", "weather"]);
    assert!(unknown.stderr.contains("is `weather`, expected one of battery, pack_now"), "{}", unknown.stderr);
}
