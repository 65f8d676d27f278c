"""Prints measured figures, and writes them into manifests and model cards."""

from __future__ import annotations

from .measure import Part
from .model import Model

UNITS = {"km": "km", "percent": "points", "cycles": "cycles", "celsius": "°C", "sessions_per_day": "sessions/day"}


def lines(model: Model, parts: list[Part]) -> list[str]:
    """The evaluation as text, a line per part and style of request."""
    unit = UNITS.get(model.output.unit, "")
    out = []
    for p in parts:
        f = p.figures
        if "mae" in f:
            score = f"MAE {f['mae']:.4g} {unit} (baseline {f['mae_baseline']:.4g}, naive {f['mae_naive']:.4g}), "
            score += f"R2 {f['r2']:.3f} ({f['r2_baseline']:.3f})"
            if model.bars.get(p.part) and model.bars[p.part].score == "mape":
                score += f", error {f['mape']:.2%} (baseline {f['mape_baseline']:.2%}, naive {f['mape_naive']:.2%})"
            score += f"; q10..q90 covers {f['coverage']:.1%}, width {f['width']:.4g} "
            score += f"(constant {f['constant_width']:.4g}, covers {f['constant_coverage']:.1%}; at equal coverage {f['equal_width']:.4g})"
        elif "auc" in f:
            score = f"AUC {f['auc']:.3f} (baseline {f['auc_baseline']:.3f}, naive 0.500), "
            score += f"Brier {f['brier']:.4f} ({f['brier_baseline']:.4f}, naive {f['brier_naive']:.4f}); "
            score += f"calibration error {f['calibration_error']:.3f} ({f['calibration_error_baseline']:.3f})"
        else:
            score = f"macro-F1 {f['macro_f1']:.3f} (baseline {f['macro_f1_baseline']:.3f}, "
            score += f"naive {f['macro_f1_naive']:.3f}), accuracy {f['accuracy']:.3f} ({f['accuracy_baseline']:.3f}); "
            score += f"calibration error {f['calibration_error']:.3f} ({f['calibration_error_baseline']:.3f})"
        verdict = "ok" if not p.failures else "MISSED: " + "; ".join(p.failures)
        out.append(f"{model.name:22} {p.part:22} {p.style:8} n={p.rows:<6} {score}  [{verdict}]")
    return out


def metrics(model: Model, parts: list[Part]) -> list[dict]:
    """`[[metrics]]` of the manifest."""
    found = []
    for p in parts:
        f, where = p.figures, f"{model.split}; {p.part}; {p.style} request"
        for name in ("mae", "r2", "mape", "auc", "macro_f1"):
            if name in f and (name != "mape" or _is_mape(model, p)):
                entry = {"name": name, "split": where, "value": _round(f[name]), "baseline": _round(f[f"{name}_baseline"])}
                entry["unit"] = model.output.unit if name == "mae" else "1"
                if f"{name}_naive" in f:
                    entry["naive"] = _round(f[f"{name}_naive"])
                found.append(entry)
        if "coverage" in f:
            found.append(_plain("interval_coverage", where, f["coverage"], f["constant_coverage"], "1"))
            found.append(_plain("interval_width", where, f["width"], f["constant_width"], model.output.unit))
        if "calibration_error" in f:
            found.append(_plain("calibration_error", where, f["calibration_error"], f["calibration_error_baseline"], "1"))
    return found


def _plain(name: str, split: str, value: float, baseline: float, unit: str) -> dict:
    return {"name": name, "split": split, "value": _round(value), "baseline": _round(baseline), "unit": unit}


def _is_mape(model: Model, part: Part) -> bool:
    bar = model.bars.get(part.part)
    return bool(bar) and bar.score == "mape"


def _round(value: float) -> float:
    return float(f"{value:.5g}")


