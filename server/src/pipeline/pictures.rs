//! Pictures: what an image model is asked about, and how they become rows of its batches.
//!
//! Nothing here is done on a serving thread but to look at a picture's length: a file is decoded, a tensor is copied and
//! checked on the worker thread that runs the batch.

use std::{
    cell::Cell,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ev_batching::{Prepare, PrepareError, Row, RowInputs, RowShape, Scratch};
use ev_images::{ImageError, Info, Limits, Preprocessor};
use ev_models_core::{
    ArtifactDir, DataType, LoadError, Manifest, RunError,
    manifest::{Preprocessing, check_size},
    recipe::{Recipe, RecipeError},
};

use super::outcome::{PredictError, Violation};
use crate::cpu_time::cpu_time;

/// Largest `preprocessor_config.json` that is read.
const CONFIG_MAX_BYTES: u64 = 1024 * 1024;
/// Of so many times that decoding asks whether to stop, the thread's time is looked at once: that takes as long as a row of
/// a usual picture.
const CLOCK_EVERY: u32 = 8;

/// One picture, as a caller sent it. A clone shares its bytes.
#[derive(Debug, Clone)]
pub(crate) enum Picture {
    /// A JPEG, PNG or WebP file.
    File(Bytes),
    /// The model's own tensor, each value as four little-endian bytes.
    RawTensor(Bytes),
    /// The same as numbers.
    Tensor(Arc<[f32]>),
}

/// What one picture may take.
#[derive(Debug, Clone)]
pub(crate) struct PictureLimits {
    pub(crate) limits: Limits,
    /// CPU time of decoding and resizing.
    pub(crate) decode_time_max: Duration,
}

/// How the pictures of a model become its one input.
#[derive(Debug)]
pub(crate) struct Pictures {
    preprocessor: Preprocessor,
    limits: PictureLimits,
    /// Name of the input, by which refusals call it.
    input: String,
    shape: RowShape,
}

/// What a file was, told by the worker that decoded it.
pub(super) type Told = Arc<OnceLock<Info>>;

/// A picture on its way to a worker.
struct Preparation {
    pictures: Arc<Pictures>,
    picture: Picture,
    deadline: Option<Instant>,
    told: Told,
}

/// Why decoding was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Nobody waits for it.
    Abandoned,
    /// The caller's deadline passed.
    Deadline,
    /// The picture took too long.
    Slow,
}

// === impl Picture ===

impl Picture {
    /// Bytes it holds.
    pub(crate) fn size(&self) -> usize {
        match self {
            Picture::File(bytes) | Picture::RawTensor(bytes) => bytes.len(),
            Picture::Tensor(numbers) => size_of_val(&numbers[..]),
        }
    }
}

// === impl Pictures ===

impl Pictures {
    /// How a version's pictures are prepared; none where its manifest does not say.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the file that says it cannot be read, is not understood, or does not fit the model's input.
    pub(crate) fn load(
        manifest: &Manifest,
        artifact: &ArtifactDir,
        limits: PictureLimits,
    ) -> Result<Option<Arc<Pictures>>, LoadError> {
        let Some(preprocessing) = &manifest.preprocessing else { return Ok(None) };
        let file = || preprocessing.file().unwrap_or("manifest.toml").to_owned();
        let input = &manifest.inputs[0];
        let recipe = recipe(preprocessing, artifact)?;
        if let [_, height, width] = input.shape[..] {
            let fits = check_size(&recipe, [height, width]);
            fits.map_err(|problem| LoadError::Mismatch { file: file(), problem })?;
        }
        let preprocessor = Preprocessor::new(recipe, limits.limits.clone());
        let preprocessor = preprocessor.map_err(|error| malformed(&file(), &error))?;
        let shape = RowShape::new([(DataType::Fp32, [preprocessor.values()])]);
        Ok(Some(Arc::new(Pictures { preprocessor, limits, input: input.name.clone(), shape })))
    }

    /// The steps.
    pub(crate) fn recipe(&self) -> &Recipe {
        self.preprocessor.recipe()
    }

