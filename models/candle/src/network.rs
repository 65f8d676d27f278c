//! The network: its weights as the kernels want them, and the way of a batch through it.

use ev_models_core::LoadError;

use crate::{
    config::Config,
    kernel::{Block, Downsample, Geometry, Kernel, Linear, Norm, Store},
    weights::Weights,
};

/// Of every norm but the last, as the reference has it.
const EPSILON: f32 = 1e-6;
/// Images that go through the network together: enough to use each weight several times while it is in the cache.
const CHUNK: usize = 8;
/// Bytes of a block's widest activations for the images that go through its layers together; about half a core's
/// second cache.
const GROUP_BYTES: usize = 1 << 19;
/// Values of one activation of one image: 512 MiB.
const ACTIVATION_MAX: usize = 1 << 27;

/// A ConvNeXt V2 classifier for images of one size.
#[derive(Debug)]
pub(crate) struct Network {
    kernel: Kernel,
    image: [usize; 3],
    patch: usize,
    stem: Linear,
    stem_norm: Norm,
    stages: Vec<Stage>,
    norm: Norm,
    classifier: Linear,
    parameters: usize,
}

#[derive(Debug)]
struct Stage {
    /// None for the first, whose place the stem takes.
    downsample: Option<Downsample>,
    geometry: Geometry,
    blocks: Vec<Block>,
    /// Images that go through a block together.
    group: usize,
}

/// Buffers of one instance; they keep their size between runs.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Activations between stages, of the images of a chunk.
    current: Vec<f32>,
    next: Vec<f32>,
    /// Patches on their way into a product.
    pub(crate) patches: Vec<f32>,
    /// Rows of an image with zeros on both sides.
    pub(crate) padded: Vec<f32>,
    pub(crate) normed: Vec<f32>,
    pub(crate) hidden: Vec<f32>,
    /// Sums of squares of each channel, then its scale.
    pub(crate) squares: Vec<f32>,
    /// A product's weights, scaled for one image.
    pub(crate) scaled: Vec<f32>,
}

// === impl Network ===

impl Network {
    /// Takes the weights of a file, each checked to be of its shape.
    ///
    /// # Errors
    ///
    /// [`LoadError`] naming the tensor, or that the image is too small or too large for the network.
    pub(crate) fn new(
        config: &Config,
        height: usize,
        width: usize,
        weights: &Weights<'_>,
        kernel: Kernel,
    ) -> Result<Network, LoadError> {
        let source = Source { weights, kernel };
        let (channels, patch) = (config.num_channels, config.patch_size);
        let (mut rows, mut columns) = (height / patch, width / patch);
        let mut stages = Vec::with_capacity(config.depths.len());
        let mut before = channels;
        for (index, (&depth, &size)) in config.depths.iter().zip(&config.hidden_sizes).enumerate() {
            if index > 0 {
                (rows, columns) = (rows / 2, columns / 2);
            }
            let place = format!("convnextv2.encoder.stages.{index}");
            let hidden = rows.checked_mul(columns).and_then(|pixels| pixels.checked_mul(4 * size));
            let Some(hidden) = hidden.filter(|hidden| (1..=ACTIVATION_MAX).contains(hidden)) else {
                return Err(LoadError::Mismatch {
                    file: "config.json".to_owned(),
                    problem: format!("stage {index} cannot take images of [{channels}, {height}, {width}]"),
                });
            };
            let geometry = Geometry { rows, columns, channels: size };
            let downsample = (index > 0).then(|| source.downsample(&place, before, size)).transpose()?;
            let blocks = (0..depth).map(|block| source.block(&format!("{place}.layers.{block}"), geometry));
            stages.push(Stage {
                downsample,
                geometry,
                blocks: blocks.collect::<Result<_, _>>()?,
                group: (GROUP_BYTES / (4 * hidden)).clamp(1, CHUNK),
            });
            before = size;
        }
        let first = config.hidden_sizes[0];
        let embeddings = "convnextv2.embeddings";
        Ok(Network {
            kernel,
            image: [channels, height, width],
            patch,
            stem: source.linear(&format!("{embeddings}.patch_embeddings"), &[first, channels, patch, patch])?,
            stem_norm: source.norm(&format!("{embeddings}.layernorm"), first, EPSILON)?,
            stages,
            norm: source.norm("convnextv2.layernorm", before, config.layer_norm_eps)?,
            classifier: source.linear("classifier", &[config.class_count(), before])?,
            parameters: weights.used(),
        })
    }

