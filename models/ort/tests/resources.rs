//! What instances cost: one copy of the weights for all of them, and no thread.

#![cfg(target_os = "linux")]

mod support;

use ev_models_core::{LoadOptions, Tensor, Tensors};
use support::{
    backend,
    onnx::{ANY, FLOAT, Graph},
};

/// Columns, and values of each layer: two weights of 16 MiB.
const WIDTH: usize = 2_048;

fn large() -> Vec<u8> {
    let mut graph = Graph::new();
    let size = i64::try_from(WIDTH).expect("small");
    let mut x = graph.input("x", FLOAT, &[ANY, size]);
    for layer in 0..2 {
        let values: Vec<f32> = (0..WIDTH * WIDTH).map(|index| ((index + layer) % 7) as f32 * 1e-3).collect();
        let w = graph.weight(&format!("w{layer}"), &[WIDTH, WIDTH], &values);
        x = graph.node("MatMul", &[&x, &w], vec![]);
    }
    graph.output("y", &x, FLOAT, &[ANY, size]);
    graph.into_bytes()
}

/// A number of `/proc/self/status`.
fn status(key: &str) -> usize {
    let text = fs_err::read_to_string("/proc/self/status").expect("there is one");
    let line = text.lines().find(|line| line.starts_with(key)).expect("it is there");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// One test, so that nothing else takes memory or threads meanwhile.
#[test]
fn eight_more_instances_cost_less_than_one_copy_of_the_weights() {
    let weights_kib = 2 * WIDTH * WIDTH * 4 / 1024;
    let model = backend().load_bytes(large(), &LoadOptions::new("model.onnx", WIDTH)).expect("it loads");
    let batch = Tensors::from(vec![Tensor::f32([1, WIDTH], vec![1.0; WIDTH])]);
    let mut instances = vec![model.instantiate().expect("an instance")];
    let expected = instances[0].run(&batch).expect("it runs")[0].clone();
    let (memory, threads) = (status("VmRSS:"), status("Threads:"));
    for _ in 0..8 {
        instances.push(model.instantiate().expect("an instance"));
    }
    for instance in &mut instances {
        assert_eq!(instance.run(&batch).expect("it runs")[0], expected);
    }
    let grown = status("VmRSS:").saturating_sub(memory);
    eprintln!("weights {weights_kib} KiB; eight more instances took {grown} KiB");
    assert!(grown < weights_kib, "eight instances took {grown} KiB more; the weights have {weights_kib} KiB");
    assert_eq!(status("Threads:"), threads, "instances start no threads");
}
