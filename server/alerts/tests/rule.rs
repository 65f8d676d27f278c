//! What the rule says of readings: by table, and for any order of them.

#![expect(clippy::cast_possible_truncation, reason = "small numbers")]

use ev_alerts::{AlertsConfig, Cause, Pack, Sample, Thresholds};
use ev_domain::RiskClass::{self, Alarm, Normal, Runaway, Warning, Watch};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000;

const NOTHING: (RiskClass, Cause) = (Normal, Cause::Nothing);

fn thresholds() -> Thresholds {
    AlertsConfig::default().rule.thresholds(None).expect("the defaults")
}

fn heat(second: f64, hottest: f32) -> Sample {
    Sample { hottest_celsius: hottest, ..Sample::at((second * 1e6).round() as i64) }
}

fn volts(second: f64, weakest: f32, strongest: f32) -> Sample {
    Sample { cell_voltage_min_v: weakest, cell_voltage_max_v: strongest, ..Sample::at((second * 1e6).round() as i64) }
}

fn both(second: f64, hottest: f32, weakest: f32) -> Sample {
    Sample { hottest_celsius: hottest, ..volts(second, weakest, 3.9) }
}

/// The worst that was said, and why.
fn worst(samples: impl IntoIterator<Item = Sample>) -> (RiskClass, Cause) {
    let (thresholds, mut pack) = (thresholds(), Pack::default());
    let mut worst = (Normal, Cause::Nothing);
    for sample in samples {
        let found = pack.observe(&thresholds, &sample, sample.time_us);
        if let Some(found) = found.filter(|found| found.class > worst.0) {
            worst = (found.class, found.cause);
        }
    }
    worst
}

/// Temperatures at 1 Hz.
fn temperatures(values: &[f32]) -> (RiskClass, Cause) {
    worst((0..).zip(values).map(|(second, &value)| heat(f64::from(second), value)))
}

/// Five minutes of rest, then what happens, second by second: temperature and weakest cell.
fn after_rest(events: &[(f32, f32)]) -> (RiskClass, Cause) {
    let rest = (0..300).map(|second| both(f64::from(second), 30.0, 3.85));
    let events = (300..).zip(events).map(|(second, &(hottest, weakest))| both(f64::from(second), hottest, weakest));
    worst(rest.chain(events))
}

/// Ten minutes of rest, read every so many seconds, then one reading, so many seconds after the last.
fn parked(every: u32, after: u32, reading: impl Fn(f64) -> Sample) -> (RiskClass, Cause) {
    let rest = |at: u32| Sample { pack_voltage_v: 374.0, ..both(f64::from(at), 30.0, 3.85) };
    let rest = (0..600).step_by(every as usize).map(rest);
    worst(rest.chain([reading(f64::from(600 - every + after))]))
}

#[test]
fn every_class_is_reached_by_temperature() {
    let check = |values: &[f32], class: RiskClass, cause: Cause| {
        assert_eq!(temperatures(values), (class, cause), "{values:?}");
    };
    check(&[30.0; 60], Normal, Cause::Nothing);
    check(&[44.9; 60], Normal, Cause::Nothing);
    check(&[45.0; 4], Watch, Cause::Temperature);
    check(&[45.0; 3], Normal, Cause::Nothing);
    check(&[55.0; 4], Warning, Cause::Temperature);
    check(&[60.0; 4], Alarm, Cause::Temperature);
    check(&[129.0; 4], Runaway, Cause::Onset);
    // A run of 1 degree/s and more.
    check(&[20.0, 21.0, 22.0, 23.0], Alarm, Cause::Rate);
    check(&[20.0, 21.0, 22.0], Normal, Cause::Nothing);
    check(&[58.0, 60.0, 62.0, 64.0, 66.0], Runaway, Cause::ConfirmedByTemperature);
    // Slow rises, over twelve seconds.
    let rising = |rate: f32| (0..16_u8).map(|second| 20.0 + rate * f32::from(second)).collect::<Vec<f32>>();
    check(&rising(0.1), Normal, Cause::Nothing);
    check(&rising(0.25), Watch, Cause::Rise);
    check(&rising(0.6), Warning, Cause::Rise);
}

