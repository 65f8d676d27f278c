//! The network as a whole: against candle's own layers, in every variant, alone and in batches.

mod support;

use candle_core::{D, Device, Module as _, Tensor as CandleTensor};
use candle_nn::{Conv2d, Conv2dConfig, LayerNorm, Linear};
use ev_models_candle::{CandleBackend, Kernel};
use ev_models_core::{ArtifactDir, Backend as _, Tensor, Tensors};
use support::{
    checkpoint::{Checkpoint, Size, TINY, pixels},
    image_options, options,
};

/// The same network in candle's own layers, channels first as the reference has it.
struct Reference<'c>(&'c Checkpoint);

impl Reference<'_> {
    fn tensor(&self, name: &str) -> CandleTensor {
        let tensor = &self.0.tensors[name];
        CandleTensor::from_slice(&tensor.values, tensor.shape.as_slice(), &Device::Cpu).expect("a tensor")
    }

    fn weight_and_bias(&self, name: &str) -> (CandleTensor, CandleTensor) {
        (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")))
    }

    fn conv(&self, name: &str, config: Conv2dConfig, x: &CandleTensor) -> candle_core::Result<CandleTensor> {
        let (weight, bias) = self.weight_and_bias(name);
        Conv2d::new(weight, Some(bias), config).forward(x)
    }

    fn linear(&self, name: &str, x: &CandleTensor) -> candle_core::Result<CandleTensor> {
        let (weight, bias) = self.weight_and_bias(name);
        Linear::new(weight, Some(bias)).forward(x)
    }

    fn norm(&self, name: &str, epsilon: f64, x: &CandleTensor) -> candle_core::Result<CandleTensor> {
        let (weight, bias) = self.weight_and_bias(name);
        LayerNorm::new(weight, bias, epsilon).forward(x)
    }

    fn norm_of_channels(&self, name: &str, x: &CandleTensor) -> candle_core::Result<CandleTensor> {
        self.norm(name, 1e-6, &x.permute((0, 2, 3, 1))?.contiguous()?)?.permute((0, 3, 1, 2))?.contiguous()
    }

    fn block(&self, place: &str, channels: usize, x: &CandleTensor) -> candle_core::Result<CandleTensor> {
        let config = Conv2dConfig { padding: 3, groups: channels, ..Conv2dConfig::default() };
        let y = self.conv(&format!("{place}.dwconv"), config, x)?.permute((0, 2, 3, 1))?.contiguous()?;
        let y = self.norm(&format!("{place}.layernorm"), 1e-6, &y)?;
        let y = self.linear(&format!("{place}.pwconv1"), &y)?.gelu_erf()?;
        let norms = y.sqr()?.sum_keepdim((1, 2))?.sqrt()?;
        let norms = norms.broadcast_div(&(norms.mean_keepdim(D::Minus1)? + 1e-6)?)?;
        let (weight, bias) = self.weight_and_bias(&format!("{place}.grn"));
        let response = y.broadcast_mul(&norms)?.broadcast_mul(&weight)?.broadcast_add(&bias)?;
        let y = self.linear(&format!("{place}.pwconv2"), &(response + y)?)?;
        y.permute((0, 3, 1, 2))?.contiguous()? + x
    }

    fn forward(&self, size: Size, shape: [usize; 4], pixels: &[f32]) -> candle_core::Result<Vec<f32>> {
        let x = CandleTensor::from_slice(pixels, &shape, &Device::Cpu)?;
        let patches = Conv2dConfig { stride: 4, ..Conv2dConfig::default() };
        let x = self.conv("convnextv2.embeddings.patch_embeddings", patches, &x)?;
        let mut x = self.norm_of_channels("convnextv2.embeddings.layernorm", &x)?;
        for (index, (&depth, &channels)) in size.depths.iter().zip(size.channels).enumerate() {
            let place = format!("convnextv2.encoder.stages.{index}");
            if index > 0 {
                x = self.norm_of_channels(&format!("{place}.downsampling_layer.0"), &x)?;
                let halves = Conv2dConfig { stride: 2, ..Conv2dConfig::default() };
                x = self.conv(&format!("{place}.downsampling_layer.1"), halves, &x)?;
            }
            for block in 0..depth {
                x = self.block(&format!("{place}.layers.{block}"), channels, &x)?;
            }
        }
        let x = self.norm("convnextv2.layernorm", 1e-12, &x.mean((2, 3))?)?;
        self.linear("classifier", &x)?.flatten_all()?.to_vec1()
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The logits of some images.
fn logits(kernel: Kernel, checkpoint: &Checkpoint, shape: [usize; 4], pixels: &[f32]) -> Vec<f32> {
    let backend = CandleBackend::with_kernel(kernel);
    let options = image_options(shape[2], shape[3]);
    let model = backend.load_bytes(&checkpoint.config(), &checkpoint.weights(), &options).expect("it loads");
    let mut instance = model.instantiate().expect("an instance");
    let answer = instance.run(&Tensors::from(vec![Tensor::f32(shape, pixels.to_vec())])).expect("it runs");
    assert_eq!(answer[0], answer[1]);
    answer[0].as_f32().expect("floats").to_vec()
}

#[test]
fn candle_core_computes_the_same_logits_with_its_own_layers() {
    // Odd sizes leave out the last row or column; a single pixel is left of the smallest.
    let odd = Size { depths: &[2, 1], channels: &[12, 20], classes: 3, image: 32 };
    for (size, height, width) in [(TINY, 32, 32), (TINY, 64, 96), (odd, 30, 47), (odd, 8, 9)] {
        let checkpoint = Checkpoint::random(7, size);
        let shape = [2, 3, height, width];
        let pixels = pixels(8, shape.iter().product());
        let expected = Reference(&checkpoint).forward(size, shape, &pixels).expect("candle runs it");
        assert!(expected.iter().any(|logit| logit.abs() > 0.1), "there is something to compare: {expected:?}");
        for kernel in Kernel::all() {
            let found = logits(kernel, &checkpoint, shape, &pixels);
            let difference = largest_difference(&found, &expected);
            assert!(difference < 1e-4, "{}: {difference}, {found:?}, expected {expected:?}", kernel.name());
        }
    }
}

#[test]
fn an_image_has_the_same_logits_alone_and_in_any_batch() {
    let checkpoint = Checkpoint::random(1, TINY);
    let len = 3 * 32 * 32;
    let pixels = pixels(2, 19 * len);
    for kernel in Kernel::all() {
        let model = CandleBackend::with_kernel(kernel)
            .load_bytes(&checkpoint.config(), &checkpoint.weights(), &options(TINY))
            .expect("it loads");
        let mut instance = model.instantiate().expect("an instance");
        let mut run = |images: std::ops::Range<usize>| {
            let values = pixels[images.start * len..images.end * len].to_vec();
            let batch = Tensors::from(vec![Tensor::f32([images.len(), len], values)]);
            instance.run(&batch).expect("it runs")[0].as_f32().expect("floats").to_vec()
        };
        let alone: Vec<f32> = (0..19).flat_map(|image| run(image..image + 1)).collect();
        assert!(run(0..0).is_empty());
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        for size in [2, 3, 8, 9, 19] {
            let together: Vec<f32> = (0..19).step_by(size).flat_map(|first| run(first..19.min(first + size))).collect();
            if kernel == Kernel::best() && kernel.name() == "AVX-512" {
                assert_eq!(bits(&together), bits(&alone), "{size} at a time");
            }
            // The gemm crate sums in an order that depends on the number of rows.
            assert!(largest_difference(&together, &alone) < 1e-5, "{}, {size} at a time", kernel.name());
        }
    }
}

#[test]
fn half_precision_weights_are_converted() {
    let mut checkpoint = Checkpoint::random(3, TINY);
    // Values that bfloat16 holds exactly.
    for tensor in checkpoint.tensors.values_mut() {
        for value in &mut tensor.values {
            *value = f32::from_bits(value.to_bits() & 0xffff_0000);
        }
    }
    let values = pixels(4, 3 * 32 * 32);
    let run = |weights: &[u8]| {
        let model = CandleBackend::new().load_bytes(&checkpoint.config(), weights, &options(TINY)).expect("it loads");
        let mut instance = model.instantiate().expect("an instance");
        let batch = Tensors::from(vec![Tensor::f32([1, 3, 32, 32], values.clone())]);
        instance.run(&batch).expect("it runs")[0].clone()
    };
    let single = run(&checkpoint.weights());
    assert_eq!(run(&checkpoint.weights_as("BF16", |value| value.to_le_bytes()[2..].to_vec())), single);
    assert_eq!(run(&checkpoint.weights_as("F64", |value| f64::from(value).to_le_bytes().to_vec())), single);
}

#[test]
fn a_directory_is_loaded_as_it_is() {
    let checkpoint = Checkpoint::random(5, TINY);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = [
        ("config.json", checkpoint.config()),
        ("model.safetensors", checkpoint.weights()),
        ("preprocessor_config.json", b"{\"size\": {\"shortest_edge\": 32}}".to_vec()),
    ];
    let artifact = ArtifactDir::new(files.map(|(name, bytes)| {
        // A store keeps files under names of its own.
        let path = directory.path().join(format!("{}.stored", name.len()));
        fs_err::write(&path, bytes).expect("written");
        (format!("atto/{name}"), path)
    }));
    let options = ev_models_core::LoadOptions { file: "atto/model.safetensors".into(), ..options(TINY) };
    let backend = CandleBackend::new();
    assert_eq!(backend.name(), "candle");
    let model = backend.load(&artifact, &options).expect("it loads");
    let signature = model.signature();
    assert_eq!((signature.columns, signature.outputs), (3_072, 10));
    let parameters: usize = checkpoint.tensors.values().map(|tensor| tensor.values.len()).sum();
    let kernel = Kernel::best().name();
    assert_eq!(
        signature.description,
        format!(
            "ConvNeXt V2 of depths 1-1-2-1 and channels 8-16-32-64, {parameters} parameters, \
             images of 32 by 32, {kernel} kernel, one thread"
        )
    );
}
