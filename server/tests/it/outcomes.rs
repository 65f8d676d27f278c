//! The prediction log and what happened, through the real server.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use ev_client::{Client, Code};
use ev_proto::ev::{
    battery::v1::{PredictRequest as BatteryRequest, Target},
    outcomes::v1::{
        CompareRequest, Comparison, Outcome, ReportRequest, ReportResult, ReportStatus, comparison::Score,
        outcome::Actual,
    },
    range::v1::{PredictBatchResponse, PredictRequest, PredictResponse, predict_batch_result, predict_stream_response},
};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};
use prost_types::Timestamp;

use crate::support::{assert_eventually, disk::SmallDisk, process::Evserve, server::TestServer};

/// Everything is logged, and files are written as soon as may be.
const ALL: [(&str, &str); 2] = [("predictions.log.share", "1"), ("predictions.log.file_age_max", "1s")];

fn tesla(battery_capacity_kwh: f32) -> PredictRequest {
    PredictRequest {
        make: "Tesla".into(),
        model: "Model 3 Long Range".into(),
        battery_capacity_kwh: Some(battery_capacity_kwh),
        drivetrain: Some("AWD".into()),
        ..PredictRequest::default()
    }
}

async fn range(client: &Client, request: &PredictRequest) -> (String, PredictResponse) {
    let response = client.range().predict(request.clone()).await.expect("answered");
    (response.info.as_ref().expect("info").prediction_id.clone(), response)
}

fn outcome(prediction_id: &str, actual: Actual) -> Outcome {
    Outcome { prediction_id: prediction_id.to_owned(), actual: Some(actual), observed_time: None, supersede: false }
}

async fn report(client: &Client, outcomes: Vec<Outcome>) -> Vec<ReportResult> {
    let request = ReportRequest { outcomes, source: "test".to_owned() };
    client.outcomes().report(request).await.expect("reported").results
}

async fn compare(client: &Client, model: &str) -> Vec<Comparison> {
    let request = CompareRequest { model: model.to_owned(), by_cohort: true, ..CompareRequest::default() };
    client.outcomes().compare(request).await.expect("compared").comparisons
}

/// What a result says: its status, or code, reason, and the beginning of the message.
fn said(result: &ReportResult) -> String {
    match &result.error {
        None => result.status().as_str_name().to_owned(),
        Some(error) => format!("{:?} {} {}", Code::from_i32(error.code), error.reason, error.message),
    }
}

fn files(data: &Path, model: &str) -> Vec<PathBuf> {
    let Ok(files) = fs_err::read_dir(data.join("predictions").join(model)) else { return Vec::new() };
    let files = files.map(|file| file.expect("a file").path());
    files.filter(|path| path.extension().is_some_and(|it| it == "parquet")).collect()
}

/// The answers of a batch that was answered as a whole.
fn all(batch: PredictBatchResponse) -> Vec<PredictResponse> {
    let answers = batch.results.into_iter().map(|result| match result.result {
        Some(predict_batch_result::Result::Response(answer)) => answer,
        other => panic!("{other:?}"),
    });
    answers.collect()
}

/// All rows of a model's files.
fn rows(data: &Path, model: &str) -> Vec<BTreeMap<String, Field>> {
    let mut rows = Vec::new();
    for path in files(data, model) {
        let reader = SerializedFileReader::new(fs_err::File::open(path).expect("a file").into_parts().0);
        for row in reader.expect("Parquet").get_row_iter(None).expect("rows") {
            let row = row.expect("a row");
            rows.push(row.get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect());
        }
    }
    rows
}

