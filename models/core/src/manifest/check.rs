//! Consistency: every name exists, every list has its length, every number is finite and ordered.

use std::collections::HashSet;

use super::{
    Body, Calibration, DefaultValue, HeadName, Input, Label, Manifest, ManifestError, Operation, Output, OutputKind,
    Preprocessing, Task, preprocessing,
};
use crate::DataType;

/// Bounds of a manifest's lists: far above any honest model, low enough that a hostile one costs nothing.
const MAX_INPUTS: usize = 1024;
/// An image of three colours, 512 by 512, fits; a row of so many columns takes 4 MiB.
const MAX_COLUMNS: usize = 1 << 20;
const MAX_CLASSES: usize = 1024;
const MAX_VARIANTS: usize = 64;
/// A row's rules are kept as bits of one word.
const MAX_RULES: usize = 64;
const MAX_BATCH_ROWS: usize = 1 << 20;

type Checked = Result<(), ManifestError>;

fn invalid(place: impl Into<String>, problem: impl Into<String>) -> ManifestError {
    ManifestError::Invalid { place: place.into(), problem: problem.into() }
}

fn ensure(holds: bool, place: impl FnOnce() -> String, problem: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(invalid(place(), problem())) }
}

pub(super) fn check(manifest: &Manifest) -> Checked {
    check_model(manifest)?;
    check_inputs(manifest)?;
    preprocessing::check(manifest)?;
    if let Some(path) = manifest.preprocessing.as_ref().and_then(Preprocessing::file) {
        check_path(path, || "preprocessing.hugging_face".into())?;
    }
    check_columns(manifest)?;
    ensure(
        manifest.outputs.len() == 1,
        || "outputs".into(),
        || format!("has {} entries, expected 1", manifest.outputs.len()),
    )?;
    let output = &manifest.outputs[0];
    check_output(manifest, output)?;
    check_labels(manifest, output)?;
    check_variants(manifest)?;
    for (index, variant) in manifest.variants.iter().enumerate() {
        check_body(manifest, output, &variant.body, &format!("variants[{index}]."))?;
    }
    if let Some(body) = &manifest.body {
        check_body(manifest, output, body, "")?;
    }
    if let Some(golden) = &manifest.golden {
        check_path(&golden.file, || "golden.file".into())?;
        ensure(
            (0.0..=0.1).contains(&golden.tolerance),
            || "golden.tolerance".into(),
            || format!("is {}, expected 0 to 0.1", golden.tolerance),
        )?;
    }
    let rows = manifest.limits.max_batch_rows;
    ensure(
        (1..=MAX_BATCH_ROWS).contains(&rows),
        || "limits.max_batch_rows".into(),
        || format!("is {rows}, expected 1 to {MAX_BATCH_ROWS}"),
    )?;
    let mut paths = HashSet::new();
    for (index, file) in manifest.files.iter().enumerate() {
        check_path(&file.path, || format!("files[{index}].path"))?;
        ensure(paths.insert(&file.path), || format!("files[{index}].path"), || "is listed twice".into())?;
    }
    for (index, metric) in manifest.metrics.iter().enumerate() {
        let numbers = [Some(metric.value), metric.baseline, metric.naive];
        ensure(
            numbers.iter().flatten().all(|value| value.is_finite()),
            || format!("metrics[{index}]"),
            || "holds a number that is not finite".into(),
        )?;
    }
    Ok(())
}

fn check_model(manifest: &Manifest) -> Checked {
    check_model_name(&manifest.model.name)?;
    ensure(
        !manifest.model.license.trim().is_empty(),
        || "model.license".into(),
        || "is empty, expected an SPDX expression such as Apache-2.0".into(),
    )?;
    ensure(
        manifest.model.description.len() <= 1000,
        || "model.description".into(),
        || "is longer than 1000 bytes".into(),
    )
}

fn check_model_name(name: &str) -> Checked {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    ensure(
        first && rest && name.len() <= 63,
        || "model.name".into(),
        || format!("is `{name}`, expected lower-case letters, digits and `-`, at most 63"),
    )
}

/// A path inside the version's directory: relative, without `..`, plain names only.
fn check_path(path: &str, place: impl Fn() -> String) -> Checked {
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    ensure(path.len() <= 255 && path.split('/').all(plain), &place, || {
        format!("is `{path}`, expected a relative path of letters, digits, `.`, `_`, `-` and `/`")
    })?;
    let lower = path.to_ascii_lowercase();
    let pickled = [".pkl", ".pickle", ".joblib", ".pt", ".pth", ".sav"].into_iter().find(|end| lower.ends_with(end));
    ensure(pickled.is_none(), place, || {
        format!(
            "is `{path}`: pickled models run arbitrary code when they are loaded and are never accepted; \
             save XGBoost models as .ubj or .json, others as ONNX"
        )
    })
}

