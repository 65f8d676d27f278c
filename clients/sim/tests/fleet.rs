//! What a fleet sends: the same for the same seed, plausible, and wrong where it shall be.

use ev_domain::{Catalogue, SignalKind};
use evsim::{Batch, Emission, Fault, Fleet, FleetConfig, Signal, Start};

fn fleet(vehicles: usize, faults: &[&str]) -> FleetConfig {
    let faults: Result<Vec<Fault>, _> = faults.iter().map(|fault| fault.parse()).collect();
    FleetConfig { vehicles, seed: 5, start: Start::Driving, faults: faults.expect("faults"), ..FleetConfig::default() }
}

fn batches(config: FleetConfig, count: usize) -> Vec<Batch> {
    Fleet::new(config).take(count).map(|emission| emission.batch).collect()
}

#[test]
fn signals_are_the_catalogues() {
    let catalogue = Catalogue::standard();
    for signal in Signal::ALL {
        let id =
            catalogue.by_name(signal.name()).unwrap_or_else(|| panic!("{} is not in the catalogue", signal.name()));
        let known = catalogue.signal(id).expect("it has this id");
        assert_eq!(known.kind == SignalKind::Flag, signal == Signal::IsCharging);
    }
}

#[test]
fn values_are_plausible() {
    let catalogue = Catalogue::standard();
    for batch in batches(fleet(20, &["0:short@60"]), 20 * 60) {
        for column in &batch.columns {
            let signal = catalogue.by_name(column.signal.name()).and_then(|id| catalogue.signal(id)).expect("known");
            for value in &column.values {
                assert!((signal.min..=signal.max).contains(value), "{} is {value}", signal.name);
            }
        }
        assert!(batch.times_us.is_sorted());
    }
}

#[test]
fn the_same_seed_gives_the_same_fleet_and_another_seed_another() {
    assert_eq!(batches(fleet(3, &[]), 60), batches(fleet(3, &[]), 60));
    assert_ne!(batches(fleet(3, &[]), 60), batches(FleetConfig { seed: 6, ..fleet(3, &[]) }, 60));
    // A vehicle does not depend on its neighbours, nor on its fault before that begins.
    let of_first = |config: FleetConfig, count: usize| -> Vec<Batch> {
        batches(config, count).into_iter().filter(|batch| batch.vehicle_id == "sim-0").collect()
    };
    assert_eq!(of_first(fleet(1, &[]), 20), of_first(fleet(7, &[]), 140));
    let before = of_first(fleet(1, &["0:short@200"]), 20);
    assert_eq!(before, of_first(fleet(1, &[]), 20));
    let after = of_first(fleet(1, &["0:short@100"]), 60);
    assert_ne!(after, of_first(fleet(1, &[]), 60));
}

#[test]
fn faults_do_what_they_say() {
    let with = |fault: &str| batches(fleet(1, &[fault]), 30);
    let plain = batches(fleet(1, &[]), 30);
    let skewed = with("0:skew@100");
    assert_eq!(skewed[5], plain[5]);
    assert_eq!(skewed[20].times_us[0] - plain[20].times_us[0], 3_600_000_000);
    let sequences = |batches: &[Batch]| batches.iter().map(|batch| batch.sequence).collect::<Vec<u64>>();
    // Six batches of ten seconds are lost.
    assert_eq!(sequences(&with("0:gap@100"))[..12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 18]);
    let doubled = with("0:duplicate@100");
    assert_eq!(sequences(&doubled)[8..12], [9, 10, 10, 11]);
    assert!(!doubled[9].is_resend && doubled[10].is_resend);
    let garbage = with("0:garbage@100");
    assert!(garbage[15].columns.iter().flat_map(|column| &column.values).any(|value| !value.is_finite()));
    let stuck = with("0:stuck@100");
    let hottest: Vec<f32> =
        stuck[12..].iter().flat_map(|batch| batch.column(Signal::CellTemperatureMax)).flatten().copied().collect();
    assert!(hottest.windows(2).all(|pair| pair[0] == pair[1]), "{hottest:?}");
    let truths: Vec<Emission> = Fleet::new(fleet(1, &["0:stuck@100"])).take(12).collect();
    assert_eq!((truths[5].truth.faults.len(), truths[11].truth.faults[0]), (0, "stuck"));
}

/// The program streams; the library that it is built on is a simulation and nothing else.
#[test]
fn the_library_knows_no_network_and_no_clock() {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = fs_err::read_dir(sources).expect("the sources").map(|entry| entry.expect("a file").path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect();
    assert!(files.len() > 10);
    for path in files {
        let text = fs_err::read_to_string(&path).expect("text");
        for forbidden in ["ev_client", "tokio", "Instant", "SystemTime", "std::net"] {
            assert!(!text.contains(forbidden), "{}: {forbidden}", path.display());
        }
    }
}
