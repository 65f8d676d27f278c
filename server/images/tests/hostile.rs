//! Files that are made to hurt, or that are not what they seem: an error that says so, or the right answer.

use std::{cell::Cell, path::Path};

use allocation_counter::measure;
use ev_images::{Format, ImageError, Info, Limits, Orientation, Preprocessor, Recipe, Resize, Scratch, Size};
use proptest::prelude::*;

fn golden(name: &str) -> Vec<u8> {
    fs_err::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).expect("a golden file")
}

/// Every picture of the golden tests.
fn pictures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut names: Vec<String> = fs_err::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| [".png", ".jpg", ".webp"].iter().any(|suffix| name.ends_with(suffix)))
        .filter(|name| !name.contains("expected"))
        .collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), golden(&name))).collect()
}

fn recipe() -> Recipe {
    let size = Size { height: 8, width: 8 };
    Recipe {
        resize: Some(Resize::ShortestEdge(9)),
        crop: Some(size),
        ..Recipe::from_hugging_face(r#"{"image_processor_type": "ViTImageProcessor"}"#).expect("a recipe")
    }
}

fn run_with(limits: &Limits, bytes: &[u8], stop: &dyn Fn() -> bool) -> Result<(Info, Vec<f32>), ImageError> {
    let preprocessor = Preprocessor::new(recipe(), limits.clone()).expect("a preprocessor");
    let mut out = vec![0.0; preprocessor.values()];
    preprocessor.run(&mut Scratch::default(), bytes, stop, &mut out).map(|info| (info, out))
}

fn run(bytes: &[u8]) -> Result<(Info, Vec<f32>), ImageError> {
    run_with(&Limits::default(), bytes, &|| false)
}

#[track_caller]
fn check(bytes: &[u8], expected: &str) {
    let found = run(bytes).map(|(info, _)| info).expect_err(expected).to_string();
    assert_eq!(found, expected);
}

/// Refused, and nothing was allocated for pixels on the way.
#[track_caller]
fn check_cheap(bytes: &[u8], expected: &str) {
    let used = measure(|| check(bytes, expected)).bytes_max;
    assert!(used < 1 << 20, "{used} bytes");
}

// === PNG ===

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    };
    let crc = !kind.iter().chain(data).fold(u32::MAX, byte);
    let length = u32::try_from(data.len()).expect("short").to_be_bytes();
    [&length, &kind[..], data, &crc.to_be_bytes()].concat()
}

fn png(width: u32, height: u32, depth: u8, color: u8, data: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &header)[..], &chunk(b"IDAT", data), &chunk(b"IEND", b"")].concat()
}

/// Zeros, compressed as far as deflate can: one byte in a thousand.
fn deflated_zeros(length: usize) -> Vec<u8> {
    // A stream of fixed Huffman codes: the literal 0, then runs of 258 at distance 1.
    let mut bits: Vec<bool> = vec![true, true, false];
    let code = |value: u32, length: u32, bits: &mut Vec<bool>| {
        (0..length).rev().for_each(|at| bits.push(value >> at & 1 == 1))
    };
    code(0x30, 8, &mut bits);
    for _ in 0..length / 258 {
        // 285 has the code 0b11000101, and distance 1 the code 0.
        code(0b1100_0101, 8, &mut bits);
        code(0, 5, &mut bits);
    }
    code(0, 7, &mut bits);
    let bytes = bits.chunks(8).map(|bits| bits.iter().enumerate().map(|(at, bit)| u8::from(*bit) << at).sum::<u8>());
    [0x78, 0x01].into_iter().chain(bytes).collect()
}

#[test]
fn png_bombs_are_refused_by_their_header() {
    let limits = "at most 65535 a side and 50000000 in all";
    let stated = |width, height| format!("found a picture of {width} x {height} pixels, expected {limits}");
    check_cheap(&png(30_000, 30_000, 1, 0, &deflated_zeros(1 << 16)), &stated(30_000, 30_000));
    check_cheap(&png(1, 65_536, 1, 0, &[]), &stated(1, 65_536));
    check_cheap(&png(u32::MAX, u32::MAX, 16, 6, &[]), &stated(u32::MAX, u32::MAX));
    check_cheap(
        &png(7000, 7000, 16, 6, &deflated_zeros(1 << 16)),
        "the picture needs 392355546 bytes of memory, expected at most 268435456",
    );
}

#[test]
fn an_inflating_png_takes_no_more_than_its_pixels() {
    // Inflates to 100 MB, states 1,000 x 1,000 grey pixels.
    let bomb = png(1000, 1000, 8, 0, &deflated_zeros(100_000_000));
    let used = measure(|| assert!(run(&bomb).is_ok(), "what is too much is not read")).bytes_max;
    assert!(used < 4 << 20, "{used} bytes");
}