fn check_inputs(manifest: &Manifest) -> Checked {
    let count = manifest.inputs.len();
    ensure(
        (1..=MAX_INPUTS).contains(&count),
        || "inputs".into(),
        || format!("has {count} entries, expected 1 to {MAX_INPUTS}"),
    )?;
    let mut names = HashSet::new();
    for (index, input) in manifest.inputs.iter().enumerate() {
        let place = |key: &str| format!("inputs[{index}].{key}");
        let name_ok = !input.name.is_empty() && input.name.len() <= 128 && !input.name.contains(char::is_control);
        ensure(name_ok, || place("name"), || "is empty, longer than 128 bytes or holds control characters".into())?;
        ensure(names.insert(&input.name), || place("name"), || format!("`{}` stands twice", input.name))?;
        check_input_type(input, &place)?;
        check_interval(input.range, || place("range"))?;
        check_interval(input.trained_range, || place("trained_range"))?;
        check_vocabulary(input, &place)?;
        check_default(input, &place)?;
        check_max_age(input, &place)?;
    }
    Ok(())
}

fn check_input_type(input: &Input, place: &dyn Fn(&str) -> String) -> Checked {
    match input.dtype {
        DataType::Fp32 => {
            let width = input.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
            ensure(
                width.is_some_and(|width| (1..=MAX_COLUMNS).contains(&width)),
                || place("shape"),
                || format!("is {:?}, expected 1 to {MAX_COLUMNS} values", input.shape),
            )?;
        }
        DataType::Bytes | DataType::Bool => {
            ensure(
                input.shape.is_empty(),
                || place("shape"),
                || format!("is {:?}, expected none: {} inputs are single values", input.shape, input.dtype.name()),
            )?;
        }
        other => {
            return Err(invalid(place("dtype"), format!("is {}, expected FP32, BYTES or BOOL", other.name())));
        }
    }
    let number = input.dtype == DataType::Fp32;
    ensure(
        number || (input.range.is_none() && input.trained_range.is_none()),
        || place("range"),
        || "is only for FP32".into(),
    )?;
    ensure(number || !input.nan_is_missing, || place("nan_is_missing"), || "is only for FP32".into())
}

fn check_interval(interval: Option<[f64; 2]>, place: impl FnOnce() -> String) -> Checked {
    let Some([min, max]) = interval else { return Ok(()) };
    ensure(min.is_finite() && max.is_finite() && min <= max, place, || {
        format!("is [{min}, {max}], expected two finite numbers in order")
    })
}

fn check_vocabulary(input: &Input, place: &dyn Fn(&str) -> String) -> Checked {
    let texts = input.dtype == DataType::Bytes;
    ensure(texts || input.vocabulary.is_empty(), || place("vocabulary"), || "is only for BYTES".into())?;
    let mut known = HashSet::new();
    for text in &input.vocabulary {
        let key = text.trim().to_lowercase();
        ensure(
            !key.is_empty() && text.len() <= 256,
            || place("vocabulary"),
            || format!("holds `{text}`, expected 1 to 256 bytes"),
        )?;
        ensure(
            known.insert(key),
            || place("vocabulary"),
            || format!("holds `{text}` twice (case and outer blanks do not count)"),
        )?;
    }
    let lengths = input.encode.is_empty() || input.encode.len() == input.vocabulary.len();
    ensure(
        lengths && input.encode.iter().all(|code| code.is_finite()),
        || place("encode"),
        || format!("has {} entries, expected {} finite numbers", input.encode.len(), input.vocabulary.len()),
    )
}

fn check_default(input: &Input, place: &dyn Fn(&str) -> String) -> Checked {
    let Some(default) = &input.default else { return Ok(()) };
    let fits = match (input.dtype, default) {
        (DataType::Fp32, DefaultValue::Number(number)) => {
            number.is_finite() && input.range.is_none_or(|[min, max]| (min..=max).contains(number))
        }
        (DataType::Bool, DefaultValue::Flag(_)) => true,
        (DataType::Bytes, DefaultValue::Text(text)) => {
            input.vocabulary.is_empty() || input.vocabulary.iter().any(|known| known.eq_ignore_ascii_case(text.trim()))
        }
        _ => false,
    };
    ensure(
        fits && !input.required,
        || place("default"),
        || "must be of the input's type, in its range or vocabulary, and not stand with `required`".into(),
    )
}