#[test]
fn a_remembered_future_keeps_nobody_from_being_judged() {
    let (thresholds, mut pack) = (thresholds(), Pack::default());
    let now = 1_700_000_000.0;
    // The clock was an hour ahead when the server ended, and was set right since.
    let ahead = || (0..60_i32).map(|second| heat(now + 3_600.0 + f64::from(second), 30.0));
    let mut past = Pack::default();
    ahead().for_each(|sample| past.take_in(&sample));
    pack.remember(&past);
    let mut observe = |second: f64, hottest: f32| {
        let sample = heat(now + second, hottest);
        let found = pack.observe(&thresholds, &sample, sample.time_us).expect("judged");
        pack.remember(&past);
        found.class
    };
    assert_eq!(observe(0.0, 60.0), Normal);
    let classes = [1.0, 2.0, 3.0].map(|second| observe(second, 60.0));
    assert_eq!(classes[2], Alarm, "{classes:?}");
}

#[test]
fn one_wild_value_or_one_jump_raises_nothing() {
    let check = |values: &[f32]| assert_eq!(temperatures(values), (Normal, Cause::Nothing), "{values:?}");
    check(&[30.0, 30.0, 215.0, 30.0, 30.0, 30.0]);
    check(&[30.0, 30.0, 215.0, 215.0, 30.0, 30.0]);
    check(&[30.0, -40.0, 30.0, -40.0, 30.0, 30.0]);
    check(&[10.0, 10.0, 10.0, 40.0, 40.0, 40.0, 40.0, 40.0, 40.0, 40.0, 40.0, 40.0, 40.0, 40.0, 40.0, 40.0]);
    // A resolution of one degree.
    check(&[30.0, 31.0, 30.0, 31.0, 31.0, 32.0, 31.0, 31.0, 32.0, 31.0, 30.0, 31.0, 30.0, 31.0]);
}

#[test]
fn the_rate_is_found_at_any_sampling() {
    // 1.5 degrees/s, sampled every so many seconds: how long after its begin it is told.
    let check = |interval: f64, expected: f64| {
        let (thresholds, mut pack) = (thresholds(), Pack::default());
        let samples = (0..400).map(|index| f64::from(index) * interval);
        let begin = 5.0 * interval;
        let told = samples.map(|at| heat(at, if at > begin { 20.0 + 1.5 * (at - begin) as f32 } else { 20.0 })).find(
            |sample| pack.observe(&thresholds, sample, sample.time_us).is_some_and(|found| found.cause == Cause::Rate),
        );
        let delay = told.map(|sample| sample.time_us as f64 / 1e6 - begin).unwrap_or(f64::NAN);
        assert!((delay - expected).abs() < 0.7, "{interval} s: told after {delay} s, expected {expected} s");
    };
    check(0.1, 3.6);
    check(0.5, 3.5);
    check(1.0, 3.0);
    check(2.0, 4.0);
    // Longer than the three seconds: two intervals, so that one jump is not enough.
    check(5.0, 10.0);
    check(30.0, 60.0);
    // Readings this far apart are about different events.
    let apart = [0.0, 700.0, 1400.0, 2100.0].map(|at| heat(at, 20.0 + 1.5 * at as f32));
    assert_eq!(worst(apart.into_iter().take(3)), (Normal, Cause::Nothing));
}

