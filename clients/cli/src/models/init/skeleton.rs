//! The manifest's text, with comments that say what else can be told.

use std::fmt::Write as _;

/// Everything a first manifest says.
#[derive(Debug)]
pub(super) struct Skeleton {
    pub(super) name: String,
    pub(super) backend: &'static str,
    pub(super) file: String,
    /// What the file is, on one line.
    pub(super) description: String,
    pub(super) inputs: Vec<SkeletonInput>,
    pub(super) output: String,
    /// Values a row of the output.
    pub(super) width: usize,
    /// Comments on the output.
    pub(super) output_comment: String,
    /// For the person at the terminal: what was found.
    pub(super) summary: String,
    /// For the person at the terminal: what to know.
    pub(super) notes: Vec<String>,
}

/// One input.
#[derive(Debug)]
pub(super) struct SkeletonInput {
    pub(super) name: String,
    /// Columns, for a vector.
    pub(super) width: Option<usize>,
    pub(super) comment: String,
}

const INPUT_COMMENTS: &str = "\
# What a request holds, in the order of the model's columns. Every input may also say:
#   description = \"...\"         shown to whoever asks for the model
#   unit = \"kWh\"                shown with the value
#   range = [0.0, 100.0]        plausible values; anything outside is refused with INVALID_ARGUMENT
#   trained_range = [5.0, 90.0] values seen in training; anything outside is answered and flagged OUT_OF_DISTRIBUTION
#   required = true             a request without it is refused
# nan_is_missing lets a client send NaN for a value it does not have.
";

const GOLDEN_COMMENTS: &str = "\
# Requests with the answers your training library gave; they are checked whenever the version is loaded or verified.
# The format is described in docs/manifest.md.
# [golden]
# file = \"golden.json\"

# What you measured, and on which split.
# [[metrics]]
# name = \"mae\"
# split = \"held out by customer\"
# value = 1.23
# unit = \"1\"
";

// === impl Skeleton ===

impl Skeleton {
    pub(super) fn to_toml(&self) -> String {
        let Skeleton { name, backend, file, description, inputs, output, width, output_comment, .. } = self;
        let mut text = format!(
            "# Written by evctl models init. It can be imported as it is; every key is described in docs/manifest.md.\n\n\
             [model]\n\
             name = {}\n\
             task = \"generic\"                  # served over the Open Inference Protocol\n\
             description = {}\n\
             backend = {}\n\
             license = \"LicenseRef-Internal\"   # SPDX expression of your model's licence\n\
             nature = \"real\"                   # `synthetic` if the labels come from a formula or a simulator\n\n\
             {INPUT_COMMENTS}",
            quoted(name),
            quoted(description),
            quoted(backend)
        );
        for SkeletonInput { name, width, comment } in inputs {
            let comment = if comment.is_empty() { String::new() } else { format!("   # {comment}") };
            let _ = write!(text, "\n[[inputs]]\nname = {}{comment}\ndtype = \"FP32\"\n", quoted(name));
            if let Some(width) = width {
                let _ = writeln!(text, "shape = [{width}]");
            }
            text.push_str("nan_is_missing = true\n");
        }
        let _ = write!(
            text,
            "\n[[heads]]\nname = \"point\"\nfile = {}\n\n\
             # {output_comment}\n[[outputs]]\nname = {}\nkind = \"prediction\"   # the model's own answer, untouched\nwidth = {width}\n\n\
             {GOLDEN_COMMENTS}",
            quoted(file),
            quoted(output)
        );
        text
    }
}

/// A TOML basic string.
pub(in super::super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use ev_models_core::Manifest;

    use super::*;

    #[test]
    fn the_text_is_a_manifest() {
        let input = |name: &str, width| SkeletonInput { name: name.to_owned(), width, comment: "float".to_owned() };
        let skeleton = Skeleton {
            name: "mine".to_owned(),
            backend: "forest",
            file: "m.ubj".to_owned(),
            description: "A \"model\"".to_owned(),
            inputs: vec![input("a \\ \"b\"", None), input("v", Some(3))],
            output: "prediction".to_owned(),
            width: 2,
            output_comment: "two targets".to_owned(),
            summary: String::new(),
            notes: Vec::new(),
        };
        let manifest = Manifest::parse(&skeleton.to_toml()).expect("a manifest");
        assert_eq!(manifest.inputs[0].name, "a \\ \"b\"");
        assert_eq!(manifest.column_count(), 4);
        assert_eq!(manifest.outputs[0].head_width(), 2);
        assert_eq!(manifest.model.description, "A \"model\"");
        assert_eq!(quoted("a\nb"), "\"a\\u000Ab\"");
    }
}
