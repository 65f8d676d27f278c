//! One recipe under one set of limits: bytes in, a tensor out.

use ev_models_core::recipe::{Channels, Recipe, RecipeError, Size};

use crate::{
    Format, ImageError, Limits, Orientation,
    decode::{self, Pixels},
    geometry::plan,
    resample,
};

/// Follows one recipe. It is shared between threads; each brings a [`Scratch`] of its own.
#[derive(Debug, Clone)]
pub struct Preprocessor {
    recipe: Recipe,
    limits: Limits,
    size: Size,
    /// What each value becomes, a channel at a time in the tensor's order.
    values: Box<[[f32; 256]; 3]>,
}

/// Buffers of one thread, kept from picture to picture. What a large picture needed is given back after it.
#[derive(Debug, Default)]
pub struct Scratch {
    decode: decode::Buffers,
    resample: resample::Buffers,
    /// The tensor's pixels before they are numbers, a plane at a time.
    planes: Vec<u8>,
}

/// What a picture was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Told by its first bytes.
    pub format: Format,
    /// Columns once it is turned upright.
    pub width: u32,
    /// Rows once it is turned upright.
    pub height: u32,
    /// How it was stored.
    pub orientation: Orientation,
}

/// The steps of [`Preprocessor::run`] one at a time, for measuring them.
#[derive(Debug)]
pub struct Steps<'a> {
    preprocessor: &'a Preprocessor,
    format: Format,
    pixels: Pixels<'a>,
    resample: &'a mut resample::Buffers,
    planes: &'a mut Vec<u8>,
}

// === impl Preprocessor ===

impl Preprocessor {
    /// Prepares a recipe.
    ///
    /// # Errors
    ///
    /// A recipe that gives tensors of no fixed size, or has a value out of its range.
    pub fn new(recipe: Recipe, limits: Limits) -> Result<Self, RecipeError> {
        recipe.check()?;
        let size = recipe.size()?;
        let order = match recipe.channels {
            Channels::Rgb => [0, 1, 2],
            Channels::Bgr => [2, 1, 0],
        };
        let values = Box::new(order.map(|channel| values(&recipe, channel)));
        Ok(Self { recipe, limits, size, values })
    }

    /// The recipe.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Channels, rows and columns of a tensor.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        [3, self.size.height as usize, self.size.width as usize]
    }

    /// Values of a tensor.
    #[must_use]
    pub fn values(&self) -> usize {
        self.shape().iter().product()
    }

    /// Turns a file's bytes into a tensor: `out` holds [`Preprocessor::shape`], rows and columns within a channel.
    ///
    /// `stop` is asked every few milliseconds of work, but for one thing: the pixels of a lossy WebP are decoded at
    /// once, at about 30 ns a pixel.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the picture, [`ImageError::Stopped`] when `stop` says so, and [`ImageError::Output`].
    /// `out` then holds nothing of use.
    pub fn run(
        &self,
        scratch: &mut Scratch,
        bytes: &[u8],
        stop: &dyn Fn() -> bool,
        out: &mut [f32],
    ) -> Result<Info, ImageError> {
        if out.len() != self.values() {
            return Err(ImageError::Output { found: out.len(), expected: self.values() });
        }
        let info = self.decode(scratch, bytes, stop).and_then(|mut steps| {
            steps.resize(stop)?;
            steps.normalize(out);
            Ok(steps.info())
        });
        scratch.decode.release();
        scratch.resample.release();
        info
    }

    /// The first step: the file's pixels.
    ///
    /// # Errors
    ///
    /// Those of [`Preprocessor::run`] about the file.
    pub fn decode<'a>(
        &'a self,
        scratch: &'a mut Scratch,
        bytes: &[u8],
        stop: &dyn Fn() -> bool,
    ) -> Result<Steps<'a>, ImageError> {
        self.limits.check_bytes(bytes)?;
        let format = Format::of(bytes)?;
        let pixels = decode::decode(format, bytes, &self.limits, stop, &mut scratch.decode)?;
        let Scratch { resample, planes, .. } = scratch;
        Ok(Steps { preprocessor: self, format, pixels, resample, planes })
    }
}

/// What each of the 256 values becomes, a channel at a time: numpy's steps, with their roundings to float32.
fn values(recipe: &Recipe, channel: usize) -> [f32; 256] {
    std::array::from_fn(|value| {
        let value = f64::from(u32::try_from(value).unwrap_or(u32::MAX));
        let rescaled = narrow(recipe.rescale_factor.map_or(value, |factor| value * factor));
        recipe.normalize.map_or(rescaled, |of| (rescaled - narrow(of.mean[channel])) / narrow(of.std[channel]))
    })
}

#[allow(clippy::cast_possible_truncation, reason = "the rounding to float32 that numpy's astype does")]
fn narrow(value: f64) -> f32 {
    value as f32
}

// === impl Scratch ===

impl Scratch {
    /// Bytes that are kept.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.decode.capacity() + self.resample.capacity() + self.planes.capacity()
    }
}

// === impl Steps ===

impl Steps<'_> {
    /// What the picture is.
    #[must_use]
    pub fn info(&self) -> Info {
        let (width, height) = self.turned();
        let side = |side| u32::try_from(side).unwrap_or(u32::MAX);
        Info { format: self.format, width: side(width), height: side(height), orientation: self.pixels.orientation }
    }

    /// The second step: turned upright, resized, cropped. Gives the pixels a plane at a time, red first, or one plane
    /// for a grey picture.
    ///
    /// # Errors
    ///
    /// [`ImageError::Stopped`], [`ImageError::TooMuchMemory`].
    pub fn resize(&mut self, stop: &dyn Fn() -> bool) -> Result<&[u8], ImageError> {
        let Preprocessor { recipe, limits, size, .. } = self.preprocessor;
        let axes = plan(recipe, *size, self.turned());
        let planes = if self.pixels.layout.is_gray() { 1 } else { 3 };
        let width = size.width as usize;
        self.planes.clear();
        self.planes.resize(planes * size.height as usize * width, 0);
        let out = (&mut self.planes[..], width);
        resample::resample(&self.pixels, axes, recipe.interpolation, limits, stop, self.resample, out)?;
        Ok(self.planes)
    }

    /// The third step: numbers, in the tensor's order.
    pub fn normalize(&self, out: &mut [f32]) {
        let size = self.preprocessor.size;
        let plane_size = (size.height * size.width) as usize;
        let planes = self.planes.len() / plane_size;
        let bgr = self.preprocessor.recipe.channels == Channels::Bgr;
        for (channel, (out, values)) in
            out.chunks_exact_mut(plane_size).zip(self.preprocessor.values.iter()).enumerate()
        {
            let plane = if bgr { 2 - channel } else { channel }.min(planes - 1);
            for (number, value) in out.iter_mut().zip(&self.planes[plane * plane_size..]) {
                *number = values[usize::from(*value)];
            }
        }
    }

    fn turned(&self) -> (usize, usize) {
        self.pixels.orientation.turned((self.pixels.width, self.pixels.height))
    }
}
