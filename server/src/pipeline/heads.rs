//! All heads of a version as one model, so that one queue serves them: rows of different bodies share a batch.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ev_models_core::{HeadSignature, Instance, LoadError, Model, RunError, Tensor, TensorData, Tensors};

/// The loaded models of one body.
#[derive(Clone)]
pub(crate) struct BodyModels {
    pub(crate) point: Arc<dyn Model>,
    pub(crate) spread: Option<Arc<dyn Model>>,
}

/// The instances of one body.
pub(crate) struct BodyInstances {
    pub(crate) point: Box<dyn Instance>,
    pub(crate) spread: Option<Box<dyn Instance>>,
}

/// Every body's heads. A batch is `[rows, columns]` of float32 and, where there are several bodies, `[rows]` of int32
/// saying which; the answer is margin and prediction `[rows, outputs]` and, where there are spread heads, `[rows]`.
pub(crate) struct HeadsModel {
    signature: HeadSignature,
    bodies: Vec<BodyModels>,
    /// Instances that were made before, for those who ask first: an engine may take its time for new ones.
    ready: Mutex<Vec<Box<dyn Instance>>>,
}

struct HeadsInstance {
    bodies: Vec<BodyInstances>,
    outputs: usize,
    has_spread: bool,
    /// Rows of one body, where a batch has rows of several.
    part: Tensors,
    answer: Tensors,
}

// === impl BodyModels ===

impl BodyModels {
    /// Makes an instance of every head.
    ///
    /// # Errors
    ///
    /// [`LoadError`] of the engine.
    pub(crate) fn instantiate(&self) -> Result<BodyInstances, LoadError> {
        let spread = self.spread.as_ref().map(|model| model.instantiate()).transpose()?;
        Ok(BodyInstances { point: self.point.instantiate()?, spread })
    }
}

// === impl BodyInstances ===

impl BodyInstances {
    /// Runs once for nobody: the first run of an instance allocates what all others reuse.
    fn warm_up(&mut self, row: &Tensors) {
        for head in std::iter::once(&mut self.point).chain(&mut self.spread) {
            // Golden requests have been reproduced; a model that does not like this row says so to who sends one.
            let _ = head.run(row);
        }
    }
}

// === impl HeadsModel ===

impl HeadsModel {
    pub(crate) fn new(columns: usize, outputs: usize, bodies: Vec<BodyModels>) -> HeadsModel {
        let signature = HeadSignature { columns, outputs, description: String::new() };
        HeadsModel { signature, bodies, ready: Mutex::default() }
    }

    /// Makes instances ahead, `count` in all, of which the first goes on with what has run already.
    ///
    /// # Errors
    ///
    /// [`LoadError`] of the engine.
    pub(crate) fn prepare(&self, warm: Vec<BodyInstances>, count: usize) -> Result<(), LoadError> {
        let mut ready = Vec::with_capacity(count);
        if warm.len() == self.bodies.len() && count > 0 {
            ready.push(self.instance(warm));
        }
        while ready.len() < count {
            ready.push(self.make()?);
        }
        *self.ready() = ready;
        Ok(())
    }

    fn ready(&self) -> MutexGuard<'_, Vec<Box<dyn Instance>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new instance, which has run once.
    fn make(&self) -> Result<Box<dyn Instance>, LoadError> {
        let mut bodies = self.bodies.iter().map(BodyModels::instantiate).collect::<Result<Vec<_>, _>>()?;
        let columns = self.signature.columns;
        let zeros = Tensors::from(vec![Tensor::f32([1, columns], vec![0.0; columns])]);
        bodies.iter_mut().for_each(|body| body.warm_up(&zeros));
        Ok(self.instance(bodies))
    }

    fn instance(&self, bodies: Vec<BodyInstances>) -> Box<dyn Instance> {
        let has_spread = bodies.iter().any(|body| body.spread.is_some());
        let part = Tensors::from(vec![Tensor::f32([0, 0], Vec::new())]);
        let answer = (0..2 + usize::from(has_spread)).map(|_| Tensor::f32([0, 0], Vec::new())).collect::<Vec<_>>();
        let outputs = self.signature.outputs;
        Box::new(HeadsInstance { bodies, outputs, has_spread, part, answer: Tensors::from(answer) })
    }