fn check_max_age(input: &Input, place: &dyn Fn(&str) -> String) -> Checked {
    let Some(max_age) = &input.max_age else { return Ok(()) };
    ensure(
        humantime::parse_duration(max_age).is_ok_and(|age| !age.is_zero()),
        || place("max_age"),
        || format!("is `{max_age}`, expected a duration such as `10s`, `15m` or `30d`"),
    )
}

fn check_columns(manifest: &Manifest) -> Checked {
    let mut known: HashSet<&str> = manifest.inputs.iter().map(|input| input.name.as_str()).collect();
    let vectors: HashSet<&str> =
        manifest.inputs.iter().filter(|input| !input.shape.is_empty()).map(|input| input.name.as_str()).collect();
    for (index, derived) in manifest.derived.iter().enumerate() {
        let place = |key: &str| format!("derived[{index}].{key}");
        let operands = match derived.op {
            Operation::Ratio | Operation::Product | Operation::Sum | Operation::Difference => 2,
            Operation::Ln | Operation::Log10 => 1,
        };
        ensure(
            derived.of.len() == operands,
            || place("of"),
            || format!("has {} names, expected {operands}", derived.of.len()),
        )?;
        for name in &derived.of {
            let scalar = known.contains(name.as_str()) && !vectors.contains(name.as_str());
            ensure(
                scalar,
                || place("of"),
                || format!("names `{name}`, expected a single-valued input or an earlier derived column"),
            )?;
        }
        ensure(known.insert(&derived.name), || place("name"), || format!("`{}` stands twice", derived.name))?;
    }
    let mut seen = HashSet::new();
    for name in &manifest.columns {
        ensure(
            known.contains(name.as_str()),
            || "columns".into(),
            || format!("names `{name}`, which is neither an input nor a derived column"),
        )?;
        ensure(seen.insert(name), || "columns".into(), || format!("names `{name}` twice"))?;
    }
    for name in manifest.column_names() {
        let raw_text = manifest
            .inputs
            .iter()
            .any(|input| input.name == name && input.dtype == DataType::Bytes && input.vocabulary.is_empty());
        ensure(!raw_text, || "columns".into(), || format!("names the text `{name}`, which has no vocabulary"))?;
    }
    let count = manifest.column_count();
    ensure(
        (1..=MAX_COLUMNS).contains(&count),
        || "columns".into(),
        || format!("are {count} values, expected 1 to {MAX_COLUMNS}"),
    )
}

fn check_output(manifest: &Manifest, output: &Output) -> Checked {
    let place = |key: &str| format!("outputs[0].{key}");
    let name_ok = !output.name.is_empty() && output.name.len() <= 128;
    ensure(name_ok, || place("name"), || "is empty or longer than 128 bytes".into())?;
    check_interval(output.range, || place("range"))?;
    let classes = output.kind == OutputKind::Classes;
    ensure(
        classes != output.classes.is_empty(),
        || place("classes"),
        || "must be given for kind `classes` and for no other".into(),
    )?;
    ensure(output.classes.len() <= MAX_CLASSES, || place("classes"), || format!("are more than {MAX_CLASSES}"))?;
    let mut seen = HashSet::new();
    ensure(output.classes.iter().all(|class| seen.insert(class)), || place("classes"), || "name a class twice".into())?;
    let mut learned = HashSet::new();
    for class in &output.learned {
        ensure(
            output.classes.contains(class) && learned.insert(class),
            || place("learned"),
            || format!("names `{class}` twice or not among `classes`"),
        )?;
    }
    ensure(output.rules.len() <= MAX_RULES, || place("rules"), || format!("are more than {MAX_RULES}"))?;
    for (index, rule) in output.rules.iter().enumerate() {
        let place = |key: &str| format!("outputs[0].rules[{index}].{key}");
        let is_learned = output.learned_classes().contains(&rule.from.as_str());
        ensure(is_learned, || place("from"), || format!("is `{}`, expected a learned class", rule.from))?;
        let to_ok = output.classes.contains(&rule.to) && rule.to != rule.from;
        ensure(to_ok, || place("to"), || format!("is `{}`, expected another of `classes`", rule.to))?;
        ensure(!rule.when.is_empty(), || place("when"), || "is empty".into())?;
        for condition in &rule.when {
            let number = manifest
                .inputs
                .iter()
                .any(|input| input.name == condition.input && input.dtype != DataType::Bytes && input.shape.is_empty());
            ensure(
                number,
                || place("when"),
                || format!("names `{}`, expected a single-valued FP32 or BOOL input", condition.input),
            )?;
            let bounds = [condition.below, condition.at_least];
            let bounded = bounds.iter().flatten().count() >= 1 && bounds.iter().flatten().all(|b| b.is_finite());
            ensure(bounded, || place("when"), || "needs a finite `below` or `at_least`".into())?;
        }
    }
    for class in &output.classes {
        let learned = output.learned_classes().contains(&class.as_str());
        let ruled = output.rules.iter().any(|rule| rule.to == *class);
        ensure(
            learned || ruled,
            || place("classes"),
            || format!("name `{class}`, which is neither learned nor given by a rule: it could never occur"),
        )?;
    }
    if let Some(below) = output.unknown_below {
        ensure(classes, || place("unknown_below"), || "is only for kind `classes`".into())?;
        ensure(
            manifest.inputs.len() == 1,
            || place("unknown_below"),
            || format!("is only for models of one input, which the flag is about; there are {}", manifest.inputs.len()),
        )?;
        ensure((0.0..=1.0).contains(&below), || place("unknown_below"), || format!("is {below}, expected 0 to 1"))?;
    }
    ensure(
        manifest.model.task != Task::ImageClassification || classes,
        || place("kind"),
        || format!("is {:?}, expected `classes` for task `image_classification`", output.kind),
    )?;
    ensure(
        output.width.is_none_or(|width| (1..=MAX_CLASSES).contains(&width)),
        || place("width"),
        || format!("is not 1 to {MAX_CLASSES}"),
    )
}

