//! A loaded graph and its instances.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use ev_models_core::{HeadSignature, Instance, LoadError, LoadOptions, Model, RunError, Tensor, Tensors};
use ort::{
    environment::Environment,
    session::{
        HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue,
        builder::{GraphOptimizationLevel, PrepackedWeights, SessionBuilder},
    },
    value::{DynValue, TensorRef},
};

use crate::{
    NAME,
    document::{Document, Weight},
    fit::{Element, Fit, GraphInput},
    library,
};

/// A graph, and what its instances share.
pub(crate) struct OrtModel {
    signature: HeadSignature,
    fit: Arc<Fit>,
    bytes: Vec<u8>,
    shared: Shared,
    /// What the model was tried with, for the first who asks: building a session takes tens of milliseconds.
    tried: Mutex<Option<OrtInstance>>,
}

/// What the sessions of a model have in common.
pub(crate) struct Shared {
    environment: Environment,
    /// The float weights by name; the library takes these instead of reading its own from the file.
    weights: Vec<(String, Arc<DynValue>)>,
    /// The same weights as the library packs them for its kernels.
    packed: PrepackedWeights,
    node_count: usize,
}

struct OrtInstance {
    session: Session,
    fit: Arc<Fit>,
    options: RunOptions<HasSelectedOutputs>,
    outputs: usize,
    scratch: Vec<Scratch>,
    answer: Tensors,
}

/// An input's values in the type and order the graph takes them, where they do not lie so already.
enum Scratch {
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Uint8(Vec<u8>),
    Bool(Vec<bool>),
}

// === impl OrtModel ===

impl OrtModel {
    /// A model, once the library has built the graph and run two rows through it.
    pub(crate) fn new(shared: Shared, bytes: Vec<u8>, options: &LoadOptions) -> Result<OrtModel, LoadError> {
        let session = shared.commit(&bytes, &options.file)?;
        let mismatch = |problem| LoadError::Mismatch { file: options.file.clone(), problem };
        let fit = Arc::new(Fit::new(&session, options).map_err(mismatch)?);
        let mut tried = OrtInstance::new(session, &fit, 0)?;
        let outputs = tried.probe().map_err(mismatch)?;
        tried.outputs = outputs;
        let description = format!("ONNX, {} nodes, ONNX Runtime on one thread", shared.node_count);
        let signature = HeadSignature { columns: options.columns, outputs, description };
        Ok(OrtModel { signature, fit, bytes, shared, tried: Mutex::new(Some(tried)) })
    }
}

impl Model for OrtModel {
    fn signature(&self) -> &HeadSignature {
        &self.signature
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, LoadError> {
        if let Some(tried) = self.tried.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(Box::new(tried));
        }
        let session = self.shared.commit(&self.bytes, "the model")?;
        Ok(Box::new(OrtInstance::new(session, &self.fit, self.signature.outputs)?))
    }
}

// === impl Shared ===

impl Shared {
    /// Copies the weights out of a file, aligned as the library wants them.
    pub(crate) fn new(environment: Environment, document: Document<'_>) -> Result<Shared, LoadError> {
        let tensor = |weight: Weight<'_>| {
            let values: Vec<f32> =
                weight.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            let value = ort::value::Tensor::from_array((weight.shape, values))?;
            Ok((weight.name.to_owned(), Arc::new(value.into_dyn())))
        };
        let weights: ort::Result<_> = document.weights.into_iter().map(tensor).collect();
        Ok(Shared {
            environment,
            weights: weights.map_err(|error| library::engine(first_line(&error)))?,
            packed: PrepackedWeights::new(),
            node_count: document.node_count,
        })
    }

    /// A session of its own for one instance. The crate's author found that runs of one session at a time disturb
    /// each other, whatever the library's documentation says.
    fn commit(&self, bytes: &[u8], file: &str) -> Result<Session, LoadError> {
        let mut builder = self.builder().map_err(|error| library::engine(first_line(&error)))?;
        builder.commit_from_memory(bytes).map_err(|error| LoadError::Malformed {
            file: file.to_owned(),
            place: "the graph".to_owned(),
            problem: format!("ONNX Runtime refuses it: {}", first_line(&error)),
        })
    }

    fn builder(&self) -> ort::Result<SessionBuilder> {
        let mut builder = Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            // The caller's thread does the work: more would fight with the serving threads.
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_parallel_execution(false)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            // Batches differ in size: a plan for each size would hold the memory of all.
            .with_memory_pattern(false)?
            // Whatever the bytes look like, they are read as what was checked.
            .with_config_entry("session.load_model_format", "ONNX")?
            .with_prepacked_weights(&self.packed)?;
        for (name, value) in &self.weights {
            builder = builder.with_initializer(name, Arc::clone(value))?;
        }
        Ok(builder)
    }
}

