//! Writes a ConvNeXt V2 checkpoint as the ONNX graph that an exporter makes of it.

use super::{
    checkpoint::{Checkpoint, Size},
    onnx::{ANY, Attribute, FLOAT, Graph},
};

/// How the products of a block are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Channels last, as matrix products: what PyTorch exports of Hugging Face's model.
    Products,
    /// Channels first, as convolutions of one pixel: what it exports of timm's.
    Convolutions,
}

/// The graph's file.
pub(crate) fn export(checkpoint: &Checkpoint, size: Size, layout: Layout) -> Vec<u8> {
    let mut exporter = Exporter { checkpoint, graph: Graph::new(), layout };
    let image = i64::try_from(size.image).expect("small");
    let pixels = exporter.graph.input("pixel_values", FLOAT, &[ANY, 3, image, image]);
    let x = exporter.convolution(&pixels, "convnextv2.embeddings.patch_embeddings", 4, 4, 0, 1);
    let mut x = exporter.norm_of_channels(&x, "convnextv2.embeddings.layernorm");
    for (index, (&depth, &channels)) in size.depths.iter().zip(size.channels).enumerate() {
        let place = format!("convnextv2.encoder.stages.{index}");
        if index > 0 {
            x = exporter.norm_of_channels(&x, &format!("{place}.downsampling_layer.0"));
            x = exporter.convolution(&x, &format!("{place}.downsampling_layer.1"), 2, 2, 0, 1);
        }
        for block in 0..depth {
            x = exporter.block(&x, &format!("{place}.layers.{block}"), channels);
        }
    }
    let axes = exporter.graph.integers("spatial", &[2, 3]);
    let x = exporter.graph.node("ReduceMean", &[&x, &axes], vec![Attribute::int("keepdims", 0)]);
    let x = exporter.norm(&x, "convnextv2.layernorm", 1e-12);
    let (weight, bias) = exporter.weight_and_bias("classifier");
    let x = exporter.graph.node("Gemm", &[&x, &weight, &bias], vec![Attribute::int("transB", 1)]);
    exporter.graph.output("logits", &x, FLOAT, &[ANY, i64::try_from(size.classes).expect("small")]);
    exporter.graph.into_bytes()
}

struct Exporter<'c> {
    checkpoint: &'c Checkpoint,
    graph: Graph,
    layout: Layout,
}

// === impl Exporter ===