#[test]
fn a_cell_that_loses_voltage_is_found() {
    let check = |weakest: f32, class: RiskClass, cause: Cause| {
        assert_eq!(after_rest(&[(30.0, weakest); 5]), (class, cause), "{weakest} V");
    };
    check(3.8, Normal, Cause::Nothing);
    check(3.72, Watch, Cause::VoltageDrop);
    check(3.6, Warning, Cause::VoltageDrop);
    check(3.4, Alarm, Cause::VoltageDrop);
    check(0.0, Alarm, Cause::VoltageDrop);
    assert_eq!(after_rest(&[(30.0, 0.0), (30.0, 0.0), (30.0, 3.85)]), (Normal, Cause::Nothing));
    // Three readings, a second apart, are enough for a voltage, and not for a temperature.
    assert_eq!(after_rest(&[(30.0, 3.5); 3]), (Alarm, Cause::VoltageDrop));
    assert_eq!(after_rest(&[(30.0, 3.5); 2]), (Normal, Cause::Nothing));
    assert_eq!(after_rest(&[(60.0, 3.85); 3]), (Normal, Cause::Nothing));
    // With a slow rise, little is enough.
    let rising: Vec<(f32, f32)> = (0..16_u8).map(|second| (30.0 + 0.3 * f32::from(second), 3.7)).collect();
    assert_eq!(after_rest(&rising), (Alarm, Cause::VoltageDropAndHeat));
    // The standard's confirmation, far below the maximum temperature.
    let confirmed: Vec<(f32, f32)> = (0..6_u8).map(|second| (30.0 + 1.5 * f32::from(second), 2.5)).collect();
    assert_eq!(after_rest(&confirmed).0, Runaway);
    assert_eq!(after_rest(&confirmed).1, Cause::ConfirmedByVoltage);
}

#[test]
fn one_reading_is_enough_of_a_parked_vehicle_where_voltage_and_heat_agree() {
    let told =
        |every: u32, after: u32, hottest: f32, weakest: f32| parked(every, after, |at| both(at, hottest, weakest));
    let alarm = (Alarm, Cause::VoltageDropAndHeat);
    assert_eq!(told(10, 10, 33.0, 3.4), alarm);
    assert_eq!(told(60, 60, 45.0, 3.4), alarm);
    // Either by itself may be a sensor that went wild; a degree more is what sensors count in.
    assert_eq!(told(10, 10, 30.0, 3.4), NOTHING);
    assert_eq!(told(10, 10, 90.0, 3.85), NOTHING);
    assert_eq!(told(10, 10, 31.0, 3.4), NOTHING);
    assert_eq!(told(10, 10, 33.0, 3.6), NOTHING);
    // In a minute it may have become as warm in the sun.
    assert_eq!(told(60, 60, 33.0, 3.4), NOTHING);
    // The next reading is near, or the last one long ago.
    assert_eq!(told(1, 1, 33.0, 3.4), NOTHING);
    assert_eq!(told(10, 700, 200.0, 3.4), NOTHING);
}

#[test]
fn one_reading_is_enough_of_a_parked_vehicle_where_the_pack_lost_what_a_cell_lost() {
    let told = |after: u32, weakest: f32, strongest: f32, pack: f32| {
        parked(10, after, |at| Sample { hottest_celsius: 30.0, pack_voltage_v: pack, ..volts(at, weakest, strongest) })
    };
    let alarm = (Alarm, Cause::VoltageDrop);
    assert_eq!(told(10, 2.85, 3.9, 373.0), alarm);
    assert_eq!(told(10, 3.45, 3.903, 373.7), alarm);
    // The cell's sensor by itself, or what the pack loses has nothing to do with it.
    assert_eq!(told(10, 2.85, 3.9, 374.0), NOTHING);
    assert_eq!(told(10, 0.0, 3.9, 373.5), NOTHING);
    assert_eq!(told(10, 2.85, 3.9, 370.0), NOTHING);
    assert_eq!(told(10, 2.85, 3.9, f32::NAN), NOTHING);
    assert_eq!(told(10, 3.45, 3.9, 373.8), NOTHING);
    // A load that every cell bears a part of; less than 8 %; another reading is near; or the last was long ago.
    assert_eq!(told(10, 2.85, 3.89, 373.0), NOTHING);
    assert_eq!(told(10, 3.6, 3.9, 373.75), NOTHING);
    assert_eq!(told(2, 2.85, 3.9, 373.0), NOTHING);
    assert_eq!(told(700, 2.85, 3.9, 373.0), NOTHING);
}