def card(model: Model, parts: list[Part], training: dict, figures: list[tuple[str, str]]) -> str:
    """`README.md`, the model card."""
    text = [f"# {model.name}", "", model.description, ""]
    text += [f"<!-- Written by `make train MODEL={model.name}`; change train.py instead. -->", ""]
    for title in ("What it answers", "Intended use", "Classes"):
        if title in model.card:
            text += [f"## {title}", "", model.card[title].strip(), ""]
    required = ", ".join(f"`{name}`" for name in model.signature.required) or "none"
    text += ["## Inputs", "", f"Required: {required}; everything else may be left out. `manifest.toml` lists all "]
    text[-1] += f"{len(model.signature.inputs)} inputs with units, plausible and trained ranges."
    text += ["", "## Measured", ""]
    text += [f"Split: {model.split}.", f"Baseline: {model.card['Baseline'].strip()}"]
    text += [f"Naive: {model.card.get('Naive', 'the mean of the training rows.')}"]
    text += ["Minimal request: " + model.card.get("Minimal", "the required inputs only."), ""]
    text += table(model, parts)
    missed = [f"- {p.part}, {p.style} request: {failure}." for p in parts for failure in p.failures]
    text += ["", "All bars of `make eval` are met." if not missed else "Bars of `make eval` that are missed:", *missed]
    if figures:
        text += ["", "Also measured:", "", "| what | figure |", "|---|---|"]
        text += [f"| {name} | {value} |" for name, value in figures]
    text += ["", f"Trained on {training['rows']} rows in {training['groups']} groups. Reproduce with `{training['command']}`;"]
    text += [f"`make eval MODEL={model.name} DATA=...` measures again what is in these tables.", ""]
    for title in ("Data", "What would be a leak", "How it works", "Limits"):
        if title in model.card:
            text += [f"## {title}", "", model.card[title].strip(), ""]
    text += ["## Licence", "", f"Model: {model.license}. Labels: {model.nature}.", ""]
    return "\n".join(text)


def table(model: Model, parts: list[Part]) -> list[str]:
    """The measured figures as a Markdown table."""
    if model.output.kind == "quantiles":
        unit = UNITS[model.output.unit]
        mape = any(_is_mape(model, p) for p in parts)
        head = ["part", "request", "rows / groups", f"MAE, {unit}", "baseline", "naive", "R2", "baseline R2"]
        head += ["error", "baseline error"] if mape else []
        head += ["q10..q90 covers", "mean width", "constant width", "constant covers", "constant width of equal coverage"]
        keys = ["mae", "mae_baseline", "mae_naive", "r2", "r2_baseline"] + (["mape", "mape_baseline"] if mape else [])
        keys += ["coverage", "width", "constant_width", "constant_coverage", "equal_width"]
    elif model.output.kind == "probability":
        head = ["part", "request", "rows / groups", "AUC", "baseline", "naive", "Brier", "baseline Brier", "naive Brier"]
        head += ["calibration error", "of the baseline", "events"]
        keys = ["auc", "auc_baseline", "auc_naive", "brier", "brier_baseline", "brier_naive"]
        keys += ["calibration_error", "calibration_error_baseline", "rate"]
    else:
        head = ["part", "request", "rows / groups", "macro-F1", "baseline", "naive", "accuracy", "baseline accuracy"]
        head += ["naive accuracy", "calibration error", "of the baseline"]
        keys = ["macro_f1", "macro_f1_baseline", "macro_f1_naive", "accuracy", "accuracy_baseline", "accuracy_naive"]
        keys += ["calibration_error", "calibration_error_baseline"]
    rows = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * (len(head) - 2)]
    for p in parts:
        cells = [p.part, p.style, f"{p.rows} / {p.groups}"] + [_cell(key, p.figures[key]) for key in keys]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _cell(key: str, value: float) -> str:
    if key in ("coverage", "constant_coverage", "mape", "mape_baseline", "rate"):
        return f"{value:.1%}"
    if key.startswith(("mae", "width", "constant_width", "equal_width")):
        return f"{value:.4g}"
    return f"{value:.3f}"