    /// Values of a tensor.
    pub(super) fn values(&self) -> usize {
        self.preprocessor.values()
    }

    /// Refuses what no worker needs to see.
    ///
    /// # Errors
    ///
    /// [`PredictError::Invalid`] when the picture is empty or too large, so that it never waits.
    pub(super) fn admit(&self, picture: &Picture) -> Result<(), PredictError> {
        let Picture::File(bytes) = picture else { return Ok(()) };
        let max = self.limits.limits.bytes_max;
        match bytes.len() {
            0 => Err(self.refused(&ImageError::Empty)),
            found if found > max => Err(self.refused(&ImageError::TooManyBytes { found, max })),
            _ => Ok(()),
        }
    }

    /// A picture as a row that a worker prepares, and where it tells what the file was.
    pub(super) fn row(self: &Arc<Self>, picture: Picture, deadline: Option<Instant>) -> (Row, Told) {
        let (told, size) = (Told::default(), picture.size());
        let preparation = Preparation { pictures: Arc::clone(self), picture, deadline, told: Arc::clone(&told) };
        (Row::new(self.shape.clone(), size, preparation), told)
    }

    /// Writes a picture's tensor to `out`, and says what the file was. `scratch` is the thread's own.
    ///
    /// # Errors
    ///
    /// What is wrong with the picture.
    pub(super) fn fill(
        &self,
        picture: &Picture,
        scratch: &mut ev_images::Scratch,
        out: &mut [f32],
    ) -> Result<Option<Info>, PredictError> {
        self.fill_unless(picture, scratch, &|| None, out)
    }

    fn fill_unless(
        &self,
        picture: &Picture,
        scratch: &mut ev_images::Scratch,
        stop: &dyn Fn() -> Option<Stop>,
        out: &mut [f32],
    ) -> Result<Option<Info>, PredictError> {
        let expected = out.len();
        let unfit = |found| internal(&ImageError::Output { found, expected });
        let finite = match picture {
            Picture::File(bytes) => return self.decode(bytes, scratch, stop, out).map(Some),
            Picture::Tensor(numbers) if numbers.len() == expected => copy(numbers, out, |number| *number),
            Picture::RawTensor(bytes) if bytes.len() == size_of_val(out) => {
                copy(bytes.as_chunks::<4>().0, out, |bytes| f32::from_le_bytes(*bytes))
            }
            Picture::Tensor(numbers) => return Err(unfit(numbers.len())),
            Picture::RawTensor(bytes) => return Err(unfit(bytes.len() / size_of::<f32>())),
        };
        if finite {
            return Ok(None);
        }
        let found = out.iter().enumerate().find(|(_, number)| !number.is_finite());
        let (position, number) = found.map_or((0, f32::NAN), |(position, number)| (position, *number));
        let description = format!("holds {number} at position {position}, expected a finite number");
        Err(self.violation("NOT_FINITE", description))
    }

    fn decode(
        &self,
        bytes: &[u8],
        scratch: &mut ev_images::Scratch,
        stop: &dyn Fn() -> Option<Stop>,
        out: &mut [f32],
    ) -> Result<Info, PredictError> {
        // So that a picture is charged for its own work and not for that of its neighbours.
        let begun = cpu_time();
        let (stopped, asked) = (Cell::new(None), Cell::new(0_u32));
        let stop = || {
            asked.set(asked.get().wrapping_add(1));
            let is_asked = asked.get() % CLOCK_EVERY == 1;
            let slow = || (cpu_time().saturating_sub(begun) > self.limits.decode_time_max).then_some(Stop::Slow);
            stopped.set(stop().or_else(|| if is_asked { slow() } else { None }));
            stopped.get().is_some()
        };
        self.preprocessor.run(scratch, bytes, &stop, out).map_err(|error| match (&error, stopped.get()) {
            (ImageError::Stopped, Some(Stop::Slow)) => {
                let max = self.limits.decode_time_max;
                let description =
                    format!("cannot be read: it takes longer than {max:?} to decode; send a picture of fewer pixels");
                self.violation("IMAGE_TOO_SLOW", description)
            }
            (ImageError::Stopped, _) => PredictError::DeadlineExceeded,
            _ => self.refused(&error),
        })
    }

