//! The log as its users see it: what goes in, what is in the files, and what a comparison makes of it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use ev_outcomes::{
    Actual, Dropped, Errors, ErrorsQuestion, Input, InputKind, Outcomes, OutcomesError, Output, Prediction,
    PredictionLog, Question, Report, Reported, Score, Settings, Status, Value, Version,
};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::Field,
};
use proptest::prelude::*;
use uuid::Uuid;

const NOW_US: i64 = 1_700_000_000_000_000;

struct Log {
    log: PredictionLog<Prediction>,
    outcomes: Outcomes,
    directory: tempfile::TempDir,
}

impl Log {
    fn open(settings: Settings) -> Log {
        let directory = tempfile::tempdir().expect("a directory");
        let (log, outcomes) =
            PredictionLog::start(directory.path(), settings, Arc::new(|| NOW_US), || {}).expect("the log starts");
        Log { log, outcomes, directory }
    }

    fn flush(&self, files: bool) {
        let (done, written) = mpsc::channel::<()>();
        self.log.flush(files, move || drop(done));
        let _ = written.recv();
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in fs_err::read_dir(self.directory.path()).expect("read").flatten() {
            if entry.file_type().expect("a type").is_dir() {
                files.extend(fs_err::read_dir(entry.path()).expect("read").flatten().map(|file| file.path()));
            }
        }
        files.sort();
        files
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn version(number: u32, output: Output) -> Arc<Version> {
    let input = |name: &str, kind| Input { name: name.to_owned(), kind };
    let inputs = vec![
        input("make", InputKind::Text),
        input("battery_capacity_kwh", InputKind::Number),
        input("is_leased", InputKind::Flag),
        input("curve", InputKind::Vector),
    ];
    Arc::new(Version {
        model: "ev-range".to_owned(),
        version: number,
        digest: format!("sha256:{number}"),
        inputs,
        output,
    })
}

/// The id of a prediction at a time.
fn id(time_us: i64, number: u64) -> Uuid {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(time_us.unsigned_abs() / 1_000, &random).into_uuid()
}

fn prediction(version: &Arc<Version>, number: u64, answer: &[f32]) -> Prediction {
    Prediction {
        id: id(NOW_US, number),
        time_us: NOW_US,
        version: Arc::clone(version),
        cohort: "AWD".to_owned(),
        key: None,
        inputs: vec![None, Some(Value::Number(60.0)), None, None],
        status: Status::Ok,
        answer: answer.to_vec(),
        coverage: 0.5,
        total: Duration::from_micros(20),
    }
}

fn report(prediction: &Prediction, actual: Actual) -> Report {
    Report { prediction: prediction.id, actual, observed_us: None, supersedes: false }
}

fn rows(path: &Path) -> Vec<BTreeMap<String, Field>> {
    let file = bytes::Bytes::from(fs_err::read(path).expect("a file"));
    let reader = SerializedFileReader::new(file).expect("Parquet");
    let rows = reader.get_row_iter(None).expect("rows").map(|row| {
        let row = row.expect("a row");
        row.get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect()
    });
    rows.collect()
}

#[test]
fn a_file_has_what_was_given_and_what_was_answered() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let log = Log::open(Settings::default());
    let version = version(3, Output::Quantiles);
    let whole = Prediction {
        key: Some("car-1".to_owned()),
        inputs: vec![
            Some(Value::Text("Tesla".to_owned())),
            Some(Value::Number(60.5)),
            Some(Value::Flag(true)),
            Some(Value::Vector(vec![1.0, 2.5])),
        ],
        ..prediction(&version, 1, &[380.0, 400.0, 430.0])
    };
    let unknown = Prediction { status: Status::Unknown, answer: Vec::new(), ..prediction(&version, 2, &[]) };
    log.log.offer(whole.clone());
    log.log.offer(unknown);
    log.flush(true);
    let files = log.files();
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].ends_with("ev-range/v3-since-1700000000-1.parquet"), "{files:?}");
    let rows = rows(&files[0]);
    let text = |text: &str| Field::Str(text.to_owned());
    let expected = |name: &str| match name {
        "prediction_id" => text(&whole.id.to_string()),
        "time" => Field::TimestampMicros(NOW_US),
        "model" => text("ev-range"),
        "version" => Field::Int(3),
        "digest" => text("sha256:3"),
        "cohort" => text("AWD"),
        "key" => text("car-1"),
        "status" => text("OK"),
        "feature_coverage" => Field::Float(0.5),
        "total_s" => Field::Double(20e-6),
        "input_make" => text("Tesla"),
        "input_battery_capacity_kwh" => Field::Float(60.5),
        "input_is_leased" => Field::Bool(true),
        "answer_q10" => Field::Float(380.0),
        "answer_q50" => Field::Float(400.0),
        "answer_q90" => Field::Float(430.0),
        name => panic!("{name}"),
    };
    for (name, field) in rows[0].iter().filter(|(name, _)| *name != "input_curve") {
        assert_eq!(*field, expected(name), "{name}");
    }
    assert_eq!(rows[0]["input_curve"].to_string(), "[1.0, 2.5]");
    assert_eq!(rows[0].len(), 17);
    for name in ["key", "input_make", "input_is_leased", "answer_q10", "answer_q90"] {
        assert_eq!(rows[1][name], Field::Null, "{name}");
    }
    assert_eq!(rows[1]["status"], text("UNKNOWN"));
    assert_eq!((log.log.counts().logged(), log.log.counts().files()), (2, 1));
}