#[tokio::test]
async fn what_happened_is_compared_with_what_was_predicted() {
    let server = TestServer::start(&ALL).await;
    let client = server.client().await;
    let (mut outcomes, mut errors, mut covered) = (Vec::new(), Vec::new(), 0);
    for (kwh, actual) in [(50.0, 350.0), (60.0, 520.0), (75.0, 480.0)] {
        let (id, answer) = range(&client, &tesla(kwh)).await;
        outcomes.push(outcome(&id, Actual::Number(actual)));
        errors.push(f64::from(answer.range_q50_km) - actual);
        covered += u32::from(f64::from(answer.range_q10_km) <= actual && actual <= f64::from(answer.range_q90_km));
    }
    // Of another cohort, and never reported.
    range(&client, &PredictRequest { drivetrain: Some("FWD".into()), ..tesla(60.0) }).await;
    // Said to be out of distribution: told, and not scored.
    let (strange, _) = range(&client, &PredictRequest { drivetrain: Some("6WD".into()), ..tesla(60.0) }).await;
    outcomes.push(outcome(&strange, Actual::Number(1.0)));

    // At once: what is on its way to the log is waited for.
    let results = report(&client, outcomes.clone()).await;
    assert!(results.iter().all(|result| result.status() == ReportStatus::Stored), "{results:?}");
    let again = report(&client, outcomes).await;
    assert!(again.iter().all(|result| result.status() == ReportStatus::AlreadyReported), "{again:?}");

    let compared = compare(&client, "ev-range").await;
    let found: Vec<_> = compared
        .iter()
        .map(|it| (it.cohort.as_deref(), it.predictions, it.reported, it.scored, it.out_of_distribution))
        .collect();
    let expected =
        [(None, 5, 4, 3, 1), (Some("(other)"), 1, 1, 0, 1), (Some("AWD"), 3, 3, 3, 0), (Some("FWD"), 1, 0, 0, 0)];
    assert_eq!(found, expected);
    let Some(Score::Numbers(score)) = &compared[0].score else { panic!("{compared:?}") };
    let n = 3.0;
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    close(score.mean_absolute_error, errors.iter().map(|error| error.abs()).sum::<f64>() / n);
    close(score.root_mean_squared_error, (errors.iter().map(|error| error * error).sum::<f64>() / n).sqrt());
    close(score.bias, errors.iter().sum::<f64>() / n);
    close(score.interval_coverage.expect("intervals"), f64::from(covered) / n);
    assert_eq!(compared[0].score, compared[2].score, "the cohort is all that was scored");
    let model = compared[0].model.as_ref().expect("a version");
    assert_eq!((model.name.as_str(), model.version), ("ev-range", 1));
    assert!(model.digest.starts_with("sha256:"));

    // Before the first prediction there was none.
    let end_time = Some(Timestamp { seconds: 1_000_000_000, nanos: 0 });
    let request = CompareRequest { model: "ev-range".into(), end_time, ..CompareRequest::default() };
    let before = client.outcomes().compare(request).await.expect("compared").comparisons;
    assert_eq!((before.len(), before[0].predictions, before[0].score.is_none()), (1, 0, true));
}

#[tokio::test]
async fn what_cannot_be_taken_says_why_and_leaves_the_others_alone() {
    let server = TestServer::start(&ALL).await;
    let client = server.client().await;
    let (id, _) = range(&client, &tesla(60.0)).await;
    let nothing = "00000000-0000-7000-8000-000000000000";
    let superseding = Outcome { supersede: true, ..outcome(&id, Actual::Number(420.0)) };
    let results = report(
        &client,
        vec![
            outcome(&id, Actual::Number(400.0)),
            outcome(&id, Actual::Number(410.0)),
            outcome(&id, Actual::Class("far".into())),
            outcome(&id, Actual::Number(f64::INFINITY)),
            outcome(nothing, Actual::Number(1.0)),
            outcome("seven", Actual::Number(1.0)),
            Outcome { actual: None, ..outcome(&id, Actual::Number(1.0)) },
            superseding,
        ],
    )
    .await;
    let said: Vec<String> = results.iter().map(said).collect();
    let begins = [
        "REPORT_STATUS_STORED",
        "AlreadyExists CONFLICT 400 was reported before; set `supersede` to correct it",
        "InvalidArgument INVALID_OUTCOME `actual` is the class `far`, expected a number",
        "InvalidArgument INVALID_OUTCOME `actual` is inf, expected a finite number",
        "NotFound NOT_LOGGED this prediction is not in the log of this server",
        "InvalidArgument INVALID_ID `prediction_id` is `seven`, expected an id",
        "InvalidArgument MISSING_FIELD `actual` is missing",
        "REPORT_STATUS_SUPERSEDED",
    ];
    for (said, begin) in said.iter().zip(begins) {
        assert!(said.starts_with(begin), "{said}");
    }
    let outcomes = client.outcomes();
    let refused = |request: ReportRequest| {
        let outcomes = outcomes.clone();
        async move { outcomes.report(request).await.expect_err("refused").to_string() }
    };
    let many = vec![outcome(&id, Actual::Number(1.0)); 10_001];
    assert!(refused(ReportRequest::default()).await.contains("is empty, expected at least one"));
    let error = refused(ReportRequest { outcomes: many, source: String::new() }).await;
    assert!(error.contains("has 10001 outcomes, expected at most 10000"), "{error}");
    let one = vec![outcome(&id, Actual::Number(1.0))];
    let error = refused(ReportRequest { outcomes: one, source: "x".repeat(65) }).await;
    assert!(error.contains("has 65 bytes, expected at most 64"), "{error}");
    let compare = |request: CompareRequest| {
        let outcomes = outcomes.clone();
        async move { outcomes.compare(request).await.expect_err("refused").to_string() }
    };
    let of = |model: &str| CompareRequest { model: model.to_owned(), ..CompareRequest::default() };
    assert!(compare(of("")).await.contains("expected the name of a model"));
    assert!(compare(of("ev-rang")).await.contains("no prediction of model `ev-rang` was logged"));
    let error = compare(CompareRequest { versions: vec![7], ..of("ev-range") }).await;
    assert!(error.contains("holds 7, expected versions whose predictions were logged: [1]"), "{error}");
}