/// Facts are about classes that there are, and numbers are in order.
fn check_labels(manifest: &Manifest, output: &Output) -> Checked {
    let mut seen = HashSet::new();
    for (index, label) in manifest.labels.iter().enumerate() {
        let place = |key: &str| format!("labels[{index}].{key}");
        let Label { class, make, model, typical_range_km, range_source } = label;
        ensure(
            output.classes.contains(class),
            || place("class"),
            || format!("is `{class}`, expected one of `outputs[0].classes`"),
        )?;
        ensure(seen.insert(class), || place("class"), || format!("`{class}` stands twice"))?;
        for (key, text) in
            [("make", make.as_str()), ("model", model), ("range_source", range_source.as_deref().unwrap_or("-"))]
        {
            let fits = text.len() <= 256 && !text.contains(char::is_control);
            ensure(fits, || place(key), || "is longer than 256 bytes or holds control characters".into())?;
        }
        if let Some([low, median, high]) = *typical_range_km {
            let ordered = low > 0.0 && low <= median && median <= high && high.is_finite();
            ensure(
                ordered,
                || place("typical_range_km"),
                || format!("is [{low}, {median}, {high}], expected lowest, median and highest, in order and above 0"),
            )?;
        }
        ensure(
            typical_range_km.is_some() == range_source.as_deref().is_some_and(|source| !source.is_empty()),
            || place("range_source"),
            || "must stand with `typical_range_km` and only with it: a number needs its source".into(),
        )?;
    }
    Ok(())
}

fn check_variants(manifest: &Manifest) -> Checked {
    let Some(name) = &manifest.variant_by else {
        return ensure(manifest.variants.is_empty(), || "variant_by".into(), || "is missing beside `variants`".into());
    };
    ensure(!manifest.variants.is_empty(), || "variants".into(), || "is missing beside `variant_by`".into())?;
    ensure(manifest.variants.len() <= MAX_VARIANTS, || "variants".into(), || format!("are more than {MAX_VARIANTS}"))?;
    let text = manifest.inputs.iter().any(|input| input.name == *name && input.dtype == DataType::Bytes);
    ensure(text, || "variant_by".into(), || format!("names `{name}`, expected a BYTES input"))?;
    let mut values = HashSet::new();
    let distinct = manifest.variants.iter().all(|variant| values.insert(variant.value.trim().to_lowercase()));
    ensure(distinct, || "variants".into(), || "name a value twice".into())
}

