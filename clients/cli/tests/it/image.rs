//! `evctl predict image`: what it shows of given answers, and what it refuses by itself.

use serde_json::Value;

use crate::support::{Run, evctl_in, evctl_with_input, fake::FakeServer};

/// A directory with photos, which the fake server knows by their first letters.
fn photos() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, bytes) in
        [("car.jpg", "tesla"), ("tractor.jpg", "tractor"), ("fish.jpg", "fish"), ("car.gif", "GIF89a"), ("empty", "")]
    {
        fs_err::write(directory.path().join(name), bytes).expect("written");
    }
    directory
}

/// Runs `evctl predict image` with these files of the directory.
fn image(server: &FakeServer, directory: &tempfile::TempDir, files: &[&str], options: &[&str]) -> Run {
    evctl_in(directory.path(), &server.url, &[&["predict", "image"][..], files, options].concat())
}

#[test]
fn a_table_for_people() {
    let (server, directory) = (FakeServer::start(), photos());
    let run = image(&server, &directory, &["car.jpg"], &[]);
    assert_eq!(
        run.stdout,
        "\
MAKE    MODEL     PROBABILITY                                 TYPICAL RANGE
Tesla   Model 3    87.3 %  ████████████████████████████····   350 to 629 km, median 510
Kia     Niro       10.0 %  ███·····························   385 km
        OTHER       2.7 %  █·······························

typical range: of the model line's variants, not a prediction for this vehicle; from EV Database, 2025

photo                car.jpg (jpeg, 1600 x 1067 pixels, 5 B)
status               OK
model                vehicle-classifier version 1 sha256:0123456789ab
prediction id        p-1
time in the server   12.2 ms (queue 0.0, decode 4.1, inference 8.0)
"
    );
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}

#[test]
fn an_unknown_vehicle_is_said_to_be_one() {
    let (server, directory) = (FakeServer::start(), photos());
    let run = image(&server, &directory, &["tractor.jpg"], &["--top-k", "1"]);
    assert!(
        run.stdout.contains(
            "the model does not know this vehicle: its best guess is Tesla Model 3, at 31.0 %; \
             perhaps it is of another model line, or there is none on the photo\n"
        ),
        "{}",
        run.stdout
    );
    assert!(!run.stdout.contains("Niro") && run.stdout.contains("OUT_OF_DISTRIBUTION"), "{}", run.stdout);
    assert_eq!(run.code, 0);
}