    /// Channels, height and width of an image.
    pub(crate) fn image_shape(&self) -> [usize; 3] {
        self.image
    }

    /// Values of an image.
    pub(crate) fn image_len(&self) -> usize {
        self.image.iter().product()
    }

    pub(crate) fn class_count(&self) -> usize {
        self.classifier.outputs()
    }

    pub(crate) fn description(&self) -> String {
        let [_, height, width] = self.image;
        let depths: Vec<String> = self.stages.iter().map(|stage| stage.blocks.len().to_string()).collect();
        let channels: Vec<String> = self.stages.iter().map(|stage| stage.geometry.channels.to_string()).collect();
        format!(
            "ConvNeXt V2 of depths {} and channels {}, {} parameters, images of {height} by {width}, {} kernel, one thread",
            depths.join("-"),
            channels.join("-"),
            self.parameters,
            self.kernel.name(),
        )
    }

    /// The logits of any number of images.
    pub(crate) fn forward(&self, pixels: &[f32], scratch: &mut Scratch, logits: &mut [f32]) {
        let images = pixels.chunks(CHUNK * self.image_len());
        for (pixels, logits) in images.zip(logits.chunks_mut(CHUNK * self.class_count())) {
            self.forward_chunk(pixels, scratch, logits);
        }
    }

    fn forward_chunk(&self, pixels: &[f32], scratch: &mut Scratch, logits: &mut [f32]) {
        let mut current = std::mem::take(&mut scratch.current);
        let mut next = std::mem::take(&mut scratch.next);
        for (index, stage) in self.stages.iter().enumerate() {
            let before = index.checked_sub(1).map(|before| self.stages[before].geometry);
            let images = match before {
                None => pixels.chunks_exact(self.image_len()),
                Some(before) => current.chunks_exact(before.len()),
            };
            grow(&mut next, images.len() * stage.geometry.len());
            let outputs = next.chunks_exact_mut(stage.geometry.len());
            for (image, output) in images.zip(outputs) {
                match (&stage.downsample, before) {
                    (Some(downsample), Some(before)) => {
                        downsample.run(self.kernel, image, before, scratch, output);
                    }
                    _ => self.embed(image, stage.geometry, scratch, output),
                }
            }
            for images in next.chunks_mut(stage.group * stage.geometry.len()) {
                for block in &stage.blocks {
                    block.run(self.kernel, images, scratch);
                }
            }
            std::mem::swap(&mut current, &mut next);
        }
        self.classify(&current, scratch, logits);
        (scratch.current, scratch.next) = (current, next);
    }

    /// The first layer: patches of pixels to channels.
    fn embed(&self, image: &[f32], geometry: Geometry, scratch: &mut Scratch, output: &mut [f32]) {
        let ([channels, height, width], patch) = (self.image, self.patch);
        let patch_len = channels * patch * patch;
        grow(&mut scratch.patches, geometry.pixels() * patch_len);
        for (channel, plane) in image.chunks_exact(height * width).enumerate() {
            for row in 0..geometry.rows {
                for line in 0..patch {
                    let source = &plane[(row * patch + line) * width..][..geometry.columns * patch];
                    let start = row * geometry.columns * patch_len + (channel * patch + line) * patch;
                    let targets = scratch.patches[start..].chunks_mut(patch_len);
                    for (target, pixels) in targets.zip(source.chunks_exact(patch)) {
                        target[..patch].copy_from_slice(pixels);
                    }
                }
            }
        }
        self.stem.run(self.kernel, &scratch.patches, Store::Bias, output);
        self.stem_norm.run(self.kernel, output);
    }

    /// The last layers: the mean of all pixels, its norm, and the classes.
    fn classify(&self, features: &[f32], scratch: &mut Scratch, logits: &mut [f32]) {
        let Some(geometry) = self.stages.last().map(|stage| stage.geometry) else { return };
        let images = features.len() / geometry.len();
        grow(&mut scratch.normed, images * geometry.channels);
        scratch.normed.fill(0.0);
        let means = scratch.normed.chunks_exact_mut(geometry.channels);
        for (image, mean) in features.chunks_exact(geometry.len()).zip(means) {
            for pixel in image.chunks_exact(geometry.channels) {
                mean.iter_mut().zip(pixel).for_each(|(mean, value)| *mean += value);
            }
            let scale = 1.0 / count(geometry.pixels());
            mean.iter_mut().for_each(|mean| *mean *= scale);
        }
        self.norm.run(self.kernel, &mut scratch.normed);
        self.classifier.run(self.kernel, &scratch.normed, Store::Bias, logits);
    }
}

