//! `evctl predict --vehicle` and `--watch` against the real server.

use crate::support::{evctl, real::RealServer};

#[test]
fn a_vehicle_that_was_played_back_is_predicted_with_its_features_and_watched() {
    let Some(server) = RealServer::start() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("rest.csv");
    let rows = (0..20).map(|second| format!("{second},25.0,3.74\n"));
    let text: String = std::iter::once(
        "time,Vehicle.Powertrain.TractionBattery.Temperature.Max,Vehicle.Powertrain.TractionBattery.CellVoltage.Min\n"
            .to_owned(),
    )
    .chain(rows)
    .collect();
    fs_err::write(&path, text).expect("written");

    let url = server.url.clone();
    let watching = std::thread::spawn(move || {
        evctl(
            &url,
            &["--timeout", "60s", "-o", "json", "predict", "thermal", "--watch", "--vehicle", "car-1", "--count", "1"],
        )
    });
    let unknown = evctl(&server.url, &["predict", "thermal", "--vehicle", "car-1"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("UNKNOWN_VEHICLE"), "{}", unknown.stderr);
    let file = path.display().to_string();
    let send = ["telemetry", "send", &file, "--ingest", &server.ingest, "--vehicle", "car-1", "--speed", "max"];
    let mut sent = 0;
    // Who began to watch late is shown what comes next.
    while sent == 0 || (!watching.is_finished() && sent < 60) {
        let run = evctl(&server.url, &[&send[..], &["--as-if-now"]].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        sent += 1;
    }
    let run = evctl(&server.url, &["predict", "thermal", "--vehicle", "car-1"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("NORMAL"), "{}", run.stdout);
    let row = |name: &str| {
        let line = run.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{}", run.stdout));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let temperature = row("cell_temperature_max_celsius");
    assert_eq!((temperature[1].as_str(), temperature.last().map(String::as_str)), ("25.0", Some("pack_now")));
    assert_eq!(row("humidity_percent")[1..], ["-", "-", "missing", "pack_now"]);

    let watched = watching.join().expect("no panic");
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    let reply: serde_json::Value = serde_json::from_str(&watched.stdout).expect("one line of JSON");
    assert_eq!(reply["vehicle_id"], "car-1");
    assert_eq!(reply["assessment"]["risk_class"], "RISK_CLASS_NORMAL");

    let battery = evctl(&server.url, &["predict", "battery", "--vehicle", "car-1"]);
    assert!(battery.code == 1 && battery.stderr.contains("FEATURE_MISSING"), "{}", battery.stderr);
    let wrong = evctl(&server.url, &["predict", "thermal", "--watch", "--temperature-c", "40"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("--watch goes with --vehicle"), "{}", wrong.stderr);
}
