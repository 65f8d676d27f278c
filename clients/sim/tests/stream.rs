//! The program streams to the real server, where that has been built: `EVSERVE_BIN`, or `evserve` beside `evsim`.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use ev_client::{
    Client,
    proto::ev::telemetry::v1::{ListVehiclesRequest, QueryRequest},
};
use serde_json::Value;

/// A server that is killed when dropped.
struct Server {
    child: Child,
}

/// Where a server listens, over its deaths.
struct Place {
    program: PathBuf,
    directory: tempfile::TempDir,
    grpc: String,
    telemetry: String,
}

impl Place {
    fn find() -> Option<Place> {
        let beside = Path::new(env!("CARGO_BIN_EXE_evsim")).with_file_name("evserve");
        let program = env::var_os("EVSERVE_BIN").map_or(beside, PathBuf::from);
        if !program.is_file() {
            eprintln!("skipped: {} has not been built; build it, or set EVSERVE_BIN", program.display());
            return None;
        }
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let (grpc, telemetry) = (free().to_string(), free().to_string());
        Some(Place { program, directory: tempfile::tempdir().expect("a folder"), grpc, telemetry })
    }

    fn start(&self) -> Server {
        let mut child = Command::new(&self.program)
            .args(["serve", "--http-address", "127.0.0.1:0", "--set", "data.bundled_models=false"])
            .args(["--grpc-address", &self.grpc, "--telemetry-address", &self.telemetry])
            .arg("--data-directory")
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("evserve starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let ready = lines.by_ref().any(|line| line.contains("evserve ready"));
        assert!(ready, "evserve does not start");
        // Its log must not fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        Server { child }
    }

    fn to(&self) -> String {
        format!("http://{}", self.telemetry)
    }

    /// Readings stored of each vehicle, and the share of its batches that came.
    fn stored(&self) -> BTreeMap<String, (usize, f64)> {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let client = Client::connect(&self.grpc).await.expect("a server");
            let query = client.telemetry();
            let mut pages = query.list_vehicles(ListVehiclesRequest::default());
            let listed = pages.next().await.expect("vehicles").expect("a page");
            let mut stored = BTreeMap::new();
            for vehicle in listed.vehicles {
                let request = QueryRequest { vehicle_id: vehicle.vehicle_id.clone(), ..QueryRequest::default() };
                let mut pages = query.query(request);
                let mut times = Vec::new();
                while let Some(page) = pages.next().await.expect("a page") {
                    times.extend(page.times_us);
                }
                let count = times.len();
                times.sort_unstable();
                times.dedup();
                assert_eq!(times.len(), count, "{} has a reading twice", vehicle.vehicle_id);
                stored.insert(vehicle.vehicle_id, (count, vehicle.completeness));
            }
            stored
        })
    }
}

