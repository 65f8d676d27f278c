//! XGBoost's own library through its C interface, found at run time.

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fmt, ptr,
};

use libloading::Library;

type Handle = *mut c_void;
type GetLastError = unsafe extern "C" fn() -> *const c_char;
type Create = unsafe extern "C" fn(*const Handle, u64, *mut Handle) -> c_int;
type Free = unsafe extern "C" fn(Handle) -> c_int;
type SetParam = unsafe extern "C" fn(Handle, *const c_char, *const c_char) -> c_int;
type LoadModel = unsafe extern "C" fn(Handle, *const c_char) -> c_int;
type PredictFromDense = unsafe extern "C" fn(
    Handle,
    *const c_char,
    *const c_char,
    Handle,
    *mut *const u64,
    *mut u64,
    *mut *const f32,
) -> c_int;

/// A booster of XGBoost, on one thread, answering rows where they lie (`inplace_predict`).
pub struct Xgboost {
    library: Library,
    booster: Handle,
    predict: PredictFromDense,
    config: CString,
}

/// What went wrong.
#[derive(Debug)]
pub struct XgboostError(String);

// === impl Xgboost ===

impl Xgboost {
    /// Loads a model with the library at `library`, such as `xgboost/lib/libxgboost.so` of a Python environment.
    ///
    /// # Errors
    ///
    /// [`XgboostError`] when the library or the model cannot be loaded.
    pub fn load(library: &str, model: &str) -> Result<Xgboost, XgboostError> {
        let path = CString::new(model).map_err(|error| XgboostError(error.to_string()))?;
        // SAFETY: the caller names XGBoost's library, whose functions have had these types since 1.6;
        // `booster` is made by `create` before anything else is called with it.
        unsafe {
            let library = Library::new(library).map_err(|error| XgboostError(error.to_string()))?;
            let create: Create = symbol(&library, c"XGBoosterCreate")?;
            let set_param: SetParam = symbol(&library, c"XGBoosterSetParam")?;
            let load_model: LoadModel = symbol(&library, c"XGBoosterLoadModel")?;
            let predict: PredictFromDense = symbol(&library, c"XGBoosterPredictFromDense")?;
            let mut booster = ptr::null_mut();
            check(&library, create(ptr::null(), 0, &mut booster))?;
            let config = c"{\"type\":0,\"training\":false,\"iteration_begin\":0,\"iteration_end\":0,\
                \"strict_shape\":false,\"missing\":NaN,\"cache_id\":0}";
            let xgboost = Xgboost { library, booster, predict, config: config.to_owned() };
            check(&xgboost.library, load_model(booster, path.as_ptr()))?;
            check(&xgboost.library, set_param(booster, c"nthread".as_ptr(), c"1".as_ptr()))?;
            Ok(xgboost)
        }
    }

    /// Predictions of rows of `columns` values each, valid until the next call.
    ///
    /// # Errors
    ///
    /// [`XgboostError`] with what the library said.
    pub fn predict(&mut self, rows: &[f32], columns: usize) -> Result<&[f32], XgboostError> {
        let count = rows.len() / columns;
        let address = rows.as_ptr().addr();
        let array = format!(r#"{{"data":[{address},true],"shape":[{count},{columns}],"typestr":"<f4","version":3}}"#);
        let array = CString::new(array).map_err(|error| XgboostError(error.to_string()))?;
        let (mut shape, mut dimensions, mut values) = (ptr::null(), 0, ptr::null());
        // SAFETY: the booster is loaded, `array` tells the address and the size of `rows`, which outlive the call.
        unsafe {
            let status = (self.predict)(
                self.booster,
                array.as_ptr(),
                self.config.as_ptr(),
                ptr::null_mut(),
                &mut shape,
                &mut dimensions,
                &mut values,
            );
            check(&self.library, status)?;
        }
        // SAFETY: the library answers an array of the shape it tells, and keeps it until the next call.
        unsafe {
            let shape = std::slice::from_raw_parts(shape, usize::try_from(dimensions).unwrap_or(0));
            let length = shape.iter().product::<u64>();
            Ok(std::slice::from_raw_parts(values, usize::try_from(length).unwrap_or(0)))
        }
    }
}

impl Drop for Xgboost {
    fn drop(&mut self) {
        // SAFETY: the booster was made by this library and is used no more.
        unsafe {
            if let Ok(free) = symbol::<Free>(&self.library, c"XGBoosterFree") {
                free(self.booster);
            }
        }
    }
}

// === impl XgboostError ===

impl fmt::Display for XgboostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XGBoost failed: {}", self.0)
    }
}

impl std::error::Error for XgboostError {}

/// # Safety
///
/// `T` is the type of the function of that name.
unsafe fn symbol<T: Copy>(library: &Library, name: &CStr) -> Result<T, XgboostError> {
    // SAFETY: as promised by the caller.
    let symbol = unsafe { library.get::<T>(name.to_bytes_with_nul()) };
    Ok(*symbol.map_err(|error| XgboostError(error.to_string()))?)
}

/// # Safety
///
/// The library is XGBoost's.
unsafe fn check(library: &Library, status: c_int) -> Result<(), XgboostError> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: as promised by the caller; the text is the library's and ends with a zero.
    let message = unsafe {
        let last: GetLastError = symbol(library, c"XGBGetLastError")?;
        CStr::from_ptr(last())
    };
    Err(XgboostError(message.to_string_lossy().lines().next().unwrap_or_default().to_owned()))
}