#[tokio::test]
async fn a_logged_row_makes_the_same_answer_again() {
    let server = TestServer::start(&ALL).await;
    let client = server.client().await;
    let asked = [
        tesla(60.0),
        PredictRequest { make: "tesla ".into(), range_cycle: Some("EPA".into()), ..tesla(74.9) },
        PredictRequest { make: "Nobody's".into(), ..tesla(60.0) },
        PredictRequest { make: "Kia".into(), model: "Niro".into(), ..PredictRequest::default() },
    ];
    let mut answers = BTreeMap::new();
    for request in &asked {
        let (id, answer) = range(&client, request).await;
        answers.insert(id, answer);
    }
    let batch = client.range().predict_batch(asked.to_vec()).await.expect("answered");
    for answer in all(batch) {
        answers.insert(answer.info.as_ref().expect("info").prediction_id.clone(), answer);
    }
    let data = server.data();
    assert_eventually!(rows(data, "ev-range").len() == 8, "the rows are in files");
    for row in rows(data, "ev-range") {
        let text = |name: &str| match &row[name] {
            Field::Str(text) => Some(text.clone()),
            _ => None,
        };
        let number = |name: &str| match row[name] {
            Field::Float(number) => Some(number),
            _ => None,
        };
        let given = answers.remove(&text("prediction_id").expect("an id")).expect("an answer that was given");
        let logged = ["answer_q10", "answer_q50", "answer_q90"].map(|name| number(name).expect("answered"));
        let bits = |answer: &PredictResponse| {
            [answer.range_q10_km, answer.range_q50_km, answer.range_q90_km].map(f32::to_bits)
        };
        assert_eq!(logged.map(f32::to_bits), bits(&given));
        let request = PredictRequest {
            make: text("input_make").expect("given"),
            model: text("input_model").expect("given"),
            battery_capacity_kwh: number("input_battery_capacity_kwh"),
            drivetrain: text("input_drivetrain"),
            range_cycle: text("input_range_cycle"),
            ..PredictRequest::default()
        };
        let (_, again) = range(&client, &request).await;
        assert_eq!(bits(&again), bits(&given), "{row:?}");
        let model = given.info.as_ref().and_then(|info| info.model.as_ref()).expect("a version");
        assert_eq!(text("digest").as_deref(), Some(model.digest.as_str()), "it says which version that was");
    }
    assert!(answers.is_empty(), "not logged: {answers:?}");
}