fn check_body(manifest: &Manifest, output: &Output, body: &Body, prefix: &str) -> Checked {
    let place = |key: &str| format!("{prefix}{key}");
    let points = body.heads.iter().filter(|head| head.name == HeadName::Point).count();
    ensure(
        points == 1 && body.heads.len() <= 2,
        || place("heads"),
        || "expected one head `point` and at most one head `spread`".into(),
    )?;
    for (index, head) in body.heads.iter().enumerate() {
        check_path(&head.file, || place(&format!("heads[{index}].file")))?;
    }
    let spread = body.head(HeadName::Spread).is_some();
    ensure(
        !spread || output.kind == OutputKind::Quantiles,
        || place("heads"),
        || "a `spread` head is only for `quantiles`".into(),
    )?;
    if let Some(linear) = &body.linear {
        let columns = manifest.column_names();
        ensure(linear.intercept.is_finite(), || place("linear.intercept"), || "is not finite".into())?;
        let scalar_score = matches!(output.kind, OutputKind::Quantiles | OutputKind::Probability);
        ensure(scalar_score, || place("linear"), || "is only for `quantiles` and `probability`".into())?;
        for (index, term) in linear.terms.iter().enumerate() {
            let column = columns.contains(&term.column.as_str())
                && manifest.inputs.iter().all(|input| input.name != term.column || input.shape.is_empty());
            ensure(
                column,
                || place(&format!("linear.terms[{index}].column")),
                || format!("is `{}`, expected a single-valued column", term.column),
            )?;
            let finite = term.weight.is_finite() && term.center.is_finite();
            ensure(finite, || place(&format!("linear.terms[{index}]")), || "holds a number that is not finite".into())?;
        }
    }
    match &body.calibration {
        Some(calibration) => check_calibration(output, calibration, prefix),
        None => ensure(
            output.kind == OutputKind::Prediction,
            || place("calibration"),
            || "is missing: only outputs of kind `prediction` go without".into(),
        ),
    }
}

fn check_calibration(output: &Output, calibration: &Calibration, prefix: &str) -> Checked {
    let place = |key: &str| format!("{prefix}calibration.{key}");
    ensure(
        calibration.spread_floor.is_finite() && calibration.spread_floor >= 0.0,
        || place("spread_floor"),
        || format!("is {}, expected 0 or more", calibration.spread_floor),
    )?;
    let tiers = &calibration.tiers;
    let falling = tiers.windows(2).all(|pair| pair[0].min_coverage > pair[1].min_coverage);
    let last = tiers.last().map(|tier| tier.min_coverage);
    ensure(
        falling && last == Some(0.0),
        || place("tiers"),
        || "expected `min_coverage` falling from tier to tier, the last 0.0".into(),
    )?;
    for (index, tier) in tiers.iter().enumerate() {
        let place = |key: &str| place(&format!("tiers[{index}].{key}"));
        match output.kind {
            OutputKind::Quantiles => {
                let z_ok = tier.z.is_some_and(|z| z.iter().all(|value| value.is_finite()) && z.is_sorted());
                ensure(z_ok, || place("z"), || "expected three finite numbers in order".into())?;
            }
            OutputKind::Probability => {
                let slope_ok = tier.slope.is_some_and(|slope| slope.is_finite() && slope > 0.0);
                ensure(slope_ok, || place("slope"), || "expected a number above 0".into())?;
                let intercept_ok = tier.intercept.is_some_and(f64::is_finite);
                ensure(intercept_ok, || place("intercept"), || "expected a finite number".into())?;
            }
            OutputKind::Classes => {
                let temperature_ok = tier.temperature.is_some_and(|value| value.is_finite() && value > 0.0);
                ensure(temperature_ok, || place("temperature"), || "expected a number above 0".into())?;
                let learned = output.learned_classes().len();
                let bias_ok = (tier.bias.is_empty() || tier.bias.len() == learned)
                    && tier.bias.iter().all(|value| value.is_finite());
                ensure(bias_ok, || place("bias"), || format!("expected {learned} finite numbers"))?;
            }
            OutputKind::Prediction => {
                return Err(invalid(place(""), "an output of kind `prediction` is not calibrated"));
            }
        }
    }
    Ok(())
}

// === impl Output ===

impl Output {
    /// The classes the head has columns for.
    #[must_use]
    pub fn learned_classes(&self) -> Vec<&str> {
        let classes = if self.learned.is_empty() { &self.classes } else { &self.learned };
        classes.iter().map(String::as_str).collect()
    }

    /// Values a row that the point head must give.
    #[must_use]
    pub fn head_width(&self) -> usize {
        match self.kind {
            OutputKind::Quantiles | OutputKind::Probability => 1,
            OutputKind::Classes => self.learned_classes().len(),
            OutputKind::Prediction => self.width.unwrap_or(1),
        }
    }
}