#[test]
fn png_headers_that_lie_are_refused() {
    check(&png(0, 5, 8, 0, &[]), "found a picture of 0 x 5 pixels, expected at least 1 x 1");
    check(&png(5, 0, 8, 0, &[]), "found a picture of 5 x 0 pixels, expected at least 1 x 1");
    check(&png(5, 5, 8, 0, &[]), "the PNG file is damaged: Corrupt deflate stream. InsufficientInput");
    check(&png(5, 5, 3, 0, &[]), "the PNG file is damaged: Invalid bit depth 3");
    check(
        &[b"\x89PNG\r\n\x1a\n", &chunk(b"IDAT", &[0; 9])[..]].concat(),
        "the PNG file is damaged: it does not begin with its header",
    );
    check(b"\x89PNG\r\n\x1a\n", "the PNG file ends before the picture does");
}

// === JPEG ===

/// Where the frame header's marker stands.
fn frame(jpeg: &[u8]) -> usize {
    let mut at = 2;
    while !matches!(jpeg[at + 1], 0xc0..=0xc2) {
        at += 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
    }
    at
}

fn jpeg_with(name: &str, edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut jpeg = golden(name);
    let at = frame(&jpeg);
    edit(&mut jpeg[at..]);
    jpeg
}

fn jpeg_of_size(name: &str, width: u16, height: u16) -> Vec<u8> {
    jpeg_with(name, |frame| {
        frame[5..7].copy_from_slice(&height.to_be_bytes());
        frame[7..9].copy_from_slice(&width.to_be_bytes());
    })
}

#[test]
fn jpeg_bombs_are_refused_by_their_header() {
    check_cheap(
        &jpeg_of_size("420.jpg", 65_535, 65_535),
        "found a picture of 65535 x 65535 pixels, expected at most 65535 a side and 50000000 in all",
    );
    check_cheap(&jpeg_of_size("ycck.jpg", 7000, 7000), "the JPEG file ends before the picture does");
    let mut progressive = jpeg_of_size("progressive.jpg", 7000, 7000);
    let at = frame(&progressive);
    progressive[at + 11] = 0x11;
    // Enough bytes for that many blocks.
    let end = progressive.len() - 2;
    progressive.splice(end..end, [0x55; 200_000]);
    check_cheap(&progressive, "the picture needs 442748448 bytes of memory, expected at most 268435456");
}

#[test]
fn jpegs_without_pixels_are_refused() {
    let expected = "found a picture of 85 x 0 pixels, expected at least 1 x 1";
    check(&jpeg_of_size("420.jpg", 85, 0), expected);
    check(&jpeg_of_size("420.jpg", 0, 59), "found a picture of 0 x 59 pixels, expected at least 1 x 1");
    check(b"\xff\xd8\xff\xd9", "the JPEG file is damaged: it ends before the picture begins");
}

#[test]
fn unusual_jpegs_are_refused_by_name() {
    let check = |edit: &dyn Fn(&mut [u8]), found: &str, expected: &str| {
        check(&jpeg_with("420.jpg", edit), &format!("found a JPEG picture with {found}, expected {expected}"));
    };
    let coding = "baseline or progressive Huffman coding";
    check(&|frame| frame[1] = 0xc3, "lossless coding", coding);
    check(&|frame| frame[1] = 0xc5, "hierarchical coding", coding);
    check(&|frame| frame[1] = 0xc9, "arithmetic coding", coding);
    check(&|frame| frame[4] = 12, "12 bits a component", "8");
    check(&|frame| frame[9] = 2, "2 components", "1, 3 or 4");
}

/// Twenty bytes of a scan visit every block of a large picture, and a file can hold many scans.
#[test]
fn a_jpeg_of_many_scans_is_refused() {
    let jpeg = golden("gray-progressive.jpg");
    let is_scan = |at: &usize| jpeg[*at..].starts_with(&[0xff, 0xda]);
    let scan = (0..jpeg.len()).filter(is_scan).nth(1).expect("a second scan");
    let end = jpeg.len() - 2;
    let next =
        (scan + 2..end).find(|at| jpeg[*at] == 0xff && !matches!(jpeg[at + 1], 0 | 0xd0..=0xd7)).expect("an end");
    let scans = [&jpeg[..end], &jpeg[scan..next].repeat(100), &jpeg[end..]].concat();
    check(&scans, "found a JPEG picture with 106 scans, expected at most 64");
}