#[test]
fn what_all_cells_share_is_no_drop() {
    // Full power: every cell sags by a quarter.
    let rest = (0..300).map(|second| volts(f64::from(second), 3.85, 3.9));
    let load = (300..400).map(|second| volts(f64::from(second), 2.85, 2.9));
    let mut pack = Pack::default();
    let thresholds = thresholds();
    let found: Vec<RiskClass> = rest
        .chain(load)
        .filter_map(|sample| pack.observe(&thresholds, &Sample { state_of_charge_percent: 80.0, ..sample }, 0))
        .map(|found| found.class)
        .collect();
    assert!(found.iter().all(|class| *class == Normal), "{found:?}");
}

#[test]
fn against_the_pack_a_drop_is_found_as_well() {
    let sample = |second: i32, weakest: f32| Sample {
        cell_voltage_min_v: weakest,
        pack_voltage_v: 374.0,
        ..Sample::at(i64::from(second) * SECOND)
    };
    let samples = (0..300).map(|second| sample(second, 3.85)).chain((300..304).map(|second| sample(second, 2.5)));
    assert_eq!(worst(samples), (Alarm, Cause::VoltageDrop));
    // Without anything to hold it against, load explains it, until it heats as well.
    let alone = |second: i32, hottest: f32, weakest: f32| Sample {
        pack_voltage_v: f32::NAN,
        hottest_celsius: hottest,
        ..sample(second, weakest)
    };
    let rest = (0..300).map(|second| alone(second, 25.0, 3.85));
    let sag = (300..310).map(|second| alone(second, 25.0, 2.5));
    assert_eq!(worst(rest.clone().chain(sag)), (Normal, Cause::Nothing));
    let heats = (300..305_u16).map(|second| alone(second.into(), 25.0 + 1.5 * f32::from(second - 300), 2.5));
    assert_eq!(worst(rest.chain(heats)), (Runaway, Cause::ConfirmedByVoltage));
}

#[test]
fn near_empty_only_large_drops_count() {
    let samples = |weakest: f32, soc: f32| {
        let at = move |second: i32, weakest: f32| Sample {
            state_of_charge_percent: soc,
            ..volts(f64::from(second), weakest, 3.6)
        };
        (0..300).map(move |second| at(second, 3.58)).chain((300..306).map(move |second| at(second, weakest)))
    };
    assert_eq!(worst(samples(3.1, 50.0)), (Alarm, Cause::VoltageDrop));
    assert_eq!(worst(samples(3.1, 5.0)), (Normal, Cause::Nothing));
    assert_eq!(worst(samples(2.5, 5.0)), (Alarm, Cause::VoltageDrop));
    // While a cell heats, a tenth counts there too.
    let heating = |weakest: f32| {
        let heats = (306..320_u16).map(move |second| Sample {
            hottest_celsius: 20.0 + 0.3 * f32::from(second - 306),
            state_of_charge_percent: 5.0,
            ..volts(second.into(), weakest, 3.6)
        });
        worst(samples(3.58, 5.0).chain(heats))
    };
    assert_eq!(heating(3.1), (Alarm, Cause::VoltageDropAndHeat));
    assert_eq!(heating(3.4), (Watch, Cause::Rise));
}

#[test]
fn a_sensor_that_jumps_and_freezes_is_doubted_while_the_voltages_are_as_before() {
    let frozen = [(215.0, 3.85); 60];
    assert_eq!(after_rest(&frozen), (Warning, Cause::DoubtfulSensor));
    // A value that moves is a temperature, and one without voltages is believed.
    let moving: Vec<(f32, f32)> = (0..6_u8).map(|second| (215.0 + f32::from(second % 2), 3.85)).collect();
    assert_eq!(after_rest(&moving), (Runaway, Cause::Onset));
    assert_eq!(after_rest(&[(215.0, 1.0); 6]).0, Runaway);
    let mut blind = vec![30.0; 10];
    blind.extend([215.0; 6]);
    assert_eq!(temperatures(&blind), (Runaway, Cause::Onset));
}

#[test]
fn one_cell_much_hotter_than_the_others_is_told() {
    let check = |hottest: f32, class: RiskClass| {
        let sample = |second| Sample { others_celsius: 20.0, ..heat(f64::from(second), hottest) };
        assert_eq!(worst((0..5).map(sample)).0, class, "{hottest}");
    };
    check(29.0, Normal);
    check(31.0, Watch);
    check(36.0, Warning);
    check(45.5, Alarm);
}

