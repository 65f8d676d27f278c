//! Readings in, features out, as a server does it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{sync::Arc, time::Duration};

use ev_domain::{Catalogue, Column, ReadingBatch, Readings, SignalId, VehicleId, signals};
use ev_features::{
    AggregatorSettings, FeatureRead, FeatureValue, Features, MemoryOnlineStore, MemorySettings, OnlineStore, Plan,
    Status, Views, WriteError,
};

const SECOND: i64 = 1_000_000;
const START: i64 = 1_700_000_000 * SECOND;

struct Fixture {
    features: Features,
    store: Arc<dyn OnlineStore>,
    vehicle: VehicleId,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::over(Arc::new(MemoryOnlineStore::new(MemorySettings::default()).unwrap()))
    }

    fn over(store: Arc<dyn OnlineStore>) -> Fixture {
        let views = Arc::new(Views::bundled(&Catalogue::standard()).unwrap());
        let features = Features::new(views, AggregatorSettings::default(), Arc::clone(&store)).unwrap();
        Fixture { features, store, vehicle: VehicleId::new("v").unwrap() }
    }

    /// Readings of some signals at seconds after the start.
    async fn ingest(&self, seconds: &[i64], columns: &[(SignalId, &[f32])]) {
        let times_us: Vec<i64> = seconds.iter().map(|second| START + second * SECOND).collect();
        let now_us = times_us.iter().copied().max().unwrap();
        let column = |(signal, values): &(SignalId, &[f32])| Column { signal: *signal, values: (*values).into() };
        let readings = Readings { times_us, columns: columns.iter().map(column).collect() };
        let batch = ReadingBatch { vehicle: self.vehicle.clone(), sequence: 1, readings };
        self.features.ingest(&batch, now_us).await.store.unwrap();
    }

    async fn write(&self, values: &[(&str, FeatureValue)], second: i64) -> Result<bool, WriteError> {
        let now_us = START + second * SECOND;
        self.features.put(&self.vehicle, "battery", values, now_us, now_us).await
    }

    async fn read(&self, view: &str, feature: &str, second: i64) -> FeatureRead {
        let views = self.features.views();
        let plan = Plan::new(views, &[feature], &[views.by_name(view).unwrap()]).unwrap();
        assert_eq!(plan.wanted()[0].view, views.by_name(view).unwrap());
        let mut reads = self.features.read(&self.vehicle, &plan, START + second * SECOND).await.unwrap();
        reads.features.pop().unwrap()
    }

    async fn number(&self, view: &str, feature: &str, second: i64) -> Option<f32> {
        match self.read(view, feature, second).await.value {
            Some(FeatureValue::Number(number)) => Some((number * 1e4).round() / 1e4),
            None => None,
            value => panic!("{value:?}"),
        }
    }
}

#[tokio::test]
async fn a_feature_older_than_its_time_to_live_is_never_fresh() {
    let fixture = Fixture::new();
    fixture.ingest(&[0], &[(signals::CELL_TEMPERATURE_MAX, &[31.0]), (signals::STATE_OF_HEALTH, &[97.0])]).await;
    let check = async |view: &str, feature: &str, second: i64, expected: Status| {
        let read = fixture.read(view, feature, second).await;
        assert_eq!(read.status, expected, "{feature} after {second} s");
        let age = Duration::from_secs(second.unsigned_abs());
        assert_eq!(read.age, (expected != Status::Missing).then_some(age));
    };
    check("pack_now", "cell_temperature_max_celsius", 0, Status::Fresh).await;
    check("pack_now", "cell_temperature_max_celsius", 10, Status::Fresh).await;
    check("pack_now", "cell_temperature_max_celsius", 11, Status::Stale).await;
    check("pack_now", "cell_temperature_max_celsius", 1 << 33, Status::Stale).await;
    check("condition", "state_of_health_percent", 11, Status::Fresh).await;
    check("condition", "state_of_health_percent", 31 * 86_400, Status::Stale).await;
    check("pack_now", "cell_temperature_min_celsius", 0, Status::Missing).await;

    // Other readings of the same view go on: this one's age does too.
    fixture.ingest(&[20], &[(signals::CELL_TEMPERATURE_MIN, &[30.0])]).await;
    check("pack_now", "cell_temperature_max_celsius", 20, Status::Stale).await;
}

