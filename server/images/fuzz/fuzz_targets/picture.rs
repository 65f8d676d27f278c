//! Any bytes: a tensor of numbers or an error, in bounded time and memory, whatever the scratch was used for before.

#![no_main]

use std::{cell::RefCell, sync::LazyLock};

use ev_images::{Interpolation, Limits, Preprocessor, Recipe, Resize, Scratch, Size};

static PREPROCESSOR: LazyLock<Preprocessor> = LazyLock::new(|| {
    let recipe = Recipe {
        resize: Some(Resize::ShortestEdge(12)),
        crop: Some(Size { height: 8, width: 10 }),
        interpolation: Interpolation::Lanczos,
        ..Recipe::from_hugging_face(r#"{"image_processor_type": "ViTImageProcessor"}"#).expect("a recipe")
    };
    let limits = Limits { bytes_max: 1 << 20, pixels_max: 300_000, side_max: 20_000, memory_max: 16 << 20 };
    Preprocessor::new(recipe, limits).expect("a preprocessor")
});

thread_local! {
    static SCRATCH: RefCell<(Scratch, Vec<f32>)> = RefCell::new((Scratch::default(), vec![0.0; PREPROCESSOR.values()]));
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    SCRATCH.with_borrow_mut(|(scratch, out)| {
        if PREPROCESSOR.run(scratch, bytes, &|| false, out).is_ok() {
            assert!(out.iter().all(|value| (-1.0..=1.0).contains(value)));
        }
    });
});