#[test]
fn temperatures_and_voltages_may_come_in_readings_of_their_own() {
    let rest = (0..300).map(|second| volts(f64::from(second), 3.85, 3.9));
    let event = (300..310_u16).flat_map(|second| {
        let at = f64::from(second);
        [heat(at, 30.0 + 1.5 * f32::from(second - 300)), volts(at + 0.4, 2.5, 3.9)]
    });
    assert_eq!(worst(rest.chain(event)), (Runaway, Cause::ConfirmedByVoltage));
}

#[test]
fn a_clock_that_was_a_year_ahead_blinds_the_rule_for_ten_seconds_at_most() {
    let (thresholds, mut pack) = (thresholds(), Pack::default());
    let year = 365 * 86_400 * SECOND;
    for second in 0..20 {
        let ahead = Sample { hottest_celsius: 30.0, ..Sample::at(year + second * SECOND) };
        pack.observe(&thresholds, &ahead, second * SECOND);
    }
    let told = (20..60_u16).find(|&second| {
        let now = i64::from(second) * SECOND;
        let sample = heat(f64::from(second), 30.0 + 1.5 * f32::from(second - 20));
        pack.observe(&thresholds, &sample, now).is_some_and(|found| found.class >= Alarm)
    });
    assert_eq!(told, Some(32), "ten seconds until the clock is believed, and three for the rise");
}

#[test]
fn a_backlog_does_not_blind_it() {
    let (thresholds, mut pack) = (thresholds(), Pack::default());
    let live = 100_000;
    let told = (0..30_u16).find(|&second| {
        let now = (live + i64::from(second)) * SECOND;
        for late in 0..100 {
            let old = Sample { hottest_celsius: 30.0, ..Sample::at((i64::from(second) * 100 + late) * SECOND) };
            pack.observe(&thresholds, &old, now);
        }
        let sample = Sample { hottest_celsius: 30.0 + 1.5 * f32::from(second), ..Sample::at(now) };
        pack.observe(&thresholds, &sample, now).is_some_and(|found| found.cause == Cause::Rate)
    });
    assert_eq!(told, Some(3));
}

#[test]
fn a_late_reading_completes_what_came_after_it() {
    let (thresholds, mut pack) = (thresholds(), Pack::default());
    let mut observe =
        |second: f64, value: f32| pack.observe(&thresholds, &heat(second, value), 0).map(|found| found.class);
    assert_eq!(observe(0.0, 65.0), Some(Normal));
    assert_eq!(observe(3.0, 65.0), Some(Normal));
    assert_eq!(observe(1.5, 65.0), Some(Alarm));
    assert_eq!(observe(1.5, 65.0), None, "told before");
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let value = (0_i64..60_000_000, 0.0_f32..150.0, 0.0_f32..100.0, 2.0_f32..4.0, 3.0_f32..4.0, 0.0_f32..100.0);
    let sample = (value, 0_u8..8).prop_map(|((time_us, hottest, others, weakest, strongest, charge), parts)| Sample {
        hottest_celsius: if parts & 1 == 0 { hottest } else { f32::NAN },
        others_celsius: if parts & 2 == 0 { others } else { f32::NAN },
        cell_voltage_min_v: if parts & 4 == 0 { weakest } else { f32::NAN },
        cell_voltage_max_v: strongest,
        state_of_charge_percent: charge,
        // Times that meet, and times between.
        ..Sample::at(time_us / 250_000 * 250_000)
    });
    proptest::collection::vec(sample, 1..80)
}

