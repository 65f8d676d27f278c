//! Every variant against plain arithmetic in float64, and against each other.

use super::{
    Geometry, Kernel, Linear, Norm, Store,
    cpu::Work,
    depthwise::Depthwise,
    elementwise::response,
    gelu::{ERF_ONE_FROM, gelu},
};

fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.f32() * 2.0 - 1.0).collect()
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let distance = (f64::from(*found) - expected).abs();
        assert!(distance <= tolerance * expected.abs().max(1.0), "{what} at {index}: {found}, expected {expected}");
    }
}

/// The error function by its series and its continued fraction, to 1e-12.
fn erf(x: f64) -> f64 {
    if x.abs() > 3.0 {
        let fraction = (1..60).rev().fold(0.0, |rest, n| f64::from(n) / 2.0 / (x.abs() + rest));
        let complement = (-x * x).exp() / std::f64::consts::PI.sqrt() / (x.abs() + fraction);
        return x.signum() * (1.0 - complement);
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn exact_gelu(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

#[test]
fn gelu_is_exact_to_float32() {
    assert!((erf(1.0) - 0.842_700_792_949_714_9).abs() < 1e-12 && (erf(3.5) - 0.999_999_256_901_627_7).abs() < 1e-12);
    let values: Vec<f32> = (-12_000_i16..=12_000).map(|step| f32::from(step) / 1_000.0).collect();
    let expected: Vec<f64> = values.iter().map(|value| exact_gelu(f64::from(*value))).collect();
    for (x, expected) in values.iter().zip(expected) {
        for found in [gelu::<false>(*x), gelu::<true>(*x)] {
            let distance = (f64::from(found) - expected).abs();
            assert!(distance <= 3e-7 * f64::from(x.abs()).max(1.0), "GELU of {x}: {found}, expected {expected}");
        }
    }
    assert!((erf(f64::from(ERF_ONE_FROM)) - 1.0).abs() < 6e-8);
}

#[test]
fn layer_norm_is_plain_arithmetic() {
    for kernel in Kernel::all() {
        for channels in [1, 5, 8, 16, 40, 83, 320] {
            let norm = Norm { weight: random(1, channels), bias: random(2, channels), epsilon: 1e-6 };
            let pixels = random(3, 3 * channels);
            let mut expected = Vec::new();
            for pixel in pixels.chunks(channels) {
                let mean = pixel.iter().map(|x| f64::from(*x)).sum::<f64>() / channels as f64;
                let variance = pixel.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / channels as f64;
                let values = pixel.iter().zip(&norm.weight).zip(&norm.bias);
                expected.extend(values.map(|((x, weight), bias)| {
                    (f64::from(*x) - mean) / (variance + 1e-6).sqrt() * f64::from(*weight) + f64::from(*bias)
                }));
            }
            let mut found = pixels.clone();
            norm.run(kernel, &mut found);
            // A single channel has no variance: what is left is rounding, blown up a thousandfold.
            assert_close(&found, &expected, 1e-5, &format!("{} norm of {channels}", kernel.name()));
        }
    }
}

#[test]
fn depthwise_convolution_is_plain_arithmetic() {
    for kernel in Kernel::all() {
        for (rows, columns, channels) in [(1, 1, 1), (2, 9, 8), (7, 7, 24), (14, 15, 40), (3, 20, 13)] {
            let geometry = Geometry { rows, columns, channels };
            let (weights, bias) = (random(1, 49 * channels), random(2, channels));
            let pixels = random(3, geometry.len());
            // A norm that changes nothing could not be made; so the expectation has it, too.
            let norm = Norm { weight: random(4, channels), bias: random(5, channels), epsilon: 1e-2 };
            let mut expected = Vec::new();
            for row in 0..rows {
                for column in 0..columns {
                    let mut sums: Vec<f64> = bias.iter().map(|bias| f64::from(*bias)).collect();
                    for (place, weights) in weights.chunks(channels).enumerate() {
                        let (y, x) = ((row + place / 7).wrapping_sub(3), (column + place % 7).wrapping_sub(3));
                        if y < rows && x < columns {
                            let pixel = &pixels[(y * columns + x) * channels..][..channels];
                            for ((sum, value), weight) in sums.iter_mut().zip(pixel).zip(weights) {
                                *sum += f64::from(*value) * f64::from(*weight);
                            }
                        }
                    }
                    let mean = sums.iter().sum::<f64>() / channels as f64;
                    let variance = sums.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / channels as f64;
                    expected.extend(sums.iter().zip(&norm.weight).zip(&norm.bias).map(|((sum, weight), bias)| {
                        (sum - mean) / (variance + 1e-2).sqrt() * f64::from(*weight) + f64::from(*bias)
                    }));
                }
            }
            // Scratch that another layer left behind.
            let mut padded = vec![f32::NAN; 100_000];
            let mut found = vec![0.0; geometry.len()];
            Depthwise::new(geometry, &weights, &bias).run(kernel, &norm, &pixels, &mut padded, &mut found);
            assert_close(&found, &expected, 1e-5, &format!("{} {geometry:?}", kernel.name()));
        }
    }
}

#[test]
fn products_are_plain_arithmetic() {
    for kernel in Kernel::all() {
        for (count, inputs, outputs) in
            [(1, 1, 1), (5, 8, 16), (13, 40, 160), (49, 160, 40), (7, 20, 1_000), (3, 33, 83), (30, 48, 352)]
        {
            let (rows, weights) = (random(1, count * inputs), random(2, inputs * outputs));
            let (bias, before) = (random(3, outputs), random(4, count * outputs));
            let scales = random(5, inputs);
            let product = |scales: Option<&[f32]>| {
                let mut sums = Vec::new();
                for row in rows.chunks(inputs) {
                    for output in 0..outputs {
                        let sum: f64 = (0..inputs)
                            .map(|input| {
                                let scale = scales.map_or(1.0, |scales| f64::from(scales[input]));
                                f64::from(row[input]) * f64::from(weights[input * outputs + output]) * scale
                            })
                            .sum();
                        sums.push(sum + f64::from(bias[output]));
                    }
                }
                sums
            };
            let linear = Linear::new(kernel, &weights, inputs, bias.clone());
            let what = format!("{} product of {count}, {inputs}, {outputs}", kernel.name());
            let sums = product(None);

            let mut found = vec![f32::NAN; count * outputs];
            linear.run(kernel, &rows, Store::Bias, &mut found);
            assert_close(&found, &sums, 1e-5, &what);

            let mut squares = vec![1.0; outputs];
            linear.run(kernel, &rows, Store::Gelu { squares: &mut squares }, &mut found);
            let activated: Vec<f64> = sums.iter().map(|sum| exact_gelu(*sum)).collect();
            assert_close(&found, &activated, 1e-5, &what);
            let mut expected = vec![1.0; outputs];
            for row in activated.chunks(outputs) {
                expected.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * value);
            }
            assert_close(&squares, &expected, 1e-5, &what);

            let mut found = before.clone();
            linear.run_scaled(kernel, &rows, &scales, &mut vec![9.0; 7], Store::Add, &mut found);
            let expected: Vec<f64> =
                product(Some(&scales)).iter().zip(&before).map(|(a, b)| a + f64::from(*b)).collect();
            assert_close(&found, &expected, 1e-5, &what);
        }
    }
}

#[test]
fn response_scales_are_plain_arithmetic() {
    for kernel in Kernel::all() {
        for channels in [1, 16, 37, 160] {
            let weight = random(1, channels);
            let squares: Vec<f32> = random(2, channels).iter().map(|value| value * value * 50.0).collect();
            let norms: Vec<f64> = squares.iter().map(|square| f64::from(*square).sqrt()).collect();
            let mean = norms.iter().sum::<f64>() / channels as f64 + 1e-6;
            let expected: Vec<f64> =
                norms.iter().zip(&weight).map(|(norm, weight)| 1.0 + f64::from(*weight) * norm / mean).collect();
            let mut found = squares.clone();
            response(kernel, &weight, &mut found);
            assert_close(&found, &expected, 1e-5, kernel.name());
        }
    }
}

#[test]
fn the_best_kernel_is_one_of_all() {
    struct Answer;
    impl Work for Answer {
        type Output = u8;
        #[inline(always)]
        fn run<const FUSED: bool>(self) -> u8 {
            42
        }
    }
    assert!(Kernel::all().contains(&Kernel::best()));
    assert!(Kernel::all().iter().all(|kernel| kernel.run(Answer) == 42));
}