/// The library's words may be long and of many lines.
fn first_line(error: &ort::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(400).collect()
}

// === impl OrtInstance ===

impl OrtInstance {
    fn new(session: Session, fit: &Arc<Fit>, outputs: usize) -> Result<OrtInstance, LoadError> {
        let options = RunOptions::new().map_err(|error| library::engine(error.to_string()))?;
        let empty = || Tensor::f32([0, outputs], Vec::new());
        Ok(OrtInstance {
            session,
            options: options.with_outputs(OutputSelector::no_default().with(&fit.output.name)),
            outputs,
            scratch: fit.inputs.iter().map(|input| Scratch::new(input.element)).collect(),
            answer: Tensors::from(vec![empty(), empty()]),
            fit: Arc::clone(fit),
        })
    }

    /// Runs zeros, two rows where the graph takes any number, and gives the values of a row's answer.
    fn probe(&mut self) -> Result<usize, String> {
        let rows = if self.fit.is_dynamic { 2 } else { 1 };
        let mut found = Vec::new();
        self.run_rows(&vec![0.0; rows * self.fit.columns], rows, |shape, _| found = shape.to_vec())
            .map_err(|error| format!("{rows} rows of zeros cannot be run: {error}"))?;
        let sizes: Option<Vec<usize>> = found.iter().map(|size| usize::try_from(*size).ok()).collect();
        let width = sizes.filter(|sizes| sizes.first() == Some(&rows)).map(|sizes| sizes[1..].iter().product());
        let width = width.filter(|width: &usize| (1..=OUTPUTS_MAX).contains(width));
        width.ok_or_else(|| {
            let name = &self.fit.output.name;
            format!(
                "output `{name}` has the shape {found:?} for {rows} rows, expected [{rows}, 1 to {OUTPUTS_MAX} values]"
            )
        })
    }

    /// Runs rows the graph takes at once; `answered` gets shape and values of the output.
    fn run_rows(
        &mut self,
        values: &[f32],
        rows: usize,
        mut answered: impl FnMut(&[i64], Output<'_>),
    ) -> Result<(), String> {
        let said = |error: ort::Error| first_line(&error);
        let fit = &*self.fit;
        for (scratch, input) in self.scratch.iter_mut().zip(&fit.inputs) {
            if !input.is_in_place(fit.columns) {
                scratch
                    .fill(values, fit.columns, &input.columns)
                    .map_err(|problem| format!("input `{}`: {problem}", input.name))?;
            }
        }
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(fit.inputs.len());
        for (scratch, input) in self.scratch.iter().zip(&fit.inputs) {
            let shape: Vec<usize> = std::iter::once(rows).chain(input.shape.iter().copied()).collect();
            let value = if input.is_in_place(fit.columns) {
                TensorRef::from_array_view((shape, values)).map(SessionInputValue::from)
            } else {
                scratch.tensor(shape)
            };
            inputs.push((input.name.as_str().into(), value.map_err(said)?));
        }
        let outputs = self.session.run_with_options(inputs, &self.options).map_err(said)?;
        let output = outputs.get(&fit.output.name).ok_or("the output is not there")?;
        if fit.output.is_double {
            let (shape, values) = output.try_extract_tensor::<f64>().map_err(said)?;
            answered(shape, Output::Double(values));
        } else {
            let (shape, values) = output.try_extract_tensor::<f32>().map_err(said)?;
            answered(shape, Output::Single(values));
        }
        Ok(())
    }
}

/// Values of a row's answer: far above any honest model's.
const OUTPUTS_MAX: usize = 1 << 20;

/// Values of an output.
#[derive(Clone, Copy)]
enum Output<'o> {
    Single(&'o [f32]),
    Double(&'o [f64]),
}

impl Instance for OrtInstance {
    fn run(&mut self, batch: &Tensors) -> Result<&Tensors, RunError> {
        let (rows, values) = values(batch, self.fit.columns)?;
        let width = self.outputs;
        let failed = |reason| RunError::Engine { backend: NAME, reason };
        let mut answer = std::mem::take(self.answer[0].reset_f32(0, width));
        let step = if self.fit.is_dynamic { rows.max(1) } else { 1 };
        for rows_values in values.chunks(step * self.fit.columns) {
            let rows = rows_values.len() / self.fit.columns;
            let before = answer.len();
            self.run_rows(rows_values, rows, |_, output| output.append(&mut answer)).map_err(failed)?;
            if answer.len() - before != rows * width {
                let problem = format!("it gave {} values for {rows} rows of {width}", answer.len() - before);
                return Err(failed(problem));
            }
        }
        self.answer[1].reset_f32(rows, width).copy_from_slice(&answer);
        self.answer[0] = Tensor::f32([rows, width], answer);
        Ok(&self.answer)
    }
}

/// The rows of a batch: their number and values.
fn values(batch: &Tensors, columns: usize) -> Result<(usize, &[f32]), RunError> {
    if let [tensor] = &**batch
        && let Some(values) = tensor.as_f32()
        && tensor.rows().checked_mul(columns) == Some(values.len())
        && tensor.shape.iter().product::<usize>() == values.len()
    {
        return Ok((tensor.rows(), values));
    }
    let tensors = batch.iter().map(|tensor| format!("{}{:?}", tensor.data.datatype().name(), tensor.shape));
    Err(RunError::Shape {
        found: tensors.collect::<Vec<_>>().join(" and "),
        expected: format!("FP32[rows, {columns}]"),
    })
}

// === impl GraphInput ===

impl GraphInput {
    /// Whether its values lie in a batch as the graph takes them.
    fn is_in_place(&self, columns: usize) -> bool {
        self.element == Element::Fp32 && self.columns == (0..columns)
    }
}

// === impl Output ===

impl Output<'_> {
    #[expect(clippy::cast_possible_truncation, reason = "answers are float32")]
    fn append(self, answer: &mut Vec<f32>) {
        match self {
            Output::Single(values) => answer.extend_from_slice(values),
            Output::Double(values) => answer.extend(values.iter().map(|value| *value as f32)),
        }
    }
}

// === impl Scratch ===

impl Scratch {
    fn new(element: Element) -> Scratch {
        match element {
            Element::Fp32 => Scratch::Fp32(Vec::new()),
            Element::Fp64 => Scratch::Fp64(Vec::new()),
            Element::Int32 => Scratch::Int32(Vec::new()),
            Element::Int64 => Scratch::Int64(Vec::new()),
            Element::Uint8 => Scratch::Uint8(Vec::new()),
            Element::Bool => Scratch::Bool(Vec::new()),
        }
    }

