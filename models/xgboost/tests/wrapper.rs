//! A booster trained in this process through the crate `xgboost-rs` answers the same through the backend.
//!
//! The backend itself goes through `xgboost-rs-sys`, the same library underneath: the safe wrapper takes 0 for missing,
//! and predicts margins in training mode, where dart drops trees at random.

use std::collections::HashMap;

use ev_models_core::{Tensor, Tensors};
use ev_models_xgboost::XgboostBackend;
use xgboost_rs::{Booster, DMatrix};

const ROWS: usize = 200;
const COLUMNS: usize = 4;

/// Values from 0.1 to 1.1, never 0, which the wrapper would take for missing.
fn rows() -> Vec<f32> {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        0.1 + f32::from(u16::try_from(state >> 16).unwrap_or(0)) / 65_536.0
    };
    (0..ROWS * COLUMNS).map(|_| next()).collect()
}

#[test]
fn a_dart_booster_trained_by_xgboost_rs_answers_the_same() {
    let rows = rows();
    let labels: Vec<f32> =
        rows.chunks(COLUMNS).map(|row| f32::from(u8::from(row[0] + row[1] * row[2] > 1.0))).collect();
    let mut matrix = DMatrix::from_dense(&rows, ROWS).expect("a matrix");
    matrix.set_labels(&labels).expect("labels");
    let parameters = [
        ("booster", "dart"),
        ("objective", "binary:logistic"),
        ("max_depth", "3"),
        ("rate_drop", "0.3"),
        ("nthread", "1"),
        ("seed", "3"),
    ];
    let parameters: HashMap<String, String> =
        parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut booster = Booster::new_with_json_config(&[&matrix], parameters).expect("a booster");
    for iteration in 0..12 {
        booster.update(&matrix, iteration).expect("a round");
    }
    let expected = booster.predict(&matrix).expect("the wrapper's answers");
    let json = booster.save_to_buffer("json".to_owned()).expect("the model as JSON");

    let model = XgboostBackend::new().load_bytes("dart.json", json.as_bytes()).expect("the backend loads it");
    let mut instance = model.instantiate().expect("an instance");
    let answer = instance.run(&Tensors::from(vec![Tensor::f32([ROWS, COLUMNS], rows)])).expect("answers");
    let found = answer[1].as_f32().expect("floats");
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(found), bits(&expected));
}
