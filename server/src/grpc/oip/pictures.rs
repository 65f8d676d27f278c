//! The input of a model of pictures: its own tensor, or files as BYTES. All rows of a request are of one kind.

use bytes::Bytes;
use ev_models_core::DataType;
use ev_proto::inference::{ModelInferRequest, model_infer_request::InferInputTensor};

use super::{
    contents::{self, Values},
    tensors::{self, Columns, Place},
};
use crate::pipeline::{Picture, Plan, PredictError, Violation};

/// The pictures of a request, one a row. What lies in one piece in the request is not copied;
/// typed numbers are, once.
///
/// # Errors
///
/// As [`Columns::decode`].
pub(super) fn decode(plan: &Plan, request: &ModelInferRequest, rows_max: usize) -> Result<Vec<Picture>, PredictError> {
    match request.inputs.as_slice() {
        [tensor] if tensor.datatype == DataType::Bytes.name() && plan.input(&tensor.name).is_some() => {
            files(plan, request, tensor, rows_max)
        }
        _ => numbers(plan, request, rows_max),
    }
}

fn numbers(plan: &Plan, request: &ModelInferRequest, rows_max: usize) -> Result<Vec<Picture>, PredictError> {
    if let [tensor] = request.inputs.as_slice()
        && tensor.datatype != DataType::Fp32.name()
        && plan.input(&tensor.name).is_some()
    {
        let found = tensors::clipped(&tensor.datatype);
        let description = format!("is `{found}`, expected FP32, or BYTES for the files of pictures");
        return Err(PredictError::Invalid(vec![tensors::about(tensor, ".datatype", "WRONG_KIND", description)]));
    }
    let columns = Columns::decode(plan, request, rows_max)?;
    let rows = 0..columns.rows();
    Ok(match (columns.only(), request.raw_input_contents.first()) {
        (Some(Values::RawVectors(_, size)), Some(bytes)) => {
            rows.map(|row| Picture::RawTensor(bytes.slice(row * size..(row + 1) * size))).collect()
        }
        (Some(Values::Vectors(numbers, width)), _) => {
            rows.map(|row| Picture::Tensor(numbers[row * width..(row + 1) * width].into())).collect()
        }
        // The one input is a vector, and required.
        _ => return Err(PredictError::EmptyBatch),
    })
}

fn files(
    plan: &Plan,
    request: &ModelInferRequest,
    tensor: &InferInputTensor,
    rows_max: usize,
) -> Result<Vec<Picture>, PredictError> {
    let rows = tensors::first_rows(plan, &request.inputs, rows_max)?;
    let raw = tensors::raw(request)?;
    let place = Place { tensor, entry: 0, raw: raw.first().map(|bytes| &bytes[..]) };
    let refused = |violation: Violation| PredictError::Invalid(vec![violation]);
    let input = &plan.inputs[0];
    if !matches!(tensor.shape[..], [_] | [_, 1]) {
        let description =
            format!("is {}, expected [{rows}] or [{rows}, 1] for BYTES: a file a row", tensors::shown(&tensor.shape));
        return Err(refused(tensors::about(tensor, ".shape", "WRONG_SHAPE", description)));
    }
    let contents = place.contents().map_err(refused)?;
    let files: Vec<Bytes> = match (contents, raw.first()) {
        (None, Some(bytes)) => {
            let values = contents::raw_values(input, bytes, rows, 0).map_err(refused)?;
            values.into_iter().map(|value| bytes.slice_ref(value)).collect()
        }
        (Some(contents), _) => contents::files(input, contents, rows).map_err(refused)?.to_vec(),
        // One of the two is there.
        (None, None) => return Err(PredictError::EmptyBatch),
    };
    Ok(files.into_iter().map(Picture::File).collect())
}
