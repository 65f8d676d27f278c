//! Memory: a run takes none once it has run, and loading takes little more than the file.

use std::path::Path;

use allocation_counter::measure;
use ev_models_core::{Tensor, Tensors};
use ev_models_forest::{ForestBackend, Kernel};

fn golden(file: &str) -> Vec<u8> {
    fs_err::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)).expect("the model is there")
}

#[test]
fn a_run_allocates_nothing_after_the_first_of_its_size() {
    for file in ["3.2.0/softprob.ubj", "3.2.0/wide.ubj", "3.2.0/deep.ubj", "3.2.0/squarederror.ubj"] {
        let bytes = golden(file);
        for kernel in [Kernel::Portable, Kernel::Words, Kernel::Bytes] {
            let Ok(model) = ForestBackend::with_kernel(kernel).load_bytes(file, &bytes) else { continue };
            let columns = model.signature().columns;
            let mut instance = model.instantiate().expect("a forest makes instances");
            for rows in [300, 1, 17] {
                let batch = Tensors::from(vec![Tensor::f32([rows, columns], vec![0.3; rows * columns])]);
                let mut run = || assert!(instance.run(&batch).is_ok());
                run();
                assert_eq!(measure(run).count_total, 0, "{file}, {kernel} kernel, {rows} rows");
            }
        }
    }
}

#[test]
fn loading_takes_memory_in_proportion_to_the_file() {
    // Small trees make the most of a file: many of them, and one deep tree to complete them for.
    let golden = String::from_utf8(golden("1.0.2/deep.json")).expect("JSON is text");
    let stub = r#"{"left_children":[-1],"right_children":[-1],"split_conditions":[0],"split_indices":[0],"default_left":[0],"tree_param":{"num_nodes":"1"}},"#;
    let trees = golden.replace(r#""trees":["#, &format!(r#""trees":[{}"#, stub.repeat(20_000)));
    let info = trees.replace(r#""tree_info":["#, &format!(r#""tree_info":[{}"#, "0,".repeat(20_000)));
    let bytes = info.replace(r#""num_trees":""#, r#""num_trees":"2000"#).into_bytes();
    let huge = i64::MAX.to_be_bytes();
    let claims = [b"{i\x07learner{i\x10gradient_booster{i\x05model{i\x05trees[#L", &huge[..]].concat();
    for (bytes, limit) in [(bytes, 16), (claims, 100)] {
        let memory = measure(|| drop(ForestBackend::new().load_bytes("model", &bytes)));
        let times = memory.bytes_max / bytes.len() as u64;
        assert!(times < limit, "{} bytes took {} at once", bytes.len(), memory.bytes_max);
    }
}