#[test]
fn damaged_jpegs_are_refused() {
    let damaged = |bytes: &[u8]| {
        let found = run(bytes).map(|(info, _)| info);
        assert!(matches!(found, Err(ImageError::Corrupt { format: Format::Jpeg, .. })), "{found:?}");
    };
    let jpeg = golden("420.jpg");
    let at = frame(&jpeg);
    // Two frame headers; a second picture within the first; a scan before its frame.
    damaged(&[&jpeg[..at], &jpeg[at..at + 19], &jpeg[at..]].concat());
    damaged(&[&jpeg[..2], &jpeg[..]].concat());
    damaged(&[&jpeg[..at], &jpeg[at + 19..]].concat());
    // The data end early, whatever the marker behind them says.
    damaged(&[&jpeg[..jpeg.len() - 400], b"\xff\xd9"].concat());
}

#[test]
fn what_follows_a_jpeg_does_not_count() {
    let jpeg = golden("420.jpg");
    let (_, expected) = run(&jpeg).expect("a picture");
    let (_, found) = run(&[&jpeg[..], &golden("rgb8.png"), &[0; 1000]].concat()).expect("a picture");
    assert_eq!(found, expected);
}

#[test]
fn a_damaged_exif_is_ignored() {
    let jpeg = golden("orientation-6.jpg");
    let at = (0..jpeg.len()).find(|at| jpeg[*at..].starts_with(b"Exif\0\0")).expect("EXIF");
    for damage in 6..30 {
        let mut damaged = jpeg.clone();
        damaged[at + damage] ^= 0xff;
        let (info, _) = run(&damaged).expect("a picture");
        assert!(info.orientation == Orientation::default() || info.orientation == Orientation::from_exif_value(6));
    }
}

// === WebP ===

#[test]
fn webp_bombs_are_refused_by_their_header() {
    let limits = "expected at most 65535 a side and 50000000 in all";
    let mut lossy = golden("lossy.webp");
    let at = (0..lossy.len()).find(|at| lossy[*at..].starts_with(b"\x9d\x01\x2a")).expect("a key frame");
    lossy[at + 3..at + 7].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    check_cheap(&lossy, &format!("found a picture of 16383 x 16383 pixels, {limits}"));
    let mut lossless = golden("lossless.webp");
    lossless[21..25].copy_from_slice(&[0xfe, 0xbf, 0xff, 0x0f]);
    check_cheap(&lossless, &format!("found a picture of 16383 x 16383 pixels, {limits}"));
    let mut canvas = golden("animated.webp");
    canvas[24..30].fill(0xff);
    check_cheap(&canvas, "the WebP file is damaged: Image too large");
    canvas[24..30].copy_from_slice(&[0xff, 0xff, 0, 0, 0, 0]);
    check_cheap(&canvas, &format!("found a picture of 65536 x 1 pixels, {limits}"));
    canvas[24..30].copy_from_slice(&[0xff, 0x4f, 0, 0, 0, 0]);
    check_cheap(&canvas, "the WebP file is damaged: a side is longer than 16,384 pixels");
}

/// What a frame states of itself is what the decoder makes room for: 400 MB at most, for a file of 600 bytes.
#[test]
fn a_webp_frame_that_states_more_than_its_canvas_is_refused() {
    for (name, start, sides) in [
        ("animated-lossy.webp", &b"\x9d\x01\x2a"[..], &[0xff, 0x3f, 0xff, 0x3f][..]),
        ("lossy-alpha.webp", &b"\x9d\x01\x2a"[..], &[0xff, 0x3f, 0xff, 0x3f][..]),
        ("animated.webp", &b"VP8L"[..], &[][..]),
    ] {
        let mut webp = golden(name);
        let at = webp.windows(start.len()).position(|window| window == start).expect("a frame") + start.len();
        if sides.is_empty() {
            // Behind the chunk's size and the signature.
            webp[at + 5..at + 8].copy_from_slice(&[0xff, 0xff, 0xff]);
        } else {
            webp[at..at + 4].copy_from_slice(sides);
        }
        check_cheap(&webp, "the WebP file is damaged: a frame is larger than the picture");
    }
}

