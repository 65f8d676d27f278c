//! The library, safely: the only unsafe code of the crate.

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_int},
    ptr, slice,
};

use xgboost_rs_sys as sys;

/// A loaded booster. It is never shared: the library's predictions write to it.
pub(crate) struct Booster(sys::BoosterHandle);

/// Rows in the library's form.
struct Matrix(sys::DMatrixHandle);

/// What to predict.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// What `predict` gives.
    Prediction,
    /// The raw score.
    Margin,
}

// SAFETY: the library ties a booster to no thread; `&mut self` keeps two from using it at once.
unsafe impl Send for Booster {}

// === impl Booster ===

impl Booster {
    /// Loads a model from JSON text that [`crate::document`] wrote.
    pub(crate) fn load(text: &[u8]) -> Result<Booster, String> {
        let mut handle = ptr::null_mut();
        // SAFETY: no matrices are given, and the handle is written before it is used.
        check(unsafe { sys::XGBoosterCreate(ptr::null(), 0, &mut handle) })?;
        let booster = Booster(handle);
        // SAFETY: the booster exists; the buffer is read during the call, up to its length; the texts end with a zero.
        unsafe {
            check(sys::XGBoosterLoadModelFromBuffer(booster.0, text.as_ptr().cast(), text.len() as u64))?;
            check(sys::XGBoosterSetParam(booster.0, c"nthread".as_ptr(), c"1".as_ptr()))?;
        }
        Ok(booster)
    }

    /// Predicts rows of `columns` values each into `answers`, NaN being missing.
    pub(crate) fn predict(
        &mut self,
        rows: &[f32],
        columns: usize,
        kind: Kind,
        answers: &mut Vec<f32>,
    ) -> Result<(), String> {
        let matrix = Matrix::new(rows, columns)?;
        let kind = match kind {
            Kind::Prediction => 0,
            Kind::Margin => 1,
        };
        let config =
            format!(r#"{{"type":{kind},"training":false,"iteration_begin":0,"iteration_end":0,"strict_shape":false}}"#);
        let config = CString::new(config).map_err(|error| error.to_string())?;
        let (mut shape, mut dimensions, mut values) = (ptr::null(), 0, ptr::null());
        // SAFETY: booster and matrix exist; the text ends with a zero; the results are written before they are used.
        check(unsafe {
            sys::XGBoosterPredictFromDMatrix(
                self.0,
                matrix.0,
                config.as_ptr(),
                &mut shape,
                &mut dimensions,
                &mut values,
            )
        })?;
        // SAFETY: the library gives as many values as the shape says, and keeps both until its next call.
        let values = unsafe {
            let shape = slice::from_raw_parts(shape, usize::try_from(dimensions).unwrap_or(0));
            slice::from_raw_parts(values, usize::try_from(shape.iter().product::<u64>()).unwrap_or(0))
        };
        answers.clear();
        answers.extend_from_slice(values);
        Ok(())
    }
}

impl Drop for Booster {
    fn drop(&mut self) {
        // SAFETY: the booster exists and is used no more.
        unsafe { sys::XGBoosterFree(self.0) };
    }
}

// === impl Matrix ===

impl Matrix {
    fn new(rows: &[f32], columns: usize) -> Result<Matrix, String> {
        let count = (rows.len() / columns) as u64;
        let mut handle = ptr::null_mut();
        // SAFETY: `rows` holds that many values, which the library copies during the call.
        check(unsafe { sys::XGDMatrixCreateFromMat(rows.as_ptr(), count, columns as u64, f32::NAN, &mut handle) })?;
        Ok(Matrix(handle))
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        // SAFETY: the matrix exists and is used no more.
        unsafe { sys::XGDMatrixFree(self.0) };
    }
}

fn check(status: c_int) -> Result<(), String> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the library gives a text that ends with a zero, kept for this thread until its next error.
    let message = unsafe { CStr::from_ptr(sys::XGBGetLastError()) }.to_string_lossy();
    Err(message.lines().next().unwrap_or_default().to_owned())
}
