"""The committed photo models answer as their golden cases say; runs without the data."""

from __future__ import annotations

import hashlib
import json
import tomllib

import numpy as np
import pytest

pytest.importorskip("torch", reason="the models of photos need requirements-photos.txt")

from evzoo.photos.chain import Chain, opened  # noqa: E402
from evzoo.photos.figures import figures, temperature  # noqa: E402
from evzoo.photos.model import load_model, names  # noqa: E402
from scipy.special import softmax  # noqa: E402

ARTIFACT_MAX = 20_000_000


def manifest_of(name: str) -> dict:
    return tomllib.loads((load_model(name).folder / "manifest.toml").read_text())


@pytest.mark.parametrize("name", names())
def test_golden_cases_are_reproduced(name):
    model, manifest = load_model(name), manifest_of(name)
    classes = manifest["outputs"][0]["classes"]
    heat = manifest["calibration"]["tiers"][0]["temperature"]
    answer, golden = model.answerer(model.folder), json.loads((model.folder / "golden.json").read_text())
    assert len(golden["cases"]) >= 3
    for case in golden["cases"]:
        image = opened((model.folder / case["image_file"]).read_bytes())
        logits = answer(model.chain(image)[None])[0]
        # The last bits depend on the processor.
        assert np.allclose(logits, case["margin"], rtol=1e-3, atol=1e-3)
        expected = [case["expected"]["probabilities"][label] for label in classes]
        assert np.allclose(softmax(logits / heat), expected, rtol=1e-3)


@pytest.mark.parametrize("name", names())
def test_files_are_those_of_the_manifest(name):
    folder, manifest = load_model(name).folder, manifest_of(name)
    for entry in manifest["files"]:
        content = (folder / entry["path"]).read_bytes()
        assert len(content) == entry["size"] <= ARTIFACT_MAX
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == entry["sha256"]
    listed = {entry["path"] for entry in manifest["files"]}
    assert {manifest["heads"][0]["file"], "golden.json"} <= listed
    assert {case["image_file"] for case in json.loads((folder / "golden.json").read_text())["cases"]} <= listed


@pytest.mark.parametrize("name", names())
def test_facts_are_about_classes(name):
    manifest = manifest_of(name)
    classes = manifest["outputs"][0]["classes"]
    assert [entry["class"] for entry in manifest["labels"]] == classes
    for entry in manifest["labels"]:
        low, median, high = entry["typical_range_km"]
        assert 0 < low <= median <= high


def test_hugging_face_files_agree_with_the_manifest():
    name = "vehicle-classifier-convnextv2"
    folder, manifest, chain = load_model(name).folder, manifest_of(name), load_model(name).chain
    config = json.loads((folder / "config.json").read_text())
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    classes = manifest["outputs"][0]["classes"]
    assert config["id2label"] == {str(index): label for index, label in enumerate(classes)}
    assert config["image_size"] == processor["size"]["shortest_edge"] == manifest["inputs"][0]["shape"][1]
    assert int(processor["size"]["shortest_edge"] / processor["crop_pct"]) == chain.resize


def test_sizes_are_rounded_as_the_processors_do():
    assert Chain(resize=7, crop=7).picture(opened(png(13, 9))).size == (7, 7)
    assert Chain()(opened(png(9, 13))).shape == (3, 224, 224)


def test_figures_of_a_known_answer():
    classes = ("TESLA_3", "TESLA_S", "KIA_NIRO")
    probabilities = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2]])
    found = figures(probabilities, np.array([0, 1, 2, 2]), classes)
    assert (found.hits, found.photos, found.top3, found.make) == (2, 4, 1.0, 0.75)
    low, high = found.interval
    assert low < found.accuracy < high


def test_temperature_finds_how_much_too_sure_logits_are():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (4000, 5))
    labels = np.array([rng.choice(5, p=p) for p in softmax(logits, axis=1)])
    assert abs(temperature(3 * logits, labels) - 3) < 0.2


def png(width: int, height: int) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (1, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()