#[test]
fn a_webp_that_states_more_than_there_is_is_truncated() {
    let mut webp = golden("lossy.webp");
    webp[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    check(&webp, "the WebP file ends before the picture does");
}

/// Found by the properties below: one byte made the first part 16 MB long, beyond what was reckoned with.
#[test]
fn a_webp_part_that_lies_about_its_size_is_reckoned_with() {
    let mut webp = golden("lossy.webp");
    webp[30] = 0;
    survives(&webp);
    let limits = Limits { memory_max: 16 << 20, ..SMALL };
    let found = run_with(&limits, &golden("lossy.webp"), &|| false);
    assert!(matches!(found, Err(ImageError::TooMuchMemory { .. })), "{found:?}");
}

// === All formats ===

#[test]
fn other_formats_are_refused_by_name() {
    let named = |bytes: &[u8], name: &str| check(bytes, &format!("found {name}, expected JPEG, PNG or WebP"));
    named(b"GIF89a\x01\0\x01\0", "GIF");
    named(b"BM\x46\0\0\0", "BMP");
    named(b"II*\0\x08\0\0\0", "TIFF");
    named(b"MM\0*\0\0\0\x08", "TIFF");
    named(b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC");
    named(b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF");
    named(b"\0\0\0\x20ftypisom\0\0\0\0", "MP4");
    named(b"<svg xmlns=", "SVG");
    named(b"%PDF-1.7", "PDF");
    named(b"\0\0\0\x0cJXL \r\n", "JPEG XL");
    named(b"<!DOCTYPE html>", "HTML");
    named(b"\xff\xd8", "a file that begins with ff d8");
    named(b"RIFF\x10\0\0\0WAVE", "a file that begins with 52 49 46 46 10 00 00 00");
    check(b"", "found no bytes, expected a JPEG, PNG or WebP picture");
}

#[test]
fn a_large_file_is_refused_unread() {
    let limits = Limits { bytes_max: 1000, ..Limits::default() };
    let found = run_with(&limits, &golden("420.jpg"), &|| false).expect_err("too large").to_string();
    assert_eq!(found, format!("found {} bytes, expected at most 1000", golden("420.jpg").len()));
}

#[test]
fn the_caller_has_to_bring_room() {
    let preprocessor = Preprocessor::new(recipe(), Limits::default()).expect("a preprocessor");
    let found = preprocessor.run(&mut Scratch::default(), b"", &|| false, &mut [0.0; 3]);
    assert_eq!(found, Err(ImageError::Output { found: 3, expected: 192 }));
}

#[test]
fn every_question_can_stop_the_work() {
    for (name, bytes) in pictures() {
        let asked = Cell::new(0);
        run_with(&Limits::default(), &bytes, &|| {
            asked.set(asked.get() + 1);
            false
        })
        .expect("a picture");
        let questions = asked.get();
        assert!(questions >= 10, "{name}: {questions} questions");
        for stop_at in 0..questions {
            let asked = Cell::new(0);
            let stop = || asked.replace(asked.get() + 1) == stop_at;
            let found = run_with(&Limits::default(), &bytes, &stop).map(|(info, _)| info);
            assert_eq!(found, Err(ImageError::Stopped), "{name}, question {stop_at}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_or_whole() {
    for (name, bytes) in pictures() {
        let (_, whole) = run(&bytes).expect("a picture");
        // All places of a small file; of a larger one a part, for the time it takes.
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 700) {
            match (run(&bytes[..end]), name.ends_with(".png")) {
                // What comes after a PNG's pixels may be missing.
                (Ok((_, found)), true) => assert_eq!(found, whole, "{name} cut at {end}"),
                (Ok(_), false) => panic!("{name} cut at {end} is read"),
                (Err(ImageError::Truncated { .. }), _) => {}
                (Err(ImageError::Empty | ImageError::Format { .. }), _) => assert!(end < 12, "{name} cut at {end}"),
                (Err(error), _) => panic!("{name} cut at {end}: {error}"),
            }
        }
    }
}

/// Small ones, so that a case takes no time.
const SMALL: Limits = Limits { bytes_max: 1 << 20, pixels_max: 200_000, side_max: 5000, memory_max: 20 << 20 };

/// Whatever the bytes: a tensor of numbers or an error, in bounded memory.
fn survives(bytes: &[u8]) {
    let mut result = None;
    let used = measure(|| result = Some(run_with(&SMALL, bytes, &|| false))).bytes_max;
    // The tables of a decoder come on top: 64 kB for inflating, 100 kB of Huffman tables.
    assert!(used < SMALL.memory_max + (1 << 20), "{used} bytes");
    if let Some(Ok((info, out))) = result {
        assert!(out.iter().all(|value| (-1.0..=1.0).contains(value)));
        assert!(u64::from(info.width) * u64::from(info.height) <= SMALL.pixels_max);
    }
}

proptest! {
    #[test]
    fn random_bytes_survive(start in 0..4_usize, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let starts: [&[u8]; 4] = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"RIFF\x80\0\0\0WEBP"];
        survives(&[starts[start], &bytes].concat());
    }

    #[test]
    fn damaged_pictures_survive(
        picture in any::<prop::sample::Index>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let pictures = pictures();
        let mut bytes = picture.get(&pictures).1.clone();
        for (at, value) in damages {
            *at.get_mut(&mut bytes) = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes);
    }

    #[test]
    fn spliced_pictures_survive(
        from in any::<prop::sample::Index>(),
        into in any::<prop::sample::Index>(),
        piece in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let pictures = pictures();
        let (from, mut bytes) = (&from.get(&pictures).1, into.get(&pictures).1.clone());
        let (start, end, at) = (piece.0.index(from.len()), piece.1.index(from.len()), piece.2.index(bytes.len()));
        bytes.splice(at..at, from[start.min(end)..end.max(start)].iter().copied());
        survives(&bytes);
    }
}