impl Server {
    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn evsim(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evsim"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn summary(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn what_was_simulated_is_stored_once_with_its_faults() {
    let Some(place) = Place::find() else { return };
    let server = place.start();
    let truth = place.directory.path().join("truth.jsonl");
    let output = evsim(&["run", "--vehicles", "5", "--seconds", "600", "--start", "driving", "--speed", "max"])
        .args(["--fault", "1:duplicate@100", "--fault", "2:gap@200", "--fault", "3:garbage@300"])
        .args(["--fault", "4:skew@300", "--vehicles-per-gateway", "2", "-o", "json"])
        .args(["--to", &place.to(), "--truth"])
        .arg(&truth)
        .output()
        .expect("it starts");
    let summary = summary(&output);
    assert_eq!((&summary["gateways"], &summary["vehicles"]), (&3.into(), &5.into()));
    // Of the gap's 60 seconds six batches, or five where it does not begin with one.
    let lost = summary["lost_batches"].as_u64().expect("a number");
    assert!((5..=6).contains(&lost), "{summary}");
    let batches = 5 * 60 - lost;
    assert_eq!((&summary["batches"], &summary["durable_batches"]), (&batches.into(), &batches.into()));
    assert_eq!(summary["durable_readings"], summary["readings"]);
    assert!(summary["repeated_batches"].as_u64().is_some_and(|repeated| repeated >= 45), "{summary}");
    assert!(summary["rejects"]["implausible_value"].as_u64().is_some_and(|count| count > 0), "{summary}");
    // A clock that is an hour ahead.
    assert!(summary["rejects"]["implausible_time"].as_u64().is_some_and(|count| count > 0), "{summary}");

    let stored = place.stored();
    assert_eq!((stored["sim-0"], stored["sim-1"]), ((600, 1.0), (600, 1.0)));
    let (readings, completeness) = stored["sim-2"];
    assert_eq!(readings as u64, 600 - 10 * lost);
    assert!((completeness - (60 - lost) as f64 / 60.0).abs() < 1e-9, "{completeness}");
    assert_eq!(stored["sim-3"].1, 1.0);
    assert!((290..320).contains(&stored["sim-4"].0), "{stored:?}");

    let truth = fs_err::read_to_string(truth).expect("the truth");
    assert_eq!(truth.lines().count() as u64, batches, "a batch that is sent twice is true once");
    drop(server);
}

#[test]
fn a_server_that_dies_gets_everything_once_it_is_back() {
    let Some(place) = Place::find() else { return };
    let server = place.start();
    // About ten seconds of it.
    let child = evsim(&["run", "--vehicles", "20", "--seconds", "600", "--start", "driving", "--speed", "60x"])
        .args(["-o", "json", "--batch-seconds", "5", "--to", &place.to()])
        .spawn()
        .expect("it starts");
    thread::sleep(Duration::from_secs(3));
    server.kill();
    thread::sleep(Duration::from_secs(2));
    let server = place.start();
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let summary = summary(&output);
    assert_eq!((&summary["readings"], &summary["durable_readings"]), (&12_000.into(), &12_000.into()), "{said}");
    assert!(said.contains("the stream broke") && said.contains("the stream is open again"), "{said}");
    let stored = place.stored();
    assert_eq!(stored.len(), 20);
    assert!(stored.values().all(|vehicle| *vehicle == (600, 1.0)), "{stored:?}");
    drop(server);
}

#[test]
fn a_stream_ends_in_good_order_when_it_is_told_to() {
    let Some(place) = Place::find() else { return };
    let server = place.start();
    let check = |arguments: &[&str], end: fn(&mut Child)| {
        let mut child = evsim(&["run", "--vehicles", "3", "--batch-seconds", "1", "--history", "60", "-o", "json"])
            .args(["--start", "driving", "--to", &place.to()])
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("it starts");
        thread::sleep(Duration::from_secs(2));
        let told = Instant::now();
        end(&mut child);
        let summary = summary(&child.wait_with_output().expect("it ends"));
        assert!(told.elapsed() < Duration::from_secs(5));
        assert!(summary["readings"].as_u64().is_some_and(|count| (180..600).contains(&count)), "{summary}");
        assert_eq!(summary["durable_readings"], summary["readings"]);
    };
    check(&[], |child| {
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    });
    check(&["--until-input-ends"], |child| drop(child.stdin.take()));
    drop(server);
}

#[test]
fn a_recording_is_streamed_as_if_it_were_now() {
    let Some(place) = Place::find() else { return };
    let server = place.start();
    let file = place.directory.path().join("drive.csv");
    let mut recording = fs_err::File::create(&file).expect("a file");
    writeln!(recording, "trip,timestamp,soc_pct,speed_kmh").expect("written");
    for second in 0..60 {
        writeln!(recording, "a,2021-03-29 11:13:{second:02},80,{second}").expect("written");
    }
    drop(recording);
    let run = |arguments: &[&str]| {
        let file = file.to_str().expect("a path");
        let mut command = evsim(&["replay", file, "--speed", "max", "-o", "json", "--to", &place.to()]);
        summary(&command.args(arguments).output().expect("it starts"))
    };
    // Nothing is kept that is years old.
    let refused = run(&[]);
    assert_eq!(refused["rejects"]["implausible_time"], 60, "{refused}");
    assert_eq!(run(&["--as-if-now"])["rejected_readings"], 0);
    assert_eq!(place.stored()["a"], (60, 1.0));
    drop(server);
}

#[test]
fn what_cannot_be_streamed_is_said() {
    let check = |arguments: &[&str], expected: &str| {
        let output = evsim(arguments).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{said}");
    };
    check(&["run", "--to", "http://127.0.0.1:1"], "cannot stream to http://127.0.0.1:1");
    check(&["run", "--to", "nonsense://x y"], "cannot stream to nonsense://x y");
    check(&["run", "--to", "http://127.0.0.1:1", "--speed", "10x"], "--speed faster than 1x needs --seconds");
    check(&["run", "--to", "http://127.0.0.1:1", "--output", "x"], "cannot be used with");
    check(&["run", "--history", "5"], "--to");
    check(&["replay", "-", "--to", "http://127.0.0.1:1", "--as-if-now"], "it needs a file");
}

/// What a newcomer sees: `evserve demo` starts the simulator beside itself.
#[test]
fn the_demo_alarms_within_a_minute() {
    let Some(place) = Place::find() else { return };
    if !place.program.with_file_name("evsim").is_file() {
        return eprintln!("skipped: evsim has not been built beside {}", place.program.display());
    }
    let began = Instant::now();
    let mut child = Command::new(&place.program)
        .args(["demo", "--vehicles", "2", "--http-address", "127.0.0.1:0", "--set", "data.bundled_models=false"])
        .args(["--grpc-address", &place.grpc, "--telemetry-address", &place.telemetry])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("evserve starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let (sender, said) = std::sync::mpsc::channel();
    let reading = thread::spawn(move || lines.for_each(|line| drop(sender.send(line))));
    let server = Server { child };
    let alarm = loop {
        let left = Duration::from_secs(60).saturating_sub(began.elapsed());
        let line = said.recv_timeout(left).expect("an alarm within a minute");
        if line.contains("alert: act now") {
            break line;
        }
    };
    assert!(alarm.contains("sim-0") && alarm.contains("thermal"), "{alarm}");
    // The fleet goes on, and what it had behind it is there.
    let stored = place.stored();
    assert!(stored.values().all(|(readings, completeness)| *readings > 600 && *completeness == 1.0), "{stored:?}");
    // However the server ends, the fleet ends with it: nobody holds its output any more.
    server.kill();
    let ends = Instant::now();
    reading.join().expect("no panic");
    assert!(ends.elapsed() < Duration::from_secs(20));
}