/// Makes a buffer so long, and no longer; what it holds is to be overwritten.
pub(crate) fn grow(buffer: &mut Vec<f32>, len: usize) {
    buffer.resize(len, 0.0);
}

#[expect(clippy::cast_precision_loss, reason = "pixels and channels are far fewer than 2^24")]
pub(crate) fn count(number: usize) -> f32 {
    number as f32
}

/// Weights by name, laid out for the kernels.
struct Source<'w> {
    weights: &'w Weights<'w>,
    kernel: Kernel,
}

// === impl Source ===

impl Source<'_> {
    fn norm(&self, name: &str, channels: usize, epsilon: f32) -> Result<Norm, LoadError> {
        Ok(Norm {
            weight: self.weights.tensor(&format!("{name}.weight"), &[channels])?,
            bias: self.weights.tensor(&format!("{name}.bias"), &[channels])?,
            epsilon,
        })
    }

    /// A product with weights `[outputs, ...]` whose other dimensions are its inputs, in the order they are stored.
    fn linear(&self, name: &str, shape: &[usize]) -> Result<Linear, LoadError> {
        let weight = self.weights.tensor(&format!("{name}.weight"), shape)?;
        let bias = self.weights.tensor(&format!("{name}.bias"), &shape[..1])?;
        let outputs = shape[0];
        let inputs = weight.len() / outputs;
        let transposed = transpose(&weight, outputs, inputs);
        Ok(Linear::new(self.kernel, &transposed, inputs, bias))
    }

    fn downsample(&self, place: &str, inputs: usize, outputs: usize) -> Result<Downsample, LoadError> {
        let layer = format!("{place}.downsampling_layer");
        let weight = self.weights.tensor(&format!("{layer}.1.weight"), &[outputs, inputs, 2, 2])?;
        let bias = self.weights.tensor(&format!("{layer}.1.bias"), &[outputs])?;
        // From output, channel, pixel to pixel, channel, output: a patch is four pixels of all channels.
        let mut transposed = vec![0.0; weight.len()];
        for (output, weights) in weight.chunks_exact(inputs * 4).enumerate() {
            for (channel, pixels) in weights.as_chunks::<4>().0.iter().enumerate() {
                for (pixel, value) in pixels.iter().enumerate() {
                    transposed[(pixel * inputs + channel) * outputs + output] = *value;
                }
            }
        }
        Ok(Downsample {
            norm: self.norm(&format!("{layer}.0"), inputs, EPSILON)?,
            reduce: Linear::new(self.kernel, &transposed, inputs * 4, bias),
        })
    }

    fn block(&self, place: &str, geometry: Geometry) -> Result<Block, LoadError> {
        let channels = geometry.channels;
        let hidden = 4 * channels;
        let tensor = |name: &str, shape: &[usize]| self.weights.tensor(&format!("{place}.{name}"), shape);
        let depthwise = tensor("dwconv.weight", &[channels, 1, 7, 7])?;
        let response = tensor("grn.weight", &[1, 1, 1, hidden])?;
        let shift = tensor("grn.bias", &[1, 1, 1, hidden])?;
        let contract = transpose(&tensor("pwconv2.weight", &[channels, hidden])?, channels, hidden);
        // What the response norm adds to every pixel goes through the product once, here.
        let mut bias = tensor("pwconv2.bias", &[channels])?;
        for (shift, weights) in shift.iter().zip(contract.chunks_exact(channels)) {
            bias.iter_mut().zip(weights).for_each(|(bias, weight)| *bias += shift * weight);
        }
        let expand = self.linear(&format!("{place}.pwconv1"), &[hidden, channels])?;
        let norm = self.norm(&format!("{place}.layernorm"), channels, EPSILON)?;
        Ok(Block::new(
            geometry,
            &transpose(&depthwise, channels, 49),
            &tensor("dwconv.bias", &[channels])?,
            norm,
            expand,
            response,
            Linear::new(self.kernel, &contract, hidden, bias),
        ))
    }
}

fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut transposed = vec![0.0; values.len()];
    for (row, values) in values.chunks_exact(columns).enumerate() {
        for (column, value) in values.iter().enumerate() {
            transposed[column * rows + row] = *value;
        }
    }
    transposed
}