#[tokio::test]
async fn what_a_battery_is_makes_a_load_no_older() {
    let fixture = Fixture::new();
    assert!(fixture.write(&[("rated_capacity_ah", FeatureValue::Number(50.0))], 0).await.unwrap());
    let year = 365 * 86_400;
    fixture.ingest(&[year], &[(signals::PACK_CURRENT, &[-100.0])]).await;
    let read = fixture.read("discharge_now", "c_rate", year + 3).await;
    assert_eq!((read.value, read.age), (Some(FeatureValue::Number(2.0)), Some(Duration::from_secs(3))));
}

#[tokio::test]
async fn a_drive_and_a_charge_give_what_the_battery_models_take() {
    let fixture = Fixture::new();
    let pack = [
        ("cell_family", FeatureValue::Text("nmc".to_owned())),
        ("rated_capacity_ah", FeatureValue::Number(50.0)),
        ("cells_in_series", FeatureValue::Number(100.0)),
        ("cells_in_parallel", FeatureValue::Number(2.0)),
    ];
    assert!(fixture.write(&pack, 0).await.unwrap());

    // Ten minutes of driving with regeneration in between, from 4.0 V a cell down by 1 V.
    let drive: Vec<i64> = (0..=600).step_by(10).collect();
    let amperes: Vec<f32> = drive.iter().map(|second| if second % 100 == 50 { 40.0 } else { -100.0 }).collect();
    let volts: Vec<f32> = drive.iter().map(|second| 400.0 - *second as f32 / 6.0).collect();
    let celsius: Vec<f32> = drive.iter().map(|second| 20.0 + *second as f32 / 60.0).collect();
    let air = vec![10.0; drive.len()];
    let no = vec![0.0; drive.len()];
    fixture
        .ingest(
            &drive,
            &[
                (signals::PACK_CURRENT, &amperes),
                (signals::PACK_VOLTAGE, &volts),
                (signals::CELL_TEMPERATURE_MAX, &celsius),
                (signals::CELL_TEMPERATURE_MEAN, &celsius),
                (signals::AIR_TEMPERATURE, &air),
                (signals::IS_CHARGING, &no),
            ],
        )
        .await;
    assert_eq!(fixture.number("discharge_now", "c_rate", 600).await, Some(1.0), "positive when discharging");
    assert_eq!(fixture.number("discharge_now", "cell_voltage_v", 600).await, Some(3.0));
    assert_eq!(fixture.number("discharge_now", "discharge_elapsed_s", 600).await, Some(600.0));
    assert_eq!(fixture.number("discharge_now", "discharge_temperature_start_celsius", 600).await, Some(20.0));
    assert_eq!(fixture.number("discharge_now", "ambient_temperature_celsius", 600).await, Some(10.0));
    assert_eq!(fixture.number("last_discharge", "discharge_c_rate", 600).await, None, "it has not ended");
    assert_eq!(fixture.number("pack_now", "pack_current_a", 600).await, Some(-100.0), "as VSS has it");

    // Parked: the voltage comes back. Then a charge of half an hour with a falling end.
    fixture
        .ingest(&[660, 720], &[(signals::PACK_CURRENT, &[-0.5, 0.0]), (signals::PACK_VOLTAGE, &[310.0, 320.0])])
        .await;
    let charge: Vec<i64> = (1000..=2800).step_by(10).collect();
    let amperes: Vec<f32> = charge.iter().map(|second| if *second <= 2200 { 50.0 } else { 30.0 }).collect();
    let cells: Vec<f32> = charge.iter().map(|second| 3.3 + (*second - 1000) as f32 * 0.0005).collect();
    let yes = vec![1.0; charge.len()];
    fixture
        .ingest(
            &charge,
            &[
                (signals::PACK_CURRENT, &amperes),
                (signals::CELL_VOLTAGE_MAX, &cells),
                (signals::CELL_VOLTAGE_MIN, &cells),
                (signals::IS_CHARGING, &yes),
            ],
        )
        .await;
    for (feature, expected) in [
        ("discharge_c_rate", 1.0),
        ("ambient_temperature_celsius", 10.0),
        ("discharge_voltage_min_v", 3.0),
        ("discharge_voltage_max_v", 4.0),
        ("discharge_voltage_end_v", 3.2),
        ("discharge_temperature_max_celsius", 30.0),
        ("discharge_duration_s", 600.0),
    ] {
        assert_eq!(fixture.number("last_discharge", feature, 2800).await, Some(expected), "{feature}");
    }
    assert_eq!(fixture.number("discharge_now", "discharge_elapsed_s", 2800).await, None, "it has ended");
    assert_eq!(fixture.number("discharge_now", "c_rate", 2800).await, Some(-0.3), "negative when charging");

    fixture.ingest(&[3200], &[(signals::PACK_CURRENT, &[0.0]), (signals::IS_CHARGING, &[0.0])]).await;
    for (feature, expected) in [
        ("charge_duration_s", 1800.0),
        ("charge_duration_constant_current_s", 1200.0),
        ("charge_voltage_min_v", 3.3),
        ("charge_duration_above_4v15_s", 100.0),
    ] {
        let found = fixture.number("last_charge", feature, 3200).await.unwrap();
        assert!(
            (found - expected).abs() <= 10.0 * f32::from(u8::from(feature.ends_with("15_s"))),
            "{feature}: {found}"
        );
    }
    assert_eq!(fixture.read("last_discharge", "discharge_c_rate", 3200).await.status, Status::Fresh);
}