proptest! {
    /// For readings of a minute in any order and with repetitions: the state in the end is that of the ordered ones.
    #[test]
    fn order_and_repetition_change_nothing(samples in samples(), order in any::<u64>(), repeat in 0_usize..40) {
        let thresholds = thresholds();
        let run = |samples: &[Sample]| {
            let mut pack = Pack::default();
            for sample in samples {
                pack.observe(&thresholds, sample, 0);
            }
            (format!("{pack:?}"), format!("{:?}", pack.newest(&thresholds)))
        };
        let mut ordered = samples.clone();
        ordered.sort_by_key(|sample| sample.time_us);
        let mut shuffled = samples.clone();
        shuffled.extend(samples.iter().cycle().take(repeat));
        fastrand::Rng::with_seed(order).shuffle(&mut shuffled);
        prop_assert_eq!(run(&ordered), run(&shuffled));
    }

    /// Wherever a server was started again, and however much came before it had looked at what was stored: what is said
    /// from then on is what would have been said.
    #[test]
    fn a_remembered_past_is_as_good_as_an_observed_one(
        volts in proptest::collection::vec((3.0_f32..3.9, 20.0_f32..60.0), 1..40),
        interval_s in 1_i64..70,
        killed in 0_usize..40,
        sent in 0_usize..10,
    ) {
        let thresholds = thresholds();
        let begin_s = 1_700_000_000;
        let sample = |(place, &(weakest, hottest)): (usize, &(f32, f32))| Sample {
            time_us: (begin_s + place as i64 * interval_s) * SECOND,
            ..both(0.0, hottest, weakest)
        };
        let samples: Vec<Sample> = volts.iter().enumerate().map(sample).collect();
        let killed = killed.min(samples.len());
        let looked = (killed + sent).min(samples.len());
        // As text: what is not known is NaN, and equals nothing.
        let observe = |pack: &mut Pack, sample: &Sample| {
            format!("{:?}", pack.observe(&thresholds, sample, sample.time_us + SECOND))
        };
        let mut whole = Pack::default();
        let expected: Vec<_> = samples.iter().map(|sample| observe(&mut whole, sample)).collect();
        let mut again = Pack::default();
        for sample in &samples[killed..looked] {
            observe(&mut again, sample);
        }
        // What has been sent since is stored as well.
        let mut past = Pack::default();
        samples[..looked].iter().for_each(|sample| past.take_in(sample));
        again.remember(&past);
        prop_assert_eq!(again.has_sent(), looked > killed);
        let found: Vec<_> = samples[looked..].iter().map(|sample| observe(&mut again, sample)).collect();
        prop_assert_eq!(&found[..], &expected[looked..]);
        if again.has_sent() {
            prop_assert_eq!(format!("{whole:?}"), format!("{again:?}"));
        }
    }

    /// Sane readings that stay the same, with a sensor's noise, at any sampling, are Normal.
    #[test]
    fn constant_sane_readings_raise_nothing(
        celsius in -30.0_f32..44.0,
        weakest in 3.5_f32..4.1,
        imbalance in 0.0_f32..0.1,
        interval_ms in 20_i64..120_000,
        seed in any::<u64>(),
    ) {
        let (thresholds, mut pack) = (thresholds(), Pack::default());
        let mut random = fastrand::Rng::with_seed(seed);
        for index in 0..300 {
            let now = index * interval_ms * 1000;
            let sample = Sample {
                hottest_celsius: celsius + random.f32() * 0.4,
                others_celsius: celsius - 3.0,
                cell_voltage_min_v: weakest + random.f32() * 0.01,
                cell_voltage_max_v: weakest + imbalance + 0.01 + random.f32() * 0.01,
                state_of_charge_percent: 60.0,
                ..Sample::at(now)
            };
            if let Some(found) = pack.observe(&thresholds, &sample, now) {
                prop_assert_eq!(found.class, Normal, "{:?}", found);
            }
        }
    }

    /// Whatever comes, nothing panics, and what is said is about a time that came.
    #[test]
    fn anything_may_come(values in proptest::collection::vec((any::<i64>(), any::<f32>(), any::<f32>(), any::<f32>(), any::<i64>()), 0..100)) {
        let (thresholds, mut pack) = (thresholds(), Pack::default());
        for (time_us, hottest, weakest, strongest, received_us) in values {
            let sample = Sample {
                hottest_celsius: hottest,
                cell_voltage_min_v: weakest,
                cell_voltage_max_v: strongest,
                ..Sample::at(time_us)
            };
            let mut past = Pack::default();
            past.take_in(&Sample { time_us: received_us, ..sample });
            pack.remember(&past);
            pack.observe(&thresholds, &sample, received_us);
        }
    }
}
