//! Late, repeated and shuffled readings give what the same readings give in order, and that is what a plain
//! recomputation gives.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod plain;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ev_domain::{Catalogue, Column, ReadingBatch, Readings, SignalId, Value, VehicleId, signals};
use ev_features::{Aggregator, AggregatorSettings, Applied, Counts, FeatureRow, ViewId, Views};
use proptest::{prelude::*, strategy::ValueTree};

use plain::Reading;

const SIGNALS: [SignalId; 4] =
    [signals::PACK_CURRENT, signals::IS_CHARGING, signals::CELL_VOLTAGE_MIN, signals::STATE_OF_CHARGE];
const LATENESS_MS: i64 = 120_000;
const NOW_US: i64 = 1_800_000_000_000_000;

fn settings() -> AggregatorSettings {
    AggregatorSettings { lateness: Duration::from_millis(120_000), readings_max: 4096, ..AggregatorSettings::default() }
}

/// A drive or charge of some readings, one after the other.
fn phases() -> impl Strategy<Value = Vec<Reading>> {
    let reading = (1i64..40_000, 0u8..16, -3.0f32..3.0, 2.5f32..4.3);
    let phase = (-60.0f32..60.0, 0u8..4, prop::collection::vec(reading, 1..25));
    prop::collection::vec(phase, 1..8).prop_map(|phases| {
        let mut time_ms = 1_000_000_000;
        let mut readings = Vec::new();
        for (level, pause, phase) in phases {
            time_ms += i64::from(pause) * 130_000;
            let flag = match pause {
                0 => None,
                1 => Some(f32::from(u8::from(level > 2.0))),
                _ => Some(0.0),
            };
            for (step_ms, have, current, volts) in phase {
                time_ms += step_ms;
                let present = |bit: u8, value: Option<f32>| value.filter(|_| have & (1 << bit) != 0);
                // A step of a quarter: sums of such numbers are exact.
                let quarter = |value: f32| (value * 4.0).round() / 4.0;
                let percent = Some(quarter(50.0 + level / 2.0));
                let values = [
                    present(0, Some(quarter(level + current))),
                    present(1, flag),
                    present(2, Some(quarter(volts))),
                    present(3, percent),
                ];
                if values.iter().any(Option::is_some) {
                    readings.push(Reading { time_us: time_ms * 1000, values });
                }
            }
        }
        readings
    })
}

/// Readings of which each comes at most `LATENESS_MS` after a later one, some twice, some in two halves.
fn shuffled(readings: &[Reading], seed: u64) -> Vec<Reading> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sent: Vec<(i64, Reading)> = Vec::new();
    for reading in readings {
        let mut send = |reading: Reading| sent.push((reading.time_us / 1000 + random.i64(0..LATENESS_MS), reading));
        let [current, flag, volts, charge] = reading.values;
        match reading.time_us / 1000 % 5 {
            0 => (0..2).for_each(|_| send(*reading)),
            1 => {
                send(Reading { values: [current, None, volts, None], ..*reading });
                send(Reading { values: [None, flag, None, charge], ..*reading });
            }
            _ => send(*reading),
        }
    }
    sent.sort_by_key(|(arrival, _)| *arrival);
    sent.into_iter().map(|(_, reading)| reading).filter(|reading| reading.values.iter().any(Option::is_some)).collect()
}

fn batch(readings: &[Reading]) -> ReadingBatch {
    let column = |(index, signal): (usize, SignalId)| Column {
        signal,
        values: readings.iter().map(|reading| reading.values[index].unwrap_or(f32::NAN)).collect(),
    };
    ReadingBatch {
        vehicle: VehicleId::new("v").unwrap(),
        sequence: 1,
        readings: Readings {
            times_us: readings.iter().map(|reading| reading.time_us).collect(),
            columns: SIGNALS.into_iter().enumerate().map(column).collect(),
        },
    }
}

type Cells = BTreeMap<String, (f32, i64)>;

/// What is known in the end.
fn known(views: &Views, rows: &BTreeMap<ViewId, FeatureRow>) -> Cells {
    let mut cells = Cells::new();
    for (id, row) in rows {
        for (position, feature) in views.view(*id).unwrap().features.iter().enumerate() {
            if let Some(cell) = row.cell(position) {
                let Value::Number(value) = cell.value else { panic!("{} is no number", feature.name) };
                cells.insert(feature.name.clone(), (value, cell.time_us));
            }
        }
    }
    cells
}