#[tokio::test]
async fn every_way_to_ask_is_logged_under_the_id_of_its_answer() {
    use ev_proto::ev::range::v1::PredictStreamRequest;
    let server = TestServer::start(&ALL).await;
    let client = server.client().await;
    let mut ids = Vec::new();
    let id_of = |answer: PredictResponse| answer.info.expect("info").prediction_id;
    ids.push(id_of(client.range().predict(tesla(60.0)).await.expect("answered")));
    let batch = client.range().predict_batch(vec![tesla(61.0); 3]).await.expect("answered");
    ids.extend(all(batch).into_iter().map(id_of));
    let messages = (0..20).map(|id| PredictStreamRequest { id, request: Some(tesla(62.0)) });
    let mut stream = client.range().predict_stream(tokio_stream::iter(messages)).await.expect("begun");
    while let Some(message) = stream.next().await.expect("goes on") {
        let Some(predict_stream_response::Result::Response(answer)) = message.result else { panic!("{message:?}") };
        ids.push(id_of(answer));
    }
    let outcomes = ids.iter().map(|id| outcome(id, Actual::Number(400.0))).collect();
    let results = report(&client, outcomes).await;
    assert_eq!(results.len(), 24);
    assert!(results.iter().all(|result| result.status() == ReportStatus::Stored), "{results:?}");
    // Events are reported as what they are.
    let request = BatteryRequest {
        targets: vec![Target::Failure.into()],
        cycle_count: Some(300.0),
        discharge_voltage_end_v: Some(2.7),
        discharge_temperature_max_celsius: Some(38.0),
        discharge_duration_s: Some(3_000.0),
        state_of_health_percent: Some(85.0),
        ..BatteryRequest::default()
    };
    if let Ok(answer) = client.battery().predict(request).await {
        let id = answer.failure.and_then(|failure| failure.info).expect("asked for").prediction_id;
        let results = report(&client, vec![outcome(&id, Actual::Number(0.5)), outcome(&id, Actual::Number(0.0))]).await;
        assert!(said(&results[0]).contains("expected 1 where the event happened"), "{results:?}");
        assert_eq!(results[1].status(), ReportStatus::Stored);
    }
}

#[tokio::test]
async fn what_is_logged_survives_a_kill() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = [("predictions.log.share", "1")];
    let server = Evserve::start(directory.path(), &settings).await;
    let client = server.endpoint().client().await;
    let mut ids = Vec::new();
    for kwh in 40_u8..60 {
        ids.push(range(&client, &tesla(kwh.into())).await.0);
    }
    let reported = report(&client, ids.iter().take(10).map(|id| outcome(id, Actual::Number(400.0))).collect()).await;
    assert!(reported.iter().all(|result| result.status() == ReportStatus::Stored));
    // What was predicted before a comparison is in it, and from then on survives.
    assert_eq!(compare(&client, "ev-range").await[0].predictions, 20);
    server.kill().await;
    assert!(files(directory.path(), "ev-range").is_empty(), "no file was due");

    let server = Evserve::start(directory.path(), &[ALL[0], ALL[1]]).await;
    let client = server.endpoint().client().await;
    let compared = compare(&client, "ev-range").await;
    assert_eq!((compared[0].predictions, compared[0].reported), (20, 10));
    // The rows that waited for a file come into one.
    assert_eventually!(rows(directory.path(), "ev-range").len() == 20, "the rows are in a file");
    let again = report(&client, ids.iter().map(|id| outcome(id, Actual::Number(400.0))).collect()).await;
    let stored = again.iter().filter(|result| result.status() == ReportStatus::Stored).count();
    assert_eq!(stored, 10, "ten were known");
}

#[tokio::test]
async fn a_full_disk_costs_predictions_nothing_and_the_log_goes_on() {
    let Some(disk) = SmallDisk::mount("32m") else { return };
    let server = Evserve::start(disk.path(), &[ALL[0]]).await;
    let endpoint = server.endpoint();
    let client = endpoint.client().await;
    let (logged, before) = range(&client, &tesla(60.0)).await;
    let stored = report(&client, vec![outcome(&logged, Actual::Number(1.0))]).await;
    assert_eq!(stored[0].status(), ReportStatus::Stored);
    disk.fill(0);
    let dropped = || endpoint.metric("ev_predictions_dropped_total{reason=\"disk_full\"}");
    let begun = std::time::Instant::now();
    while dropped().await == 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the log takes what it has no place for");
        for _ in 0..200 {
            let (_, answer) = range(&client, &tesla(60.0)).await;
            assert_eq!(answer.range_q50_km.to_bits(), before.range_q50_km.to_bits());
        }
    }
    let told = || {
        let logs = server.logs();
        logs.iter().filter(|line| line["fields"]["message"].to_string().contains("cannot be logged")).count()
    };
    assert_eq!(told(), 1, "one line a minute");
    disk.free();
    let begun = std::time::Instant::now();
    loop {
        let (id, _) = range(&client, &tesla(60.0)).await;
        let results = report(&client, vec![outcome(&id, Actual::Number(2.0))]).await;
        if results[0].status() == ReportStatus::Stored {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{results:?}");
    }
    assert_eq!(compare(&client, "ev-range").await[0].reported, 2);
}