#[tokio::test]
async fn without_cells_in_parallel_a_rate_says_that_it_assumes_one() {
    let fixture = Fixture::new();
    fixture.write(&[("rated_capacity_ah", FeatureValue::Number(50.0))], 0).await.unwrap();
    fixture.ingest(&[0], &[(signals::PACK_CURRENT, &[-25.0])]).await;
    let read = fixture.read("discharge_now", "c_rate", 30).await;
    assert_eq!(read.value, Some(FeatureValue::Number(0.5)));
    assert_eq!((read.status, read.age), (Status::Defaulted, Some(Duration::from_secs(30))));
    let read = fixture.read("discharge_now", "c_rate", 61).await;
    assert_eq!(read.status, Status::Stale, "as unreliable as the worst of what it is made of");
    let read = fixture.read("battery", "cells_in_parallel", 0).await;
    assert_eq!((read.status, read.value), (Status::Defaulted, Some(FeatureValue::Number(1.0))));
}

#[tokio::test]
async fn cycles_are_what_the_vehicle_counted_else_its_charge_over_the_capacity() {
    let fixture = Fixture::new();
    fixture.ingest(&[0], &[(signals::CHARGED_THROUGHPUT, &[30_000.0])]).await;
    assert_eq!(fixture.number("condition", "cycle_count", 0).await, None, "the capacity is not known");
    let pack = [("rated_capacity_ah", FeatureValue::Number(50.0)), ("cells_in_parallel", FeatureValue::Number(2.0))];
    fixture.write(&pack, 0).await.unwrap();
    assert_eq!(fixture.number("condition", "cycle_count", 0).await, Some(300.0));
    fixture.ingest(&[1], &[(signals::CYCLE_COUNT, &[290.0])]).await;
    assert_eq!(fixture.number("condition", "cycle_count", 1).await, Some(290.0));
}

#[tokio::test]
async fn what_only_some_packs_measure_reaches_the_thermal_model_too() {
    let fixture = Fixture::new();
    let sent =
        [(signals::PACK_MOISTURE, &[1.0][..]), (signals::PACK_HUMIDITY, &[80.0]), (signals::CELL_RESISTANCE, &[2.5])];
    fixture.ingest(&[0], &sent).await;
    assert_eq!(fixture.read("pack_now", "moisture_detected", 0).await.value, Some(FeatureValue::Flag(true)));
    assert_eq!(fixture.number("pack_now", "humidity_percent", 0).await, Some(80.0));
    assert_eq!(fixture.number("pack_now", "internal_resistance_mohm", 0).await, Some(2.5));
}

#[tokio::test]
async fn what_is_written_from_outside_is_merged_by_time() {
    let fixture = Fixture::new();
    let number = |name: &'static str, number: f32| [(name, FeatureValue::Number(number))];
    assert!(fixture.write(&number("rated_capacity_ah", 50.0), 100).await.unwrap());
    assert!(fixture.write(&number("cells_in_series", 96.0), 50).await.unwrap(), "it was not there");
    assert!(!fixture.write(&number("rated_capacity_ah", 60.0), 99).await.unwrap(), "there is a newer one");
    assert_eq!(fixture.number("battery", "rated_capacity_ah", 100).await, Some(50.0));
    assert_eq!(fixture.number("battery", "cells_in_series", 100).await, Some(96.0));
    assert!(fixture.write(&number("rated_capacity_ah", 60.0), 100).await.unwrap());
    assert_eq!(fixture.number("battery", "rated_capacity_ah", 100).await, Some(60.0));
}