    /// An error of decoding, as its sender reads it.
    #[cold]
    fn refused(&self, error: &ImageError) -> PredictError {
        let (reason, advice) = match error {
            ImageError::Empty => ("MISSING_FIELD", "send the bytes of a file"),
            ImageError::TooManyBytes { .. } | ImageError::TooManyPixels { .. } | ImageError::TooMuchMemory { .. } => {
                ("IMAGE_TOO_LARGE", "send a smaller picture")
            }
            ImageError::Format { .. } | ImageError::Unsupported { .. } => {
                ("UNSUPPORTED_FORMAT", "convert it, to an ordinary JPEG for instance")
            }
            ImageError::ZeroSized { .. } | ImageError::Truncated { .. } | ImageError::Corrupt { .. } => {
                ("CORRUPT_IMAGE", "send the whole file as the camera wrote it")
            }
            ImageError::Output { .. } => return internal(error),
            ImageError::Stopped => return PredictError::DeadlineExceeded,
            // The crate's errors may grow; all are about the picture.
            _ => ("CORRUPT_IMAGE", "send another picture"),
        };
        self.violation(reason, format!("cannot be read: {error}; {advice}"))
    }

    #[cold]
    fn violation(&self, reason: &'static str, description: String) -> PredictError {
        PredictError::Invalid(vec![Violation { field: self.input.clone(), reason, description }])
    }
}

/// Copies a tensor, and says whether it is finite throughout: piece by piece, so that no number is fetched twice.
fn copy<T>(from: &[T], to: &mut [f32], number: impl Fn(&T) -> f32) -> bool {
    /// Numbers that stay in the nearest cache from the copy to the check.
    const PIECE: usize = 2_048;
    let mut finite = true;
    for (from, to) in from.chunks(PIECE).zip(to.chunks_mut(PIECE)) {
        for (from, to) in from.iter().zip(&mut *to) {
            *to = number(from);
        }
        // Without a branch inside, so that it is done many numbers at a time.
        finite &= to.iter().fold(true, |finite, number| finite & number.is_finite());
    }
    finite
}

/// The steps, from the manifest or the file that it names.
fn recipe(preprocessing: &Preprocessing, artifact: &ArtifactDir) -> Result<Recipe, LoadError> {
    let path = match preprocessing {
        Preprocessing::Recipe(recipe) => return Ok(recipe.clone()),
        Preprocessing::HuggingFace(path) => path,
    };
    let unreadable = |reason: String| LoadError::Unreadable { file: path.clone(), reason };
    let place = artifact.path(path)?;
    let size = fs_err::metadata(place).map_err(|error| unreadable(error.to_string()))?.len();
    if size > CONFIG_MAX_BYTES {
        return Err(unreadable(format!("it has {size} bytes, expected at most {CONFIG_MAX_BYTES}")));
    }
    let json = fs_err::read_to_string(place).map_err(|error| unreadable(error.to_string()))?;
    Recipe::from_hugging_face(&json).map_err(|error| malformed(path, &error))
}

fn malformed(file: &str, error: &RecipeError) -> LoadError {
    let source = std::error::Error::source(error).map_or(String::new(), |source| format!(": {source}"));
    LoadError::Malformed {
        file: file.to_owned(),
        place: "preprocessing".to_owned(),
        problem: format!("{error}{source}"),
    }
}

/// A bug of ours, not of the picture.
#[cold]
fn internal(error: &ImageError) -> PredictError {
    PredictError::Backend(RunError::Engine { backend: "images", reason: error.to_string() })
}

// === impl Preparation ===

