"""The manifest of a fitted model."""

from __future__ import annotations

from . import toml
from .body import Body
from .model import Fitted
from .signature import Input
from .vocabulary import feature


def manifest(fitted: Fitted, files: dict[str, dict[str, str]], training: dict, metrics: list[dict]) -> str:
    """`manifest.toml`; `files` names each body's heads."""
    model = fitted.model
    output = {"name": model.output.name, "kind": model.output.kind, "unit": model.output.unit}
    if model.output.kind == "quantiles":
        output |= {"link": model.output.link, "range": list(model.output.range)}
    if model.output.classes:
        output |= {"classes": list(model.output.classes), "learned": list(model.output.learned)}
        output["rules"] = [{"from": r.source, "to": r.to, "when": list(r.when)} for r in model.output.rules]
    body: dict = {"columns": list(fitted.signature.column_names)}
    if model.variant_by:
        body["variant_by"] = model.variant_by
        body["variants"] = [{"value": v, **tables(b, files[v])} for v, b in fitted.bodies.items()]
    else:
        body |= tables(fitted.bodies[""], files[""])
    document = {
        "columns": body.pop("columns"),
        "variant_by": body.pop("variant_by", None),
        "model": {
            "name": model.name,
            "task": model.task,
            "description": model.description,
            "backend": "forest",
            "license": model.license,
            "nature": model.nature,
        },
        "inputs": [table(item) for item in fitted.signature.inputs],
        "derived": [{"name": d.name, "op": d.op, "of": list(d.of)} for d in fitted.signature.derived],
        **body,
        "outputs": [output],
        "golden": {"file": "golden.json"},
        "training": training,
        "metrics": metrics,
        "limits": {"max_batch_rows": 8192, "memory": "16MiB", "latency": model.latency},
    }
    head = f"# Written by `make train MODEL={model.name}`; change {model.name}/train.py instead.\n\n"
    return head + toml.dumps({key: value for key, value in document.items() if value not in (None, [])})


def table(item: Input) -> dict:
    """One `[[inputs]]`."""
    spec = feature(item.name)
    content: dict = {"name": item.name, "dtype": spec.dtype, "unit": spec.unit}
    content["range"] = list(spec.range) if spec.range else None
    if item.trained_range and spec.dtype == "FP32":
        content["trained_range"] = list(item.trained_range)
    if item.vocabulary:
        content["vocabulary"] = list(item.vocabulary)
        content["match"] = None if item.match == "exact" else item.match
        content["encode"] = list(item.encode) if item.encode else None
    content["required"] = True if item.required else None
    content |= {"default": item.default, "max_age": item.max_age, "if_stale": item.if_stale}
    content |= {"vss": item.vss, "aggregate": item.aggregate}
    content["description"] = item.description
    return {key: value for key, value in content.items() if value is not None}


def tables(body: Body, files: dict[str, str]) -> dict:
    """Heads, linear term and calibration of a body."""
    content: dict = {"heads": [{"name": name, "file": file} for name, file in files.items()]}
    if body.linear:
        terms = [{"column": c, "weight": w, "center": m} for c, w, m in body.linear.terms]
        content["linear"] = {"intercept": body.linear.intercept, "terms": terms}
    tiers = []
    for tier in body.tiers:
        entry: dict = {"min_coverage": tier.min_coverage}
        if tier.z:
            entry["z"] = list(tier.z)
        elif tier.bias is not None:
            entry |= {"temperature": tier.temperature, "bias": list(tier.bias)}
        else:
            entry |= {"slope": tier.slope, "intercept": tier.intercept}
        tiers.append(entry | tier.measured)
    content["calibration"] = {"method": body.method}
    if body.spread is not None:
        content["calibration"]["spread_floor"] = body.spread_floor
    content["calibration"]["tiers"] = tiers
    return content
