//! The thermal rule on simulated shorts and days, as small as tests must be; `examples/thermal.rs` is the long form.

mod support;

use support::{Days, Sensors, Shorts};

#[test]
fn shorts_are_told_before_the_onset() {
    let shorts = Shorts::run(30, 6, Sensors::All);
    let sampled = shorts.sampled(1);
    assert!(sampled.len() >= 12, "{shorts}");
    assert!(sampled.iter().all(|case| case.in_time()), "{shorts}");
    let showing: Vec<_> = sampled.iter().filter(|case| case.shows.is_some()).collect();
    // One of these develops in five seconds, and heats its cell by 8 degrees a second.
    let late = showing.iter().filter(|case| !case.before_60()).count();
    assert!(showing.len() >= 3 && late <= 1, "{shorts}");
    // Parked, they are read every ten seconds.
    let parked = shorts.sampled(10);
    assert!(parked.len() >= 6 && parked.iter().all(|case| case.in_time()), "{shorts}");
    let showing: Vec<_> = parked.iter().filter(|case| case.shows.is_some()).collect();
    assert!(showing.len() >= 2 && showing.iter().all(|case| case.before_60()), "{shorts}");
    // The confirmation comes in the end.
    assert!(sampled.iter().filter(|case| case.runaway.is_some()).count() * 10 >= sampled.len() * 9, "{shorts}");
}

#[test]
fn without_cell_voltages_fewer_are_told_in_time() {
    let in_time = |sensors| Shorts::run(30, 6, sensors).cases.iter().filter(|case| case.in_time()).count();
    assert!(in_time(Sensors::NoCellVoltages) < in_time(Sensors::All));
}

#[test]
fn normal_days_raise_no_alarm() {
    let days = Days::run(12, 6);
    assert!(days.alarms.is_empty(), "{days}");
    assert!(days.readings > 100_000, "{days}");
}
