//! A loaded network and its instances.

use std::sync::Arc;

use ev_models_core::{HeadSignature, Instance, LoadError, Model, RunError, Tensor, Tensors};

use crate::network::{Network, Scratch};

/// A network, shared by its instances.
pub(crate) struct CandleModel {
    signature: HeadSignature,
    network: Arc<Network>,
}

struct CandleInstance {
    network: Arc<Network>,
    scratch: Scratch,
    answer: Tensors,
}

// === impl CandleModel ===

impl CandleModel {
    pub(crate) fn new(network: Network) -> CandleModel {
        let signature = HeadSignature {
            columns: network.image_len(),
            outputs: network.class_count(),
            description: network.description(),
        };
        CandleModel { signature, network: Arc::new(network) }
    }
}

impl Model for CandleModel {
    fn signature(&self) -> &HeadSignature {
        &self.signature
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
        let empty = || Tensor::f32([0, self.signature.outputs], Vec::new());
        Ok(Box::new(CandleInstance {
            network: Arc::clone(&self.network),
            scratch: Scratch::default(),
            answer: Tensors::from(vec![empty(), empty()]),
        }))
    }
}

// === impl CandleInstance ===

impl Instance for CandleInstance {
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
        let (rows, pixels) = images(batch, &self.network)?;
        let logits = self.answer[0].reset_f32(rows, self.network.class_count());
        self.network.forward(pixels, &mut self.scratch, logits);
        let [margin, prediction] = &mut *self.answer else { unreachable!("made with two tensors") };
        prediction.clone_from(margin);
        Ok(&self.answer)
    }
}

/// The images of a batch: their number and pixels.
fn images<'b>(batch: &'b Tensors, network: &Network) -> Result<(usize, &'b [f32]), RunError> {
    if let [tensor] = &**batch
        && let Some(pixels) = tensor.as_f32()
        && tensor.rows().checked_mul(network.image_len()) == Some(pixels.len())
        && (tensor.shape.len() == 2 || tensor.shape.get(1..) == Some(&network.image_shape()[..]))
    {
        return Ok((tensor.rows(), pixels));
    }
    let tensors = batch.iter().map(|tensor| format!("{}{:?}", tensor.data.datatype().name(), tensor.shape));
    let [channels, height, width] = network.image_shape();
    Err(RunError::Shape {
        found: tensors.collect::<Vec<_>>().join(" and "),
        expected: format!("FP32[rows, {channels}, {height}, {width}]"),
    })
}