    /// Takes some columns of every row; what a type cannot hold is refused.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and in range")]
    fn fill(&mut self, values: &[f32], width: usize, columns: &Range<usize>) -> Result<(), String> {
        let chosen = || values.chunks_exact(width).flat_map(|row| &row[columns.clone()]).copied();
        match self {
            Scratch::Fp32(taken) => refill(taken, chosen().map(Ok)),
            Scratch::Fp64(taken) => refill(taken, chosen().map(|value| Ok(f64::from(value)))),
            Scratch::Int32(taken) => refill(taken, chosen().map(|value| whole(value, -I32_END, I32_END, |v| v as i32))),
            Scratch::Int64(taken) => refill(taken, chosen().map(|value| whole(value, -I64_END, I64_END, |v| v as i64))),
            Scratch::Uint8(taken) => refill(taken, chosen().map(|value| whole(value, 0.0, 256.0, |v| v as u8))),
            Scratch::Bool(taken) => refill(taken, chosen().map(|value| whole(value, 0.0, 2.0, |v| v != 0.0))),
        }
    }

    fn tensor(&self, shape: Vec<usize>) -> ort::Result<SessionInputValue<'_>> {
        Ok(match self {
            Scratch::Fp32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Scratch::Fp64(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Scratch::Int32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Scratch::Int64(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Scratch::Uint8(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Scratch::Bool(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        })
    }
}

/// First number beyond an `i32` and an `i64`, both exact as float32.
const I32_END: f32 = 2_147_483_648.0;
const I64_END: f32 = 9_223_372_036_854_775_808.0;

fn refill<T>(taken: &mut Vec<T>, values: impl Iterator<Item = Result<T, String>>) -> Result<(), String> {
    taken.clear();
    for value in values {
        taken.push(value?);
    }
    Ok(())
}

fn whole<T>(value: f32, from: f32, end: f32, narrow: impl Fn(f32) -> T) -> Result<T, String> {
    if value.trunc() == value && (from..end).contains(&value) {
        return Ok(narrow(value));
    }
    Err(if value.is_nan() {
        "a value is missing, and whole numbers have none for that".to_owned()
    } else {
        format!("{value} is not a whole number from {from} to below {end}")
    })
}