fn run(views: &Arc<Views>, readings: &[Reading], sizes: &[usize]) -> (Cells, Counts) {
    let mut aggregator = Aggregator::new(Arc::clone(views), settings()).unwrap();
    let (mut rows, mut counts) = (BTreeMap::new(), Counts::default());
    let mut rest = readings;
    for size in sizes.iter().copied().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        let Applied { rows: changed, counts: counted, .. } = aggregator.apply(&batch(now), NOW_US);
        rows.extend(changed);
        counts += counted;
    }
    (known(views, &rows), counts)
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(readings in phases(), seed: u64, sizes in prop::collection::vec(1usize..40, 1..5)) {
        let views = Arc::new(Views::parse(plain::VIEWS, &Catalogue::standard()).unwrap());
        let (ordered, counts) = run(&views, &readings, &[1]);
        prop_assert_eq!(counts.applied, readings.len() as u64);
        prop_assert_eq!(counts.late, 0);
        let (arrived, counts) = run(&views, &shuffled(&readings, seed), &sizes);
        prop_assert_eq!(counts.contradictions + counts.future + counts.unused, 0);
        prop_assert_eq!(&arrived, &ordered);
        let (at_once, _) = run(&views, &readings, &[readings.len().max(1)]);
        prop_assert_eq!(&at_once, &ordered);

        let expected = plain::recomputed(&readings);
        let names = |cells: &Cells| cells.keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(names(&ordered), names(&expected));
        for (name, (value, time_us)) in &expected {
            let (found, found_us) = ordered[name];
            prop_assert!((found - value).abs() <= 1e-4 * (1.0 + value.abs()), "{}: {} expected {}", name, found, value);
            prop_assert_eq!(found_us, *time_us, "{}", name);
        }
    }
}

#[test]
fn the_property_sees_sessions_of_all_kinds() {
    // Otherwise it would hold of nothing.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..100 {
        let readings = phases().new_tree(&mut runner).unwrap().current();
        plain::recomputed(&readings).into_keys().for_each(|name| *seen.entry(name).or_default() += 1);
    }
    let views = Views::parse(plain::VIEWS, &Catalogue::standard()).unwrap();
    for feature in views.iter().flat_map(|(_, view)| &view.features) {
        assert!(seen.get(&feature.name).copied().unwrap_or_default() >= 5, "{} in {seen:?}", feature.name);
    }
}

#[test]
fn what_is_too_late_is_counted_and_in_no_feature() {
    let views = Arc::new(Views::parse(plain::VIEWS, &Catalogue::standard()).unwrap());
    let volts =
        |second: i64, volts: f32| Reading { time_us: second * 1_000_000, values: [None, None, Some(volts), None] };
    let mut aggregator = Aggregator::new(Arc::clone(&views), settings()).unwrap();
    let mut apply = |readings: &[Reading]| aggregator.apply(&batch(readings), NOW_US);
    apply(&[volts(1000, 3.5), volts(1200, 3.0)]);
    let late = apply(&[volts(1000, 1.0), volts(900, 1.0), volts(1200, 3.0)]);
    assert_eq!((late.counts.late, late.counts.duplicates, late.rows.len()), (2, 1, 0));

    let future = apply(&[volts(NOW_US / 1_000_000 + 61, 1.0)]);
    assert_eq!((future.counts.future, future.rows.len()), (1, 0));

    let contradicting = apply(&[volts(1200, 3.25)]);
    assert_eq!(contradicting.counts.contradictions, 1);
    assert!(!contradicting.rows.is_empty());
    assert_eq!(apply(&[volts(1200, 3.0)]).rows.len(), 0, "the greater value counts, whichever comes first");
}

#[test]
fn a_vehicle_that_sends_a_lot_has_less_time_for_late_readings() {
    let views = Arc::new(Views::parse(plain::VIEWS, &Catalogue::standard()).unwrap());
    let settings = AggregatorSettings { readings_max: 10, ..settings() };
    let mut aggregator = Aggregator::new(views, settings).unwrap();
    let volts = |second: i64| Reading { time_us: second * 1_000_000, values: [None, None, Some(3.0), None] };
    let many: Vec<Reading> = (0..100).map(|second| volts(second * 2)).collect();
    assert_eq!(aggregator.apply(&batch(&many), NOW_US).counts.applied, 100);
    assert_eq!(aggregator.apply(&batch(&[volts(181)]), NOW_US).counts.applied, 1);
    assert_eq!(aggregator.apply(&batch(&[volts(177)]), NOW_US).counts.late, 1);
}

#[test]
fn the_vehicle_that_was_silent_for_longest_is_forgotten() {
    let views = Arc::new(Views::parse(plain::VIEWS, &Catalogue::standard()).unwrap());
    let settings = AggregatorSettings { vehicles_max: 2, ..settings() };
    let mut aggregator = Aggregator::new(views, settings).unwrap();
    let reading = Reading { time_us: 1_000_000, values: [None, None, Some(3.0), None] };
    let mut forgotten = 0;
    for vehicle in ["a", "b", "a", "c"] {
        let batch = ReadingBatch { vehicle: VehicleId::new(vehicle).unwrap(), ..batch(&[reading]) };
        forgotten += aggregator.apply(&batch, NOW_US).forgotten;
    }
    assert_eq!((forgotten, aggregator.vehicles()), (1, 2));
    assert!(aggregator.wants_seed(&VehicleId::new("b").unwrap()));
}
