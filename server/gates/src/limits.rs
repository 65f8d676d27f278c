//! A row costs no more time, and an instance takes no more memory, than the manifest says.

use bytesize::ByteSize;
use ev_models_core::Manifest;

use crate::{Subject, gate::Verdict};

pub(crate) fn latency(manifest: &Manifest, subject: Subject<'_>) -> Verdict {
    let Some(limit) = &manifest.limits.latency else {
        return Verdict::not_applicable("the manifest states no limit", "`limits.latency`, where it is stated");
    };
    let required = format!("at most {limit} a row");
    let Ok(max) = humantime::parse_duration(limit) else {
        return Verdict::failed(
            format!("`limits.latency` is `{limit}`, which is no duration"),
            "a duration such as `1ms`",
            "state it in the manifest and register it as a new version",
        );
    };
    let Subject::Loaded { measured, .. } = subject else { return not_loaded(required) };
    let Some(row) = measured.row.filter(|_| measured.row_counts) else {
        return Verdict::not_applicable("the cost of a row was not measured", required);
    };
    let found = format!("{row:?} a row, the cheapest of those run when it was loaded");
    if row <= max {
        Verdict::passed(found, required)
    } else {
        Verdict::failed(found, required, "register a smaller model, or raise `limits.latency` knowingly")
    }
}

pub(crate) fn memory(manifest: &Manifest, subject: Subject<'_>) -> Verdict {
    let Some(limit) = &manifest.limits.memory else {
        return Verdict::not_applicable("the manifest states no limit", "`limits.memory`, where it is stated");
    };
    let required = format!("at most {limit} an instance");
    let Ok(max) = limit.parse::<ByteSize>() else {
        return Verdict::failed(
            format!("`limits.memory` is `{limit}`, which is no size"),
            "a size such as `16MiB`",
            "state it in the manifest and register it as a new version",
        );
    };
    let Subject::Loaded { measured, .. } = subject else { return not_loaded(required) };
    let Some(bytes) = measured.instance_bytes else {
        return Verdict::not_applicable("what an instance takes was not measured", required);
    };
    let found = format!("at least {}", ByteSize(bytes));
    if bytes <= max.as_u64() {
        Verdict::passed(found, required)
    } else {
        Verdict::failed(found, required, "register a smaller model, or raise `limits.memory` knowingly")
    }
}

fn not_loaded(required: String) -> Verdict {
    Verdict::not_applicable("the version does not load", required)
}