impl Prepare for Preparation {
    fn prepare(self: Box<Self>, inputs: &mut RowInputs<'_>, scratch: &mut Scratch) -> Result<(), PrepareError> {
        let Preparation { pictures, picture, deadline, told } = *self;
        let stop = || {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                Some(Stop::Deadline)
            } else if Arc::strong_count(&told) == 1 {
                Some(Stop::Abandoned)
            } else {
                None
            }
        };
        // Every pixel is written, or the picture is refused.
        let out = inputs.f32_as_left(0)?;
        let info = pictures.fill_unless(&picture, scratch.get(), &stop, out)?;
        if let Some(info) = info {
            // Nobody else tells.
            let _ = told.set(info);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ev_models_core::recipe::Resize;

    use super::*;

    /// A tensor of 2 by 2 pixels, and a picture of one.
    fn pictures(decode_time_max: Duration) -> Pictures {
        let size = ev_models_core::recipe::Size { height: 2, width: 2 };
        let recipe = r#"{"image_processor_type": "ViTImageProcessor"}"#;
        let recipe = Recipe::from_hugging_face(recipe).expect("a recipe");
        let limits = PictureLimits { limits: Limits::default(), decode_time_max };
        let recipe = Recipe { resize: Some(Resize::Exact(size)), ..recipe };
        let preprocessor = Preprocessor::new(recipe, limits.limits.clone()).expect("a preprocessor");
        let shape = RowShape::new([(DataType::Fp32, [preprocessor.values()])]);
        Pictures { preprocessor, limits, input: "image".to_owned(), shape }
    }

    fn file() -> Picture {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/images/tests/golden/444.jpg");
        Picture::File(fs_err::read(path).expect("a picture").into())
    }

    fn fill(pictures: &Pictures, picture: &Picture, stop: Option<Stop>) -> Result<(Option<Info>, Vec<f32>), String> {
        let mut out = vec![f32::NAN; 12];
        let filled = pictures.fill_unless(picture, &mut ev_images::Scratch::default(), &|| stop, &mut out);
        filled.map(|info| (info, out)).map_err(|error| error.to_string())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn decoding_ends_with_its_time_its_deadline_and_its_caller() {
        let (info, values) = fill(&pictures(LONG), &file(), None).expect("a picture");
        assert!(info.is_some() && values.iter().all(|value| value.is_finite()));
        let check = |max: Duration, stop: Option<Stop>, expected: &str| {
            assert_eq!(fill(&pictures(max), &file(), stop).expect_err("stopped"), expected);
        };
        let passed = "the deadline passed before the answer was ready";
        check(LONG, Some(Stop::Deadline), passed);
        check(LONG, Some(Stop::Abandoned), passed);
        let slow = "`image` cannot be read: it takes longer than 0ns to decode; send a picture of fewer pixels";
        check(Duration::ZERO, None, slow);
    }

    #[test]
    fn tensors_are_copied_when_they_fit_and_are_finite() {
        let numbers: Vec<f32> = (0..12_u8).map(f32::from).collect();
        let raw = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        for picture in [Picture::Tensor(numbers.clone().into()), Picture::RawTensor(raw(&numbers).into())] {
            assert_eq!(picture.size(), 48);
            assert_eq!(fill(&pictures(LONG), &picture, None).expect("it fits").1, numbers);
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut numbers = numbers.clone();
            numbers[7] = bad;
            let refused = fill(&pictures(LONG), &Picture::RawTensor(raw(&numbers).into()), None).expect_err("refused");
            assert_eq!(refused, format!("`image` holds {bad} at position 7, expected a finite number"));
        }
        for short in [Picture::Tensor(vec![0.0; 11].into()), Picture::RawTensor(vec![0; 47].into())] {
            assert_eq!(fill(&pictures(LONG), &short, None).expect_err("a bug"), "the model could not be run");
        }
    }

    #[test]
    fn what_a_length_says_is_said_before_the_queue() {
        let pictures = pictures(LONG);
        pictures.admit(&file()).expect("it may wait");
        let refused = |length: usize| pictures.admit(&Picture::File(vec![0; length].into())).expect_err("refused");
        assert!(refused(0).to_string().contains("found no bytes, expected a JPEG, PNG or WebP picture"));
        assert!(refused((16 << 20) + 1).to_string().contains("found 16777217 bytes, expected at most 16777216"));
    }
}