#[tokio::test]
async fn a_write_that_cannot_be_is_refused_by_name() {
    let fixture = Fixture::new();
    let check = async |view: &str, name: &str, value: FeatureValue, ahead: i64, expected: &str| {
        let put = fixture.features.put(&fixture.vehicle, view, &[(name, value)], START + ahead * SECOND, START).await;
        let error = put.unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        assert_eq!(format!("{error}{source}"), expected);
    };
    let text = |text: &str| FeatureValue::Text(text.to_owned());
    check("nothing", "x", text("x"), 0, "there is no feature view `nothing`").await;
    check("pack_now", "x", text("x"), 0, "feature view `pack_now` is computed from readings and cannot be written")
        .await;
    check("battery", "x", text("x"), 0, "feature view `battery` has no feature `x`").await;
    check(
        "battery",
        "cells_in_series",
        FeatureValue::Number(0.0),
        0,
        "the value is refused: `cells_in_series` is 0, expected 1 to 1000",
    )
    .await;
    check(
        "battery",
        "cells_in_series",
        text("x"),
        0,
        "the value is refused: `cells_in_series` has a value of the wrong kind, expected a number",
    )
    .await;
    check(
        "battery",
        "chemistry",
        FeatureValue::Flag(true),
        0,
        "`chemistry` has a value of the wrong kind, expected a text",
    )
    .await;
    check("battery", "chemistry", text(&"x".repeat(300)), 0, "`chemistry` has 300 bytes, expected at most 256").await;
    check("battery", "chemistry", text("nmc"), 61, "the event time is 61 s ahead of the clock").await;
}

#[tokio::test]
async fn a_restart_forgets_no_feature_that_was_stored() {
    let before = Fixture::new();
    let drive: Vec<i64> = (0..=600).step_by(10).collect();
    let columns = |level: f32| vec![level; drive.len()];
    let (amperes, volts) = (columns(-100.0), columns(3.5));
    before.ingest(&drive, &[(signals::PACK_CURRENT, &amperes), (signals::CELL_VOLTAGE_MIN, &volts)]).await;
    before
        .ingest(
            &[700, 1000],
            &[
                (signals::CELL_VOLTAGE_MIN, &[3.7, 3.7]),
                (signals::PACK_CURRENT, &[0.0, 0.0]),
                (signals::STATE_OF_HEALTH, &[90.0, 91.0]),
            ],
        )
        .await;
    assert_eq!(before.number("last_discharge", "discharge_voltage_min_v", 1000).await, Some(3.5));

    let after = Fixture::over(Arc::clone(&before.store));
    after.ingest(&[1100], &[(signals::CELL_TEMPERATURE_MAX, &[31.0])]).await;
    assert_eq!(after.number("last_discharge", "discharge_voltage_min_v", 1100).await, Some(3.5));
    assert_eq!(after.number("condition", "state_of_health_percent", 1100).await, Some(91.0));
    let read = after.read("pack_now", "state_of_health_percent", 1100).await;
    assert_eq!((read.status, read.age), (Status::Stale, Some(Duration::from_secs(100))));
    assert_eq!(after.read("pack_now", "cell_temperature_max_celsius", 1100).await.status, Status::Fresh);
}

#[tokio::test]
async fn memory_is_bounded_and_forgets_who_was_not_asked_about() {
    let store = Arc::new(MemoryOnlineStore::new(MemorySettings { bytes_max: 1 << 20 }).unwrap());
    let fixture = Fixture::over(store.clone());
    let first = fixture.vehicle.clone();
    for index in 0..4000 {
        let vehicle = VehicleId::new(&format!("v{index}")).unwrap();
        let celsius = Column { signal: signals::CELL_TEMPERATURE_MAX, values: vec![30.0].into() };
        let readings = Readings { times_us: vec![START], columns: vec![celsius] };
        fixture.features.ingest(&ReadingBatch { vehicle, sequence: 1, readings }, START).await.store.unwrap();
        if index % 10 == 0 {
            fixture.ingest(&[index], &[(signals::CELL_TEMPERATURE_MAX, &[30.0])]).await;
        }
    }
    let usage = store.usage();
    assert!(usage.bytes <= 1 << 20, "{usage:?}");
    assert!(usage.evicted > 500 && usage.vehicles > 500, "{usage:?}");
    assert_eq!(fixture.vehicle, first);
    assert_eq!(fixture.number("pack_now", "cell_temperature_max_celsius", 3990).await, Some(30.0));
}