#[test]
fn files_are_written_when_they_are_full_and_one_for_each_version() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let log = Log::open(Settings { file_rows_max: 100, ..Settings::default() });
    let versions = [version(1, Output::Quantiles), version(2, Output::Probability)];
    for number in 0..150 {
        log.log.offer(prediction(&versions[0], number, &[1.0, 2.0, 3.0]));
    }
    log.log.offer(prediction(&versions[1], 150, &[0.5]));
    let begun = std::time::Instant::now();
    while log.files().iter().filter(|file| file.extension().is_some_and(|it| it == "parquet")).count() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the first file is full");
        std::thread::sleep(Duration::from_millis(10));
    }
    log.flush(true);
    let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
    for file in log.files() {
        for row in rows(&file) {
            let id = row["prediction_id"].clone();
            if row.contains_key("answer_q10") { of_first.push(id) } else { of_second.push(id) }
        }
    }
    of_first.sort_by_key(ToString::to_string);
    of_first.dedup();
    assert_eq!((of_first.len(), of_second.len()), (150, 1));
}

#[test]
fn what_waits_for_a_file_survives_and_is_in_one_file_once() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let directory = tempfile::tempdir().expect("a directory");
    let version = version(1, Output::Quantiles);
    let start = || {
        PredictionLog::<Prediction>::start(directory.path(), Settings::default(), Arc::new(|| NOW_US), || {})
            .expect("the log starts")
    };
    let (log, outcomes) = start();
    let refused = PredictionLog::<Prediction>::start(directory.path(), Settings::default(), Arc::new(|| NOW_US), || {});
    assert!(matches!(refused, Err(OutcomesError::InUse { .. })), "two would write the same files");
    for number in 0..20 {
        log.offer(prediction(&version, number, &[1.0, 2.0, 3.0]));
    }
    log.stop();
    runtime.block_on(outcomes.close());
    assert!(!directory.path().join("ev-range").exists(), "nothing is due");
    // Left by a process that died while it wrote.
    fs_err::create_dir(directory.path().join("ev-range")).expect("made");
    let partial = directory.path().join("ev-range/v1-since-1700000000-1.partial");
    fs_err::write(&partial, "PAR1").expect("written");

    let (log, outcomes) = start();
    log.offer(prediction(&version, 20, &[1.0, 2.0, 3.0]));
    let (done, written) = mpsc::channel::<()>();
    log.flush(true, move || drop(done));
    let _ = written.recv();
    let files: Vec<PathBuf> =
        fs_err::read_dir(directory.path().join("ev-range")).expect("read").flatten().map(|file| file.path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(rows(&files[0]).len(), 21);
    let question = Question { model: "ev-range".to_owned(), ..Question::default() };
    let compared = runtime.block_on(outcomes.compare(&question)).expect("compared");
    assert_eq!(compared[0].predictions, 21);
    log.stop();
}