impl Exporter<'_> {
    fn weight(&mut self, name: &str) -> String {
        let tensor = &self.checkpoint.tensors[name];
        self.graph.weight(name, &tensor.shape, &tensor.values)
    }

    fn weight_and_bias(&mut self, name: &str) -> (String, String) {
        (self.weight(&format!("{name}.weight")), self.weight(&format!("{name}.bias")))
    }

    fn convolution(&mut self, x: &str, name: &str, size: i64, stride: i64, pad: i64, groups: usize) -> String {
        let (weight, bias) = self.weight_and_bias(name);
        let attributes = vec![
            Attribute::ints("kernel_shape", &[size; 2]),
            Attribute::ints("strides", &[stride; 2]),
            Attribute::ints("pads", &[pad; 4]),
            Attribute::int("group", i64::try_from(groups).expect("small")),
        ];
        self.graph.node("Conv", &[x, &weight, &bias], attributes)
    }

    fn norm(&mut self, x: &str, name: &str, epsilon: f32) -> String {
        let (weight, bias) = self.weight_and_bias(name);
        let attributes = vec![Attribute::int("axis", -1), Attribute::float("epsilon", epsilon)];
        self.graph.node("LayerNormalization", &[x, &weight, &bias], attributes)
    }

    fn channels_last(&mut self, x: &str) -> String {
        self.graph.node("Transpose", &[x], vec![Attribute::ints("perm", &[0, 2, 3, 1])])
    }

    fn channels_first(&mut self, x: &str) -> String {
        self.graph.node("Transpose", &[x], vec![Attribute::ints("perm", &[0, 3, 1, 2])])
    }

    fn norm_of_channels(&mut self, x: &str, name: &str) -> String {
        let x = self.channels_last(x);
        let x = self.norm(&x, name, 1e-6);
        self.channels_first(&x)
    }

    fn block(&mut self, x: &str, place: &str, channels: usize) -> String {
        let y = self.convolution(x, &format!("{place}.dwconv"), 7, 1, 3, channels);
        let y = self.channels_last(&y);
        let y = self.norm(&y, &format!("{place}.layernorm"), 1e-6);
        let y = match self.layout {
            Layout::Products => {
                let y = self.product(&y, &format!("{place}.pwconv1"));
                let y = self.graph.node("Gelu", &[&y], vec![]);
                let y = self.response(&y, &format!("{place}.grn"), [1, 2], 3, &[1, 1, 1, 4 * channels]);
                let y = self.product(&y, &format!("{place}.pwconv2"));
                self.channels_first(&y)
            }
            Layout::Convolutions => {
                let y = self.channels_first(&y);
                let y = self.pointwise(&y, &format!("{place}.pwconv1"));
                let y = self.graph.node("Gelu", &[&y], vec![]);
                let y = self.response(&y, &format!("{place}.grn"), [2, 3], 1, &[1, 4 * channels, 1, 1]);
                self.pointwise(&y, &format!("{place}.pwconv2"))
            }
        };
        self.graph.node("Add", &[x, &y], vec![])
    }

    /// A product with `[outputs, inputs]`, which ONNX takes the other way round.
    fn product(&mut self, x: &str, name: &str) -> String {
        let tensor = &self.checkpoint.tensors[&format!("{name}.weight")];
        let [outputs, inputs] = tensor.shape[..] else { unreachable!("a matrix") };
        let transposed: Vec<f32> =
            (0..inputs * outputs).map(|place| tensor.values[place % outputs * inputs + place / outputs]).collect();
        let weight = self.graph.weight(&format!("{name}.weight.transposed"), &[inputs, outputs], &transposed);
        let bias = self.weight(&format!("{name}.bias"));
        let y = self.graph.node("MatMul", &[x, &weight], vec![]);
        self.graph.node("Add", &[&y, &bias], vec![])
    }

    fn pointwise(&mut self, x: &str, name: &str) -> String {
        let tensor = &self.checkpoint.tensors[&format!("{name}.weight")];
        let shape = [tensor.shape[0], tensor.shape[1], 1, 1];
        let weight = self.graph.weight(&format!("{name}.weight"), &shape, &tensor.values);
        let bias = self.weight(&format!("{name}.bias"));
        self.graph.node("Conv", &[x, &weight, &bias], vec![Attribute::ints("kernel_shape", &[1, 1])])
    }

    fn response(&mut self, x: &str, name: &str, pixels: [i64; 2], channel: i64, shape: &[usize]) -> String {
        let pixels = self.graph.integers(&format!("{name}.pixels"), &pixels);
        let channel = self.graph.integers(&format!("{name}.channel"), &[channel]);
        let tensors = &self.checkpoint.tensors;
        let weight = self.graph.weight(&format!("{name}.weight"), shape, &tensors[&format!("{name}.weight")].values);
        let bias = self.graph.weight(&format!("{name}.bias"), shape, &tensors[&format!("{name}.bias")].values);
        let least = self.graph.weight(&format!("{name}.least"), &[], &[1e-6]);
        let norms = self.graph.node("ReduceL2", &[x, &pixels], vec![Attribute::int("keepdims", 1)]);
        let mean = self.graph.node("ReduceMean", &[&norms, &channel], vec![Attribute::int("keepdims", 1)]);
        let mean = self.graph.node("Add", &[&mean, &least], vec![]);
        let norms = self.graph.node("Div", &[&norms, &mean], vec![]);
        let y = self.graph.node("Mul", &[x, &norms], vec![]);
        let y = self.graph.node("Mul", &[&y, &weight], vec![]);
        let y = self.graph.node("Add", &[&y, &bias], vec![]);
        self.graph.node("Add", &[x, &y], vec![])
    }
}
