"""A photo in each form that a client may send: to `ev.vision.v1`, and over the v2 protocol as a file and as a tensor.

    python vision.py 127.0.0.1:50051                                       a picture made here, to every bundled model
    python vision.py 127.0.0.1:50051 car.jpg --expect TESLA_3
    python vision.py 127.0.0.1:50051 car.jpg --model photos --preprocessor atto/preprocessor_config.json

Exits with 1 unless all three name the same class with the same probabilities, the tensor's within --tolerance: it is
made by Pillow and NumPy, whose JPEG decoder differs from the server's by a level here and there.
"""

import argparse
import io
import json
import sys

import grpc
import numpy as np
import tritonclient.grpc as triton
from PIL import Image, ImageOps

import bundled
import typed

# Of one file through two services: the same numbers.
SAME = 1e-6
MESSAGE_SIZE_MAX_BYTES = (16 << 20) + (64 << 10)


def example():
    """A picture of gradients, edges and noise, as a PNG, which every decoder reads alike."""
    rows, columns = np.mgrid[0:426, 0:640].astype(np.float64)
    noise = np.random.default_rng(0).normal(0.0, 12.0, (426, 640, 3))
    planes = [rows * 255 / 425, columns * 255 / 639, 127 + 120 * np.sin(rows / 17) * np.cos(columns / 23)]
    pixels = np.stack(planes, axis=-1) + noise
    pixels[140:300, 180:470] = [190, 30, 40]
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def hugging_face(config):
    """A `preprocessor_config.json` as a manifest's recipe; of the rules only those that ConvNeXt and ViT use."""
    kind = config.get("image_processor_type") or config.get("feature_extractor_type") or ""
    filters = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
    recipe = {
        "rescale_factor": config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0,
        "normalize": None,
    }
    if config.get("do_normalize", True):
        half = [0.5, 0.5, 0.5]
        recipe["normalize"] = {"mean": config.get("image_mean") or half, "std": config.get("image_std") or half}
    size = config.get("size")
    if kind.startswith("ConvNext"):
        size = size.get("shortest_edge") if isinstance(size, dict) else size or 384
        square = {"height": size, "width": size}
        warped = size >= 384
        recipe["resize"] = {"exact": square} if warped else {"shortest_edge": int(size / config.get("crop_pct", 0.875))}
        recipe["crop"] = None if warped else square
        recipe["interpolation"] = filters[config.get("resample", 3)]
        return recipe
    if kind.startswith("ViT"):
        size = size or 224
        recipe["resize"] = {"exact": size if isinstance(size, dict) else {"height": size, "width": size}}
        recipe["interpolation"] = filters[config.get("resample", 2)]
        return recipe
    raise SystemExit(f"vision: the steps of the image processor {kind!r} are not known here")