#[test]
fn a_full_queue_drops_and_counts() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let log = Log::open(Settings { queue_rows_max: 10, ..Settings::default() });
    let version = version(1, Output::Quantiles);
    for number in 0..5_000 {
        log.log.offer(prediction(&version, number, &[1.0, 2.0, 3.0]));
    }
    log.flush(false);
    let counts = log.log.counts();
    assert!(counts.dropped(Dropped::QueueFull) > 0);
    assert_eq!(counts.logged() + counts.dropped(Dropped::QueueFull), 5_000);
}

#[test]
fn answers_are_kept_within_their_number_and_time_with_their_outcomes() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let day = Duration::from_secs(86_400);
    let log = Log::open(Settings { answers_max: 30, keep_answers: day, ..Settings::default() });
    let version = version(1, Output::Quantiles);
    let at = |time_us: i64, number: u64| Prediction {
        id: id(time_us, number),
        time_us,
        ..prediction(&version, number, &[1.0, 2.0, 3.0])
    };
    let two_days_ago = NOW_US - 2 * 86_400_000_000;
    let all: Vec<Prediction> =
        (0..20).map(|it| at(two_days_ago, it)).chain((20..70).map(|it| at(NOW_US, it))).collect();
    // The first look at ages comes with the first tick: everything has to be there before.
    log.log.stop();
    runtime.block_on(log.outcomes.close());
    let settings = Settings { answers_max: 30, keep_answers: day, ..Settings::default() };
    let clock = |now_us: i64| -> ev_outcomes::Clock { Arc::new(move || now_us) };
    let kept = Settings { answers_max: 1_000, keep_answers: day * 10, ..settings.clone() };
    let (first, outcomes) =
        PredictionLog::<Prediction>::start(log.directory.path(), kept, clock(two_days_ago), || {}).expect("starts");
    all.iter().for_each(|prediction| first.offer(prediction.clone()));
    first.stop();
    let reports: Vec<Report> = all.iter().map(|prediction| report(prediction, Actual::Number(2.0))).collect();
    let stored = runtime.block_on(outcomes.report(&reports, "test", 1)).expect("stored");
    assert!(stored.iter().all(|reported| *reported == Reported::Stored));
    runtime.block_on(outcomes.close());

    let (second, outcomes) =
        PredictionLog::<Prediction>::start(log.directory.path(), settings, clock(NOW_US), || {}).expect("starts");
    let question = Question { model: "ev-range".to_owned(), ..Question::default() };
    let begun = std::time::Instant::now();
    loop {
        let compared = runtime.block_on(outcomes.compare(&question)).expect("compared");
        if (compared[0].predictions, compared[0].reported) == (30, 30) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{compared:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let results = runtime.block_on(outcomes.report(&reports, "test", 2)).expect("asked");
    let forgotten = results.iter().take_while(|reported| **reported == Reported::NotLogged).count();
    assert_eq!(forgotten, 40, "the oldest went");
    assert!(results[forgotten..].iter().all(|reported| *reported == Reported::Known));
    second.stop();
}

#[test]
fn a_prediction_is_written_soon_after_others_and_after_a_long_silence() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let log = Log::open(Settings::default());
    let version = version(1, Output::Quantiles);
    for logged in 1..=3 {
        // Long enough that the log has nothing to do and waits for something.
        std::thread::sleep(Duration::from_millis(500));
        let begun = std::time::Instant::now();
        log.log.offer(prediction(&version, logged, &[380.0, 400.0, 430.0]));
        while log.log.counts().logged() < logged {
            assert!(begun.elapsed() < Duration::from_secs(3), "it was not woken");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_report_is_stored_once_and_a_contradiction_is_refused_or_kept_beside() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let log = Log::open(Settings::default());
    let versions = [
        version(1, Output::Quantiles),
        version(2, Output::Probability),
        version(3, Output::Classes(["Normal", "Alarm"].map(str::to_owned).into())),
        version(4, Output::Numbers(2)),
    ];
    let predictions = [
        prediction(&versions[0], 1, &[1.0, 2.0, 3.0]),
        prediction(&versions[1], 2, &[0.5]),
        prediction(&versions[2], 3, &[0.25, 0.75]),
        prediction(&versions[3], 4, &[0.25, 0.75]),
    ];
    predictions.iter().for_each(|prediction| log.log.offer(prediction.clone()));
    log.flush(false);
    let tell = |report: Report| {
        let mut told = runtime.block_on(log.outcomes.report(&[report], "depot 7", 5)).expect("told");
        told.pop().expect("one")
    };
    let check = |of: usize, actual: Actual, expected: Reported| {
        assert_eq!(tell(report(&predictions[of], actual.clone())), expected, "{of} {actual:?}");
    };
    let class = |name: &str| Actual::Class(name.to_owned());
    let invalid = |problem: &str| Reported::Invalid { problem: problem.to_owned() };
    check(0, Actual::Number(2.5), Reported::Stored);
    check(0, Actual::Number(2.5), Reported::Known);
    check(0, Actual::Number(3.0), Reported::Conflict { before: Actual::Number(2.5) });
    check(0, class("Alarm"), invalid("is the class `Alarm`, expected a number: the model predicts one"));
    check(0, Actual::Number(f64::NAN), invalid("is NaN, expected a finite number"));
    check(1, Actual::Number(0.5), invalid("is 0.5, expected 1 where the event happened and 0 where it did not"));
    check(1, Actual::Number(1.0), Reported::Stored);
    check(2, Actual::Number(1.0), invalid("is the number 1, expected a class: one of Normal, Alarm"));
    check(2, class("Watch"), invalid("is the class `Watch`, expected one of Normal, Alarm"));
    check(2, class("Alarm"), Reported::Stored);
    check(2, class("Normal"), Reported::Conflict { before: class("Alarm") });
    check(3, Actual::Number(1.0), invalid("cannot be compared: the model answers with 2 numbers, expected one"));
    let nobody = Report { prediction: Uuid::nil(), ..report(&predictions[0], Actual::Number(1.0)) };
    assert_eq!(tell(nobody), Reported::NotLogged);
    let superseding = Report { supersedes: true, ..report(&predictions[2], class("Normal")) };
    assert_eq!(tell(superseding.clone()), Reported::Superseded { before: class("Alarm") });
    assert_eq!(tell(superseding), Reported::Known);
    let question = Question { model: "ev-range".to_owned(), versions: vec![3], ..Question::default() };
    let compared = runtime.block_on(log.outcomes.compare(&question)).expect("compared");
    let Some(Score::Classes(score)) = compared[0].score else { panic!("{compared:?}") };
    assert_eq!((compared[0].scored, score.accuracy), (1, 0.0), "the correction counts");
}

#[test]
fn questions_that_cannot_be_answered_say_why() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let log = Log::open(Settings::default());
    log.log.offer(prediction(&version(2, Output::Quantiles), 1, &[1.0, 2.0, 3.0]));
    log.flush(false);
    let check = |question: Question, expected: &str| {
        let refused = runtime.block_on(log.outcomes.compare(&question)).expect_err("refused");
        assert_eq!(refused.to_string(), expected);
    };
    let of = |model: &str| Question { model: model.to_owned(), ..Question::default() };
    check(of("ev-rang"), "no prediction of model `ev-rang` was logged");
    check(
        Question { versions: vec![2, 7], ..of("ev-range") },
        "the comparison is refused: `versions` holds 7, expected versions whose predictions were logged: [2]",
    );
    check(
        Question { from_us: 5, to_us: Some(5), ..of("ev-range") },
        "the comparison is refused: `to` is not after `from`, expected a later time",
    );
}

/// An interval with its median, and what happened.
type Scored = ([f64; 3], f64);

/// A prediction as a property makes it: when, of which version and cohort, how sure, and what happened.
#[derive(Debug, Clone)]
struct Case {
    time_us: i64,
    version: usize,
    cohort: usize,
    status: Status,
    answer: [f32; 3],
    actual: Option<f64>,
}

fn case() -> impl Strategy<Value = Case> {
    let status =
        proptest::sample::select(vec![Status::Ok, Status::Ok, Status::Ok, Status::OutOfDistribution, Status::Unknown]);
    let answer = [0f32..1e3, 0f32..1e3, 0f32..1e3].prop_map(|mut answer| {
        answer.sort_by(f32::total_cmp);
        answer
    });
    (0i64..10, 0usize..2, 0usize..3, status, answer, proptest::option::of(0f64..1e3)).prop_map(
        |(hour, version, cohort, status, answer, actual)| Case {
            time_us: NOW_US + hour * 3_600_000_000,
            version,
            cohort,
            status,
            answer,
            actual,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The join against the same computed plainly, from the definitions.
    #[test]
    fn a_comparison_is_what_its_definitions_say(
        cases in proptest::collection::vec(case(), 1..120), (from, hours) in (0i64..10, 1i64..10),
    ) {
        let runtime = runtime();
        let _entered = runtime.enter();
        let log = Log::open(Settings::default());
        let versions = [version(1, Output::Quantiles), version(2, Output::Quantiles)];
        let cohorts = ["AWD", "FWD", ""];
        let (mut reports, mut number) = (Vec::new(), 0);
        for case in &cases {
            number += 1;
            let answer = if case.status == Status::Unknown { &[][..] } else { &case.answer };
            let prediction = Prediction {
                id: id(case.time_us, number),
                time_us: case.time_us,
                cohort: cohorts[case.cohort].to_owned(),
                status: case.status,
                ..prediction(&versions[case.version], number, answer)
            };
            reports.extend(case.actual.map(|actual| report(&prediction, Actual::Number(actual))));
            log.log.offer(prediction);
        }
        log.flush(false);
        let stored = runtime.block_on(log.outcomes.report(&reports, "test", 1)).expect("stored");
        prop_assert!(stored.iter().all(|reported| *reported == Reported::Stored));
        let (from_us, to_us) = (NOW_US + from * 3_600_000_000, NOW_US + (from + hours) * 3_600_000_000);
        let question = Question {
            model: "ev-range".to_owned(), versions: Vec::new(), from_us, to_us: Some(to_us), by_cohort: true,
        };
        let compared = runtime.block_on(log.outcomes.compare(&question)).expect("compared");

        let mut expected = Vec::new();
        for version in 0..2 {
            let of_version = || cases.iter().filter(move |case| case.version == version);
            if of_version().next().is_none() {
                continue;
            }
            let within = |case: &&Case| (from_us..to_us).contains(&case.time_us);
            let all: Vec<&Case> = of_version().filter(within).collect();
            expected.push((version, None, all.clone()));
            for (place, cohort) in cohorts.iter().enumerate() {
                let some: Vec<&Case> = all.iter().copied().filter(|case| case.cohort == place).collect();
                if !some.is_empty() {
                    expected.push((version, Some((*cohort).to_owned()), some));
                }
            }
        }
        expected.sort_by_key(|(version, cohort, _)| (*version, cohort.clone()));
        prop_assert_eq!(compared.len(), expected.len());
        for (found, (version, cohort, cases)) in compared.iter().zip(expected) {
            prop_assert_eq!((&found.version, &found.cohort), (&versions[version], &cohort));
            let reported: Vec<(&Case, f64)> = cases.iter().filter_map(|case| Some((*case, case.actual?))).collect();
            let of = |status: Status| reported.iter().filter(|(case, _)| case.status == status).count() as u64;
            prop_assert_eq!(
                (found.predictions, found.reported, found.scored, found.out_of_distribution, found.unanswered),
                (cases.len() as u64, reported.len() as u64, of(Status::Ok), of(Status::OutOfDistribution), of(Status::Unknown))
            );
            let pairs: Vec<Scored> = reported
                .iter()
                .filter(|(case, _)| case.status == Status::Ok)
                .map(|(case, actual)| (case.answer.map(f64::from), *actual))
                .collect();
            let Some(score) = found.score else {
                prop_assert!(pairs.is_empty());
                continue;
            };
            let Score::Numbers(score) = score else { panic!("{score:?}") };
            let n = pairs.len() as f64;
            let mean = |of: &dyn Fn(&Scored) -> f64| pairs.iter().map(of).sum::<f64>() / n;
            let mae = mean(&|([_, median, _], actual)| (median - actual).abs());
            for (found, expected) in [
                (score.mean_absolute_error, mae),
                (score.absolute_error_deviation, mean(&|([_, median, _], actual)| ((median - actual).abs() - mae).powi(2)).sqrt()),
                (score.root_mean_squared_error, mean(&|([_, median, _], actual)| (median - actual).powi(2)).sqrt()),
                (score.bias, mean(&|([_, median, _], actual)| median - actual)),
                (score.interval_coverage.expect("intervals"), mean(&|([low, _, high], actual)| f64::from(u8::from(low <= actual && actual <= high)))),
                (score.interval_width.expect("intervals"), mean(&|([low, _, high], _)| high - low)),
            ] {
                prop_assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{} {}", found, expected);
            }
        }
    }
}

#[test]
fn errors_are_sums_of_one_version_and_of_its_cohorts() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let log = Log::open(Settings::default());
    let (first, second) = (version(1, Output::Quantiles), version(2, Output::Quantiles));
    let answer = [90.0, 100.0, 110.0];
    let of = |version: &Arc<Version>, number| prediction(version, number, &answer);
    let predictions = [
        of(&first, 1),
        of(&first, 2),
        Prediction { cohort: String::new(), ..of(&first, 3) },
        // Nobody says what happened; it said that it does not know; it was made before; another version made it.
        of(&first, 4),
        Prediction { status: Status::OutOfDistribution, ..of(&first, 5) },
        Prediction { id: id(NOW_US - 60_000_000, 6), ..of(&first, 6) },
        of(&second, 7),
    ];
    let actuals = [104.0, 70.0, 110.0, f64::NAN, 1.0, 1.0, 90.0];
    let reports = predictions.iter().zip(actuals).filter(|(_, actual)| actual.is_finite());
    let reports: Vec<Report> = reports.map(|(made, actual)| report(made, Actual::Number(actual))).collect();
    predictions.iter().for_each(|prediction| log.log.offer(prediction.clone()));
    log.flush(false);
    let mut changes = log.outcomes.reports();
    runtime.block_on(log.outcomes.report(&reports, "test", NOW_US)).expect("stored");
    assert!(changes.has_changed().expect("open"));
    changes.mark_unchanged();
    runtime.block_on(log.outcomes.report(&reports, "test", NOW_US)).expect("known");
    assert!(!changes.has_changed().expect("open"), "nothing new");

    let errors = |version, from_us, cohorts_max| {
        let question = ErrorsQuestion { model: "ev-range".to_owned(), version, from_us, cohorts_max };
        runtime.block_on(log.outcomes.errors(&question)).expect("read")
    };
    let all = Errors { count: 3, sum: 44.0, squares: 1_016.0, intervals: 3, covered: 2 };
    let awd = Errors { count: 2, sum: 34.0, squares: 916.0, intervals: 2, covered: 1 };
    assert_eq!(errors(1, NOW_US, 8), BTreeMap::from([(String::new(), all), ("AWD".to_owned(), awd)]));
    assert_eq!(errors(1, NOW_US, 0), BTreeMap::from([(String::new(), all)]));
    assert_eq!(errors(1, NOW_US - 120_000_000, 0)[""].count, 4);
    assert_eq!(errors(2, NOW_US, 0)[""], Errors { count: 1, sum: 10.0, squares: 100.0, intervals: 1, covered: 1 });
    assert!(errors(3, NOW_US, 0).is_empty());
    let name = runtime.block_on(log.outcomes.log_id()).expect("a name");
    assert_eq!(name.len(), 32, "{name}");
    log.log.stop();
}