#[test]
fn labels_stand_where_the_model_states_no_make() {
    let (server, directory) = (FakeServer::start(), photos());
    let run = image(&server, &directory, &["fish.jpg"], &[]);
    assert!(
        run.stdout.starts_with(
            "\
LABEL                      PROBABILITY
tench, Tinca tinca          75.0 %  ████████████████████████········
goldfish,  [31mCarassius    25.0 %  ████████························

photo                fish.jpg (jpeg"
        ),
        "{}",
        run.stdout
    );
}

#[test]
fn versions_are_chosen_in_either_form() {
    let (server, directory) = (FakeServer::start(), photos());
    for (options, expected) in [
        (&["--model", "mine"][..], "mine version 1 "),
        (&["--model", "mine@4"], "mine version 4 "),
        (&["--model", "mine:4"], "mine version 4 "),
        (&["--model", "mine@canary"], "mine version 9 "),
        (&["--model-name", "mine", "--model-version", "4"], "mine version 4 "),
        (&["--alias", "canary"], "vehicle-classifier version 9 "),
    ] {
        let run = image(&server, &directory, &["car.jpg"], options);
        assert!(run.stdout.contains(expected), "{options:?}: {}{}", run.stdout, run.stderr);
    }
    assert_eq!(image(&server, &directory, &["car.jpg"], &["--model", "a", "--alias", "b"]).code, 2);
    assert_eq!(image(&server, &directory, &["car.jpg"], &["--top-k", "0"]).code, 2);
}

#[test]
fn json_is_the_whole_answer() {
    let (server, directory) = (FakeServer::start(), photos());
    let run = image(&server, &directory, &["car.jpg"], &["-o", "json"]);
    let answer: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(answer["candidates"][0]["typical_range"]["median_km"], 510.0);
    assert_eq!(answer["candidates"].as_array().map(Vec::len), Some(3));
    assert_eq!(answer["image"]["format"], "jpeg");
    assert_eq!(answer["info"]["timings"]["total_ns"], 12_150_000);
}

#[test]
fn many_photos_are_answered_in_order_and_fail_alone() {
    let (server, directory) = (FakeServer::start(), photos());
    let files = ["tractor.jpg", "missing.jpg", "car.gif", "car.jpg"];
    let run = image(&server, &directory, &files, &[]);
    assert_eq!(
        run.stdout,
        "\
PHOTO         MAKE    MODEL     PROBABILITY                                          TYPICAL RANGE
tractor.jpg   Tesla   Model 3    31.0 %  ██████████······················  unknown   350 to 629 km, median 510
car.jpg       Tesla   Model 3    87.3 %  ████████████████████████████····            350 to 629 km, median 510

unknown: the model does not know the vehicle; what is shown is its best guess

typical range: of the model line's variants, not a prediction for this vehicle; from EV Database, 2025

model   vehicle-classifier version 1 sha256:0123456789ab
"
    );
    assert_eq!(
        run.stderr,
        "\
error: there is no file missing.jpg
  → correct the path; a * that is within quotes is not filled in
error: car.gif: the picture cannot be read (INVALID_ARGUMENT, INVALID_IMAGE)
  image  found GIF, expected JPEG, PNG or WebP
  → correct the fields above; `evctl predict <SERVICE> --help` explains each
4 photos, 2 of them refused
"
    );
    assert_eq!(run.code, 1);

    let run = image(&server, &directory, &files, &["-o", "json"]);
    let lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.iter().map(|line| line["photo"].as_str().expect("a name")).collect::<Vec<_>>(), files);
    assert_eq!(lines[0]["response"]["unknown"], true);
    assert_eq!(lines[1]["error"]["code"], "USAGE");
    assert_eq!(lines[2]["error"]["field_violations"][0]["field"], "image");
    assert_eq!((run.code, run.stderr.as_str()), (1, "4 photos, 2 of them refused\n"));
}

#[test]
fn what_is_not_about_a_photo_ends_it() {
    let (server, directory) = (FakeServer::start(), photos());
    let run = image(&server, &directory, &["car.jpg", "fish.jpg"], &["--model", "nobody"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert_eq!(
        run.stderr,
        "error: no model `nobody` is registered (NOT_FOUND)\n  → see what there is with: evctl models list\n"
    );
    let run = image(&server, &directory, &["car.gif", "empty"], &[]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
}

#[test]
fn a_photo_comes_from_standard_input() {
    let server = FakeServer::start();
    let run = evctl_with_input(&server.url, &["predict", "image", "-"], "tesla");
    assert!(run.stdout.contains("standard input (jpeg, 1600 x 1067 pixels, 5 B)"), "{}{}", run.stdout, run.stderr);
    assert_eq!(evctl_with_input(&server.url, &["predict", "image", "-", "-"], "tesla").code, 2);
}

#[test]
fn the_largest_photo_is_sent() {
    let (server, directory) = (FakeServer::start(), photos());
    let mut bytes = vec![0; 16 << 20];
    fs_err::write(directory.path().join("large.jpg"), &bytes).expect("written");
    let run = image(&server, &directory, &["large.jpg"], &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    bytes.push(0);
    fs_err::write(directory.path().join("large.jpg"), &bytes).expect("written");
    let run = image(&server, &directory, &["large.jpg"], &[]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (
            2,
            "\
error: large.jpg has 16.00 MiB; a photo may have at most 16.00 MiB
  → make it smaller, such as with ImageMagick: magick PHOTO -resize 2048x2048 -quality 90 smaller.jpg
  → nothing is lost by that: models look at a few hundred pixels a side
"
        )
    );
}

#[test]
fn what_is_no_photo_is_refused_before_it_is_sent() {
    let (server, directory) = (FakeServer::start(), photos());
    for (file, expected) in [
        ("missing.jpg", "error: there is no file missing.jpg\n  → correct the path;"),
        (".", "error: . is a directory\n  → name the photos in it: evctl predict image ./*.jpg\n"),
        ("empty", "error: empty is empty\n  → a photo is a JPEG, PNG or WebP file;"),
    ] {
        let run = image(&server, &directory, &[file], &[]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{file}");
        assert!(run.stderr.starts_with(expected), "{}", run.stderr);
    }
    let run = image(&server, &directory, &["car.gif"], &[]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("(INVALID_ARGUMENT, INVALID_IMAGE)\n  image  found GIF"), "{}", run.stderr);
}