    /// The batch of rows that have been assembled, each with the body it is for.
    pub(super) fn batch(bodies: usize, width: usize, matrix: Vec<f32>, body_of: &[usize]) -> Tensors {
        let rows = Tensor::f32([body_of.len(), width], matrix);
        if bodies == 1 {
            return Tensors::from(vec![rows]);
        }
        let body_of = body_of.iter().map(|body| i32::try_from(*body).unwrap_or(i32::MAX)).collect::<Vec<_>>();
        Tensors::from(vec![rows, Tensor { shape: vec![body_of.len()], data: TensorData::Int32(body_of) }])
    }
}

impl Model for HeadsModel {
    fn signature(&self) -> &HeadSignature {
        &self.signature
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
        let ready = self.ready().pop();
        ready.map_or_else(|| self.make(), Ok)
    }
}

// === impl HeadsInstance ===

impl Instance for HeadsInstance {
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
        // What most models are: nothing is copied.
        if self.bodies.len() == 1 && !self.has_spread {
            return self.bodies[0].point.run(batch);
        }
        let Some(rows) = batch.first() else { return Err(unfit("a batch has no tensor")) };
        let count = rows.rows();
        for (tensor, width) in self.answer.iter_mut().zip([self.outputs, self.outputs, 1]) {
            tensor.reset_f32(count, width);
        }
        let Some(TensorData::Int32(body_of)) = batch.get(1).map(|tensor| &tensor.data) else {
            let places: Vec<usize> = (0..count).collect();
            return self.run_body(0, Some(batch), &places);
        };
        let mut members: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (row, body) in body_of.iter().enumerate() {
            members.entry(*body).or_default().push(row);
        }
        let values = rows.as_f32().ok_or_else(|| unfit("the rows are not float32"))?;
        let width = values.len() / count.max(1);
        for (body, places) in members {
            let body = usize::try_from(body).map_err(|_| unfit("a row is of no body"))?;
            let part = self.part[0].reset_f32(0, width);
            for row in &places {
                part.extend_from_slice(&values[row * width..(row + 1) * width]);
            }
            self.part[0].shape[0] = places.len();
            self.run_body(body, None, &places)?;
        }
        Ok(&self.answer)
    }
}

impl HeadsInstance {
    /// Runs one body's heads on a batch, or on the part that was made, and puts what they give in the rows' places.
    fn run_body(&mut self, body: usize, batch: Option<&Tensors>, places: &[usize]) -> Result<&Tensors, RunError> {
        let HeadsInstance { bodies, part, answer, outputs, .. } = self;
        let batch = batch.unwrap_or(part);
        let body = bodies.get_mut(body).ok_or_else(|| unfit("a row is of no body"))?;
        if let (Some(spread), Some(to)) = (&mut body.spread, answer.get_mut(2)) {
            place(spread.run(batch)?.first(), to, 1, places)?;
        }
        let point = body.point.run(batch)?;
        for (from, to) in answer.iter_mut().take(2).enumerate() {
            place(point.get(from), to, *outputs, places)?;
        }
        Ok(answer)
    }
}

/// Puts the rows of a tensor in their places of another.
fn place(from: Option<&Tensor>, to: &mut Tensor, width: usize, places: &[usize]) -> Result<(), RunError> {
    let from = from.and_then(Tensor::as_f32).filter(|values| values.len() == places.len() * width);
    let (Some(from), TensorData::Fp32(to)) = (from, &mut to.data) else {
        return Err(unfit("a head did not give a value for every row"));
    };
    for (values, row) in from.chunks_exact(width.max(1)).zip(places) {
        to[row * width..(row + 1) * width].copy_from_slice(values);
    }
    Ok(())
}

fn unfit(reason: &str) -> RunError {
    RunError::Engine { backend: "heads", reason: reason.to_owned() }
}