def tensor(file, recipe):
    """The file as `[1, 3, height, width]`, by Pillow and NumPy."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
    method = Image.Resampling[recipe.get("interpolation", "bicubic").upper()]
    resize = recipe.get("resize") or {}
    if "exact" in resize:
        picture = picture.resize((resize["exact"]["width"], resize["exact"]["height"]), method)
    elif "shortest_edge" in resize:
        edge, (width, height) = resize["shortest_edge"], picture.size
        size = (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)
        picture = picture.resize(size, method)
    if crop := recipe.get("crop"):
        left, top = (picture.width - crop["width"]) // 2, (picture.height - crop["height"]) // 2
        picture = picture.crop((left, top, left + crop["width"], top + crop["height"]))
    values = (np.asarray(picture).astype(np.float64) * recipe.get("rescale_factor", 1 / 255)).astype(np.float32)
    if normalize := recipe.get("normalize"):
        values = (values - np.array(normalize["mean"], np.float32)) / np.array(normalize["std"], np.float32)
    if recipe.get("channels") == "bgr":
        values = values[..., ::-1]
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


class Model:
    """A model of pictures as a server has it."""

    def __init__(self, address, name, preprocessor):
        options = [("grpc.max_send_message_length", MESSAGE_SIZE_MAX_BYTES)]
        self.services = typed.Services(address, options)
        self.client = triton.InferenceServerClient(address)
        self.name = name
        request = typed.REGISTRY.GetVersionRequest(model=name, alias="production")
        manifest = json.loads(self.services.registry.GetVersion(request).manifest_json)
        self.output = manifest["outputs"][0]["name"]
        self.classes = manifest["outputs"][0]["classes"]
        self.recipe = manifest["preprocessing"]
        if path := self.recipe.get("hugging_face"):
            text = preprocessor or bundled.ZOO / name / path
            with open(text, encoding="utf-8") as config:
                self.recipe = hugging_face(json.load(config))

    def typed(self, file):
        """The answer of `Classify` as it is, and as one probability a class."""
        selector = typed.COMMON.ModelSelector(name=self.name)
        request = typed.VISION.ClassifyRequest(image=file, top_k=1000, model_selector=selector)
        answer = self.services.vision.Classify(request)
        by_label = {candidate.label: candidate.probability for candidate in answer.candidates}
        return answer, np.array([by_label.get(label, 0.0) for label in self.classes], np.float32)

    def file(self, file):
        """Class and probabilities that the v2 protocol answers to a file."""
        picture = triton.InferInput("image", [1, 1], "BYTES")
        picture.set_data_from_numpy(np.array([[file]], np.object_))
        return self._infer(picture)

    def tensor(self, file):
        """Class and probabilities that the v2 protocol answers to a tensor."""
        values = tensor(file, self.recipe)
        picture = triton.InferInput("image", list(values.shape), "FP32")
        picture.set_data_from_numpy(values)
        return self._infer(picture)

    def _infer(self, picture):
        found = self.client.infer(self.name, [picture])
        label = found.as_numpy(self.output).reshape(-1)[0].decode()
        return label, found.as_numpy(f"{self.output}_probabilities").reshape(-1)


def check(model, name, file, expect, tolerance):
    """What does not agree, in sentences; prints what was found."""
    answer, probabilities = model.typed(file)
    best = answer.candidates[0]
    vehicle = f"{best.make} {best.model}".strip() or best.label
    unknown = ", which it says it does not know" if answer.unknown else ""
    print(f"vision: {model.name} takes {name} for a {vehicle} ({best.label}), {best.probability:.4f}{unknown}")
    problems = []
    if len(model.classes) <= 1000 and abs(float(probabilities.sum()) - 1.0) > 1e-3:
        problems.append(f"the probabilities of all classes sum to {probabilities.sum()}")
    for form, (label, found), limit in [
        ("a file over the v2 protocol", model.file(file), SAME),
        ("a tensor over the v2 protocol", model.tensor(file), tolerance),
    ]:
        if label != best.label:
            problems.append(f"Classify names {best.label}, {form} {label}")
        asked = probabilities > 0.0
        apart = float(np.abs(found - probabilities)[asked].max())
        print(f"vision:   {form}: {label}, probabilities differ by at most {apart:.1e}")
        if not apart <= limit:
            problems.append(f"probabilities of {form} differ by {apart}, expected at most {limit}")
    if expect is not None and best.label != expect:
        problems.append(f"the answer is {best.label}, expected {expect}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("photo", nargs="?", help="a JPEG, PNG or WebP file; without one, a picture is made")
    parser.add_argument("--model", help="default: every bundled model of pictures")
    parser.add_argument("--expect", metavar="LABEL", help="the class that has to be the likeliest")
    parser.add_argument("--preprocessor", help="preprocessor_config.json of a model whose manifest only names it")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of the tensor's probabilities (0.001)")
    options = parser.parse_args()

    models = [options.model] if options.model else bundled.PICTURE_MODELS
    if not models:
        print("vision: skipped, no bundled model takes pictures")
        return 0
    file = example()
    if options.photo:
        with open(options.photo, "rb") as photo:
            file = photo.read()
    problems = []
    for name in models:
        try:
            model = Model(options.address, name, options.preprocessor)
            problems += check(model, options.photo or "a made picture", file, options.expect, options.tolerance)
        except grpc.RpcError as error:
            problems.append(f"{name}: {error.code().name}: {error.details()}")
    for problem in problems:
        print(f"vision: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
