//! `evctl telemetry` against the real server.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use ev_client::proto::ev::telemetry::v1::{PublishRequest, Reading, RowBatch, SignalNaming};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};
use prost_types::Timestamp;
use serde_json::Value;

use crate::support::{
    Run, evctl,
    real::{RealServer, free},
};

fn lines(run: &Run) -> Vec<Value> {
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn send(server: &RealServer, file: &Path, arguments: &[&str]) -> Run {
    let file = file.display().to_string();
    evctl(&server.url, &[&["telemetry", "send", &file, "--ingest", &server.ingest], arguments].concat())
}

/// A drive of so many readings, a second apart, with and without a speed.
fn drive(directory: &Path, readings: u32) -> std::path::PathBuf {
    let rows = (0..readings).map(|row| {
        let speed = if row % 2 == 0 { (row % 100).to_string() } else { String::new() };
        format!("{row},{:.2},{speed}\n", 80.0 - f64::from(row) * 0.01)
    });
    let text: String = std::iter::once("time,soc,speed[m/s]\n".to_owned()).chain(rows).collect();
    let path = directory.join("drive.csv");
    fs_err::write(&path, text).expect("written");
    path
}

#[test]
fn a_recording_is_sent_shown_exported_and_sent_again() {
    let Some(server) = RealServer::start() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let file = drive(home.path(), 200);
    let run = send(&server, &file, &["--vehicle", "car-1", "--speed", "max"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("200 readings of car-1 in 4 batches are durable, 0 of them refused"), "{}", run.stdout);

    let vehicles = lines(&evctl(&server.url, &["-o", "json", "telemetry", "vehicles"]));
    let car = vehicles.iter().find(|vehicle| vehicle["vehicle_id"] == "car-1").expect("listed");
    assert_eq!((&car["readings"], &car["completeness"]), (&200.into(), &1.0.into()));
    let table = evctl(&server.url, &["telemetry", "vehicles"]).stdout;
    assert!(table.contains("car-1") && table.contains("100.00 %"), "{table}");

    let run = evctl(&server.url, &["telemetry", "latest", "car-1"]);
    assert!(run.stdout.contains("Vehicle.Speed") && run.stdout.contains("352.8 km/h"), "{}{}", run.stdout, run.stderr);
    let table = evctl(&server.url, &["telemetry", "query", "car-1", "--limit", "2"]);
    assert_eq!(table.stdout.lines().count(), 3, "{}", table.stdout);
    assert!(table.stderr.contains("there are more than 2 readings"), "{}", table.stderr);
    let pages = lines(&evctl(&server.url, &["-o", "json", "telemetry", "query", "car-1", "--limit", "150"]));
    let readings: usize = pages.iter().filter_map(|page| page["times_us"].as_array().map(Vec::len)).sum();
    assert_eq!(readings, 150);

    let exported = home.path().join("car-1.csv");
    let export = ["telemetry", "export", "car-1", "--file", &exported.display().to_string()];
    let run = evctl(&server.url, &export);
    assert!(run.code == 0 && run.stderr.contains("200 readings of car-1"), "{}", run.stderr);
    assert_eq!(evctl(&server.url, &export).code, 2, "a file that is there is kept");
    let text = fs_err::read_to_string(&exported).expect("written");
    assert_eq!(text.lines().count(), 201);
    assert!(text.starts_with("time,") && text.contains("Vehicle.Speed[km/h]"), "{}", &text[..100]);
    let printed = evctl(&server.url, &["-o", "csv", "telemetry", "query", "car-1"]).stdout;
    assert_eq!(printed, text);

    let parquet = home.path().join("car-1.parquet");
    let run = evctl(&server.url, &["telemetry", "export", "car-1", "--file", &parquet.display().to_string()]);
    assert!(run.code == 0 && run.stderr.contains("200 readings of car-1"), "{}", run.stderr);
    assert_eq!(as_csv(&parquet), without_units(&text), "both formats have the same readings");
    assert!(!home.path().join("car-1.parquet.partial").exists());
    let unknown = home.path().join("nobody.parquet");
    let run = evctl(&server.url, &["telemetry", "export", "nobody", "--file", &unknown.display().to_string()]);
    assert!(run.code == 1 && fs_err::read_dir(home.path()).expect("listed").count() == 3, "nothing is left");

    let run = send(&server, &exported, &["--vehicle", "car-2", "--speed", "max"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(evctl(&server.url, &["-o", "csv", "telemetry", "query", "car-2"]).stdout, text, "nothing was lost");

    let arguments = ["-o", "json", "telemetry", "aggregate", "car-1", "--by", "day", "--since", "2d"];
    let aggregates = lines(&evctl(&server.url, &arguments));
    let soc = aggregates.iter().filter(|aggregate| aggregate["unit"] == "percent");
    assert_eq!(soc.filter_map(|aggregate| aggregate["count"].as_u64()).sum::<u64>(), 200);
    let run = evctl(&server.url, &["telemetry", "aggregate", "car-1", "--by", "hour", "--since", "2h"]);
    assert!(run.stdout.contains("StateOfCharge.Current"), "{}{}", run.stdout, run.stderr);
}

/// The rows of a Parquet file as the CSV export writes them; the header has no units.
fn as_csv(path: &Path) -> String {
    let file = fs_err::File::open(path).expect("written").into_parts().0;
    let reader = SerializedFileReader::new(file).expect("Parquet");
    let schema = reader.metadata().file_metadata().schema_descr();
    let header: Vec<String> = schema.columns().iter().map(|column| column.name().to_owned()).collect();
    let field = |field: &Field| match field {
        Field::TimestampMicros(time_us) => {
            let since = Duration::from_micros(u64::try_from(*time_us).expect("after 1970"));
            let time = SystemTime::UNIX_EPOCH + since;
            match since.subsec_micros() {
                0 => humantime::format_rfc3339_seconds(time).to_string(),
                micros if micros % 1_000 == 0 => humantime::format_rfc3339_millis(time).to_string(),
                _ => humantime::format_rfc3339_micros(time).to_string(),
            }
        }
        Field::Float(value) => value.to_string(),
        Field::Null => String::new(),
        other => panic!("a field that no export has: {other}"),
    };
    let rows = reader.get_row_iter(None).expect("rows").map(|row| {
        let row = row.expect("a row");
        row.get_column_iter().map(|(_, value)| field(value)).collect::<Vec<_>>().join(",") + "\n"
    });
    std::iter::once(header.join(",") + "\n").chain(rows).collect()
}

fn without_units(csv: &str) -> String {
    let (header, rows) = csv.split_once('\n').expect("a header");
    let names: Vec<&str> = header.split(',').map(|name| name.split('[').next().unwrap_or_default()).collect();
    format!("{}\n{rows}", names.join(","))
}

#[test]
fn what_is_missing_and_what_was_refused_is_shown() {
    let Some(server) = RealServer::start() else { return };
    let batch = |vehicle: &str, sequence: u64, soc: f32| RowBatch {
        vehicle_id: vehicle.to_owned(),
        sequence,
        is_resend: false,
        readings: vec![Reading {
            time: Some(Timestamp::from(SystemTime::now())),
            values: [("soc".to_owned(), soc)].into(),
        }],
    };
    let request = PublishRequest {
        gateway_id: "depot-g".to_owned(),
        boot_id: "a1".to_owned(),
        signal_naming: SignalNaming::Short.into(),
        row_batches: vec![batch("car-g", 1, 80.0), batch("car-g", 4, 180.0), batch("car g", 1, 80.0)],
        ..PublishRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = ev_client::Client::connect(&server.ingest).await.expect("connected");
        client.ingest().publish(request).await.expect("published");
    });

    let run = evctl(&server.url, &["telemetry", "gaps", "car-g"]);
    assert!(run.code == 0 && run.stdout.contains("depot-g   a1      2      2         2-3"), "{}", run.stdout);
    assert!(run.stdout.contains("car-g: 2 of 4 batches came, 50.00 %."), "{}", run.stdout);
    let pages = lines(&evctl(&server.url, &["-o", "json", "telemetry", "gaps", "car-g"]));
    let range = serde_json::json!({ "first": 2, "last": 3 });
    assert_eq!((&pages[0]["sources"][0]["ranges"][0], &pages[0]["completeness"]), (&range, &0.5.into()));
    let run = evctl(&server.url, &["telemetry", "gaps", "nobody"]);
    assert!(run.code == 1 && run.stderr.contains("evctl telemetry vehicles"), "{}", run.stderr);

    let run = evctl(&server.url, &["telemetry", "rejected"]);
    for word in ["malformed batch", "implausible value", "StateOfCharge.Current is 180, expected 0 to 100 percent"] {
        assert!(run.code == 0 && run.stdout.contains(word), "{}{}", run.stdout, run.stderr);
    }
    let run =
        evctl(&server.url, &["-o", "json", "telemetry", "rejected", "--vehicle", "car-g", "--gateway", "depot-g"]);
    let found: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(found["rejected"].as_array().map(Vec::len), Some(1), "{found}");
    let one = &found["rejected"][0];
    let signal = "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current";
    assert_eq!((&one["signal"], &one["value"], &one["sequence"]), (&signal.into(), &180.0.into(), &4.into()));
}

#[test]
fn readings_are_seen_as_they_come() {
    let Some(server) = RealServer::start() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let file = drive(home.path(), 3);
    let url = server.url.clone();
    let arguments = ["-o", "json", "telemetry", "tail", "car-t", "--signal", "Vehicle.Speed", "--count", "1"];
    let tail = std::thread::spawn(move || evctl(&url, &arguments));
    // A watcher sees what comes after it: sent again until it has.
    let end = Instant::now() + Duration::from_secs(60);
    while !tail.is_finished() {
        assert!(Instant::now() < end, "the watcher saw nothing");
        assert_eq!(send(&server, &file, &["--vehicle", "car-t", "--speed", "max"]).code, 0);
    }
    let seen = lines(&tail.join().expect("it ends"));
    assert_eq!((&seen[0]["vehicle_id"], seen[0]["times_us"].as_array().map(Vec::len)), (&"car-t".into(), Some(3)));
    assert_eq!(seen[0]["columns"][0]["signal"], "Vehicle.Speed");
}

#[test]
fn errors_say_what_to_do() {
    let Some(server) = RealServer::start() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let check = |run: Run, code: i32, expected: &[&str]| {
        let named = expected.iter().all(|expected| run.stderr.contains(expected));
        assert!(run.code == code && named, "{}: {}{}", run.code, run.stdout, run.stderr);
    };
    let write = |text: &str| {
        let path = home.path().join("recording.csv");
        fs_err::write(&path, text).expect("written");
        path
    };
    let vehicle = ["--vehicle", "car-e", "--speed", "max"];
    check(evctl(&server.url, &["telemetry", "latest", "nobody"]), 1, &["evctl telemetry vehicles"]);
    let unknown = ["telemetry", "latest", "nobody", "--signal", "Vehicle.Flux"];
    check(evctl(&server.url, &unknown), 1, &["Vehicle.Flux", "evctl telemetry latest VEHICLE"]);
    check(evctl(&server.url, &["-o", "csv", "models", "list"]), 2, &["this command has no CSV"]);
    check(send(&server, Path::new("/nowhere.csv"), &vehicle), 2, &["/nowhere.csv"]);
    check(send(&server, &write("time,soc\n1,2\n2,x\n"), &vehicle), 2, &["line 3", "`x` is not a value of `soc`"]);
    check(send(&server, &write("time,soc\n1,2\n"), &["--vehicle", "a b"]), 2, &["`a b` is not a vehicle id"]);
    // What can be taken is taken, and the rest named.
    let run = send(&server, &write("time,soc,flux,battery_current\n1,80,1,2\n2,180,1,2\n"), &vehicle);
    check(run, 1, &["a column is left out", "flux", "battery_current", "1 readings"]);
    let run = send(&server, &write("time,soc\n2001-02-03T04:05:06Z,80\n"), &vehicle);
    check(run, 1, &["--as-if-now"]);
    let file = write("time,soc\n2001-02-03T04:05:06Z,80\n");
    check(send(&server, &file, &[&vehicle[..], &["--as-if-now"]].concat()), 0, &[]);
    let wrong_port = [&vehicle[..], &["--ingest", &server.url]].concat();
    let file = file.display().to_string();
    let run = evctl(&server.url, &[&["telemetry", "send", &file], &wrong_port[..]].concat());
    check(run, 1, &["--ingest"]);
    let run = evctl(&server.url, &["telemetry", "send", &file, "--vehicle", "a", "--ingest", "http://127.0.0.1:1"]);
    check(run, 3, &["no server answers", "--ingest (or EVCTL_INGEST)"]);
}

#[test]
fn a_recording_arrives_whole_however_often_the_server_is_killed() {
    let home = tempfile::tempdir().expect("a directory");
    let (grpc, ingest) = (free(), free());
    let Some(mut server) = RealServer::start_on(&home.path().join("data"), grpc, ingest, &[]) else { return };
    let file = drive(home.path(), 3_000);
    let (url, address, path) = (server.url.clone(), server.ingest.clone(), file.display().to_string());
    let sending = std::thread::spawn(move || {
        let arguments = ["--vehicle", "car-k", "--speed", "300x", "--batch", "3", "--ingest", &address];
        evctl(&url, &[&["telemetry", "send", &path], &arguments[..]].concat())
    });
    let mut kills = 0;
    while !sending.is_finished() && kills < 20 {
        // Not a wait for something to happen: a moment at random in what happens.
        std::thread::sleep(Duration::from_millis(300 + 97 * kills % 500));
        server.kill();
        server = RealServer::start_on(&home.path().join("data"), grpc, ingest, &[]).expect("it was there before");
        kills += 1;
    }
    let run = sending.join().expect("it ends");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(kills >= 3, "killed {kills} times while it was sent");
    let vehicles = lines(&evctl(&server.url, &["-o", "json", "telemetry", "vehicles"]));
    assert_eq!((&vehicles[0]["readings"], &vehicles[0]["completeness"]), (&3_000.into(), &1.0.into()));
    let csv = evctl(&server.url, &["-o", "csv", "telemetry", "query", "car-k", "--since", "2h"]).stdout;
    let mut times: Vec<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(times.len(), 3_000);
    times.dedup();
    assert_eq!(times.len(), 3_000, "a reading is there twice");
}
