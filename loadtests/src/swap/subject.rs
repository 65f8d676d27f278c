//! The model whose versions change, and how it is asked.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use ev_client::{
    ModelRegistry,
    proto::{
        ev::range::v1::PredictRequest,
        inference::{ModelInferRequest, model_infer_request::InferInputTensor},
    },
};
use tempfile::TempDir;

use super::{SwapError, refused, slower};
use crate::{Load, Picture, Scenario, cars};

/// The model whose versions change, and how it is asked.
#[derive(Debug, Clone)]
pub struct Subject {
    directory: PathBuf,
    manifest: toml::Table,
    /// Its name.
    pub model: String,
    /// What is called.
    pub scenario: Scenario,
    picture: Picture,
}

/// How a model of the task `range` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// `RangePrediction.Predict`. A client takes longer for a call than the server does.
    Unary,
    /// `RangePrediction.PredictStream`.
    Stream,
    /// `ModelInfer` of the Open Inference Protocol with so many rows: what one client can fill a server with.
    Rows(usize),
}

/// The model is not one that can be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// A file of it cannot be read or written.
    #[error("cannot read the model")]
    Unreadable(#[from] std::io::Error),
    /// Something about it is not as it should be.
    #[error("{place}: {problem}")]
    Invalid {
        /// The file.
        place: String,
        /// What is wrong.
        problem: String,
    },
}

// === impl Subject ===

impl Subject {
    /// The model in a folder with its manifest: one of the task `range`, asked as `asked` says, or one of the task
    /// `image_classification`, which is asked with its first golden picture.
    ///
    /// # Errors
    ///
    /// [`SubjectError`].
    pub fn open(directory: &Path, asked: Asked) -> Result<Subject, SubjectError> {
        let path = directory.join("manifest.toml");
        let invalid = |problem: String| SubjectError::Invalid { place: path.display().to_string(), problem };
        let manifest: toml::Table =
            fs_err::read_to_string(&path)?.parse().map_err(|error: toml::de::Error| invalid(error.to_string()))?;
        let of_model = |key: &str| {
            let found = manifest.get("model").and_then(|model| model.get(key)).and_then(toml::Value::as_str);
            found.map(str::to_owned).ok_or_else(|| invalid(format!("has no `model.{key}`")))
        };
        let (model, task) = (of_model("name")?, of_model("task")?);
        let (scenario, picture) = match task.as_str() {
            "range" => {
                let tensor = asked.rows().map(|rows| many_cars(&model, rows)).unwrap_or_default();
                (asked.scenario(), Picture { tensor, ..Picture::default() })
            }
            "image_classification" => {
                let photo = fs_err::read(directory.join(golden_picture(directory)?))?.into();
                (Scenario::Photo, Picture { photo, model: model.clone(), ..Picture::default() })
            }
            task => {
                return Err(invalid(format!("is of the task `{task}`, expected `range` or `image_classification`")));
            }
        };
        Ok(Subject { directory: directory.to_owned(), manifest, model, scenario, picture })
    }

    /// The load of its callers on a server.
    pub(super) fn load(&self, address: String) -> Load {
        Load { endpoint: address, scenario: self.scenario, picture: self.picture.clone(), ..Load::default() }
    }

    /// Registers another version that answers as the others do; gives its number.
    pub(super) async fn register(&self, registry: &ModelRegistry, note: &str) -> Result<u32, SwapError> {
        register(registry, &self.directory, self.noted(note).to_string()).await
    }

    /// Registers a version that gives the same answers in about `times` the time; gives its number. Of forests alone.
    pub(super) async fn register_slower(&self, registry: &ModelRegistry, times: usize) -> Result<u32, SwapError> {
        let directory = TempDir::new().map_err(SubjectError::from)?;
        let manifest = slower::write(&self.directory, directory.path(), self.noted("slower"), times)?;
        register(registry, directory.path(), manifest).await
    }

    fn noted(&self, note: &str) -> toml::Table {
        let mut manifest = self.manifest.clone();
        if let Some(toml::Value::Table(model)) = manifest.get_mut("model") {
            model.insert("description".to_owned(), format!("A version of a load test: {note}.").into());
        }
        manifest
    }
}

async fn register(registry: &ModelRegistry, directory: &Path, manifest: String) -> Result<u32, SwapError> {
    let registered = registry.register_files(directory, manifest, |_| ()).await;
    let registered = registered.map_err(refused("register a version"))?;
    Ok(registered.version.map_or(0, |version| version.version))
}

/// A request for the range of many cars, each column of them a tensor.
fn many_cars(model: &str, rows: usize) -> Arc<ModelInferRequest> {
    let cars: Vec<PredictRequest> = cars().into_iter().cycle().take(rows).collect();
    let text = |of: fn(&PredictRequest) -> &str| -> Bytes {
        let framed = |car: &PredictRequest| {
            let text = of(car).as_bytes();
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
            [length.as_slice(), text].concat()
        };
        cars.iter().flat_map(framed).collect()
    };
    let number = |of: fn(&PredictRequest) -> Option<f32>| -> Bytes {
        cars.iter().flat_map(|car| of(car).unwrap_or(f32::NAN).to_le_bytes()).collect()
    };
    let columns = [
        ("make", "BYTES", text(|car| &car.make)),
        ("model", "BYTES", text(|car| &car.model)),
        ("segment", "BYTES", text(|car| car.segment())),
        ("body_type", "BYTES", text(|car| car.body_type())),
        ("drivetrain", "BYTES", text(|car| car.drivetrain())),
        ("battery_capacity_kwh", "FP32", number(|car| car.battery_capacity_kwh)),
        ("motor_power_kw", "FP32", number(|car| car.motor_power_kw)),
        ("torque_nm", "FP32", number(|car| car.torque_nm)),
        ("length_mm", "FP32", number(|car| car.length_mm)),
        ("width_mm", "FP32", number(|car| car.width_mm)),
        ("height_mm", "FP32", number(|car| car.height_mm)),
        ("top_speed_kmh", "FP32", number(|car| car.top_speed_kmh)),
    ];
    let shape = vec![i64::try_from(rows).unwrap_or(i64::MAX), 1];
    let input = |(name, datatype, _): &(&str, &str, Bytes)| InferInputTensor {
        name: (*name).to_owned(),
        datatype: (*datatype).to_owned(),
        shape: shape.clone(),
        ..InferInputTensor::default()
    };
    Arc::new(ModelInferRequest {
        model_name: model.to_owned(),
        inputs: columns.iter().map(input).collect(),
        raw_input_contents: columns.into_iter().map(|(_, _, values)| values).collect(),
        ..ModelInferRequest::default()
    })
}

// === impl Asked ===

impl Asked {
    fn scenario(self) -> Scenario {
        match self {
            Asked::Unary => Scenario::Unary,
            Asked::Stream => Scenario::Stream,
            Asked::Rows(_) => Scenario::Tensor,
        }
    }

    fn rows(self) -> Option<usize> {
        match self {
            Asked::Unary | Asked::Stream => None,
            Asked::Rows(rows) => Some(rows),
        }
    }
}

/// The picture of the first golden request.
fn golden_picture(directory: &Path) -> Result<String, SubjectError> {
    let path = directory.join("golden.json");
    let invalid = |problem: String| SubjectError::Invalid { place: path.display().to_string(), problem };
    let golden: serde_json::Value =
        serde_json::from_slice(&fs_err::read(&path)?).map_err(|error| invalid(error.to_string()))?;
    let picture = golden["cases"][0]["image_file"].as_str();
    picture.map(str::to_owned).ok_or_else(|| invalid("the first golden request has no `image_file`".to_owned()))
}
