"""Which of eight electric cars a photo shows, by a ConvNeXt V2 Atto that needs no native library."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import torch
from evzoo.photos import convnext, model
from evzoo.photos.chain import Augmentation, Chain
from evzoo.photos.convnext import ConvNext
from evzoo.photos.distil import Student, imitate, tutor
from evzoo.photos.fitting import Schedule, kept, linear_head
from evzoo.photos.mobilenet import pretrained
from evzoo.photos.model import Corpus
from torch import nn

# === recipe ===

TEACHER = "vehicle-classifier"
SIZE = 96
"""Side of the student's views in training."""
IMITATION = Schedule(
    epochs=8, size=128, batch=32, rate=2e-3, head_rate=2e-3, average=0.99, warmup=60, decay=0.05, relative=False,
    augmentation=Augmentation(erase=0.0),
)  # fmt: skip
CLASSES = Schedule(epochs=16, size=160, batch=32, rate=1e-3, head_rate=1e-3, warmup=10, decay=0.05, relative=False)
DROP = 0.0


class Model(model.PhotoModel):
    """ConvNeXt V2 Atto from scratch."""

    name = "vehicle-classifier-convnextv2"
    description = "Which of eight electric cars a photo shows, from a ConvNeXt V2 Atto trained from nothing on few photos."
    backend = "candle"
    chain = Chain(resize=112, crop=112)
    memory = "64MiB"
    latency = "10ms"
    file = "model.safetensors"
    library = f"torch {torch.__version__.split('+')[0]}"
    card = {
        "What it answers": "Which of eight electric cars a photo shows, as probabilities that sum to 1, and whether it may be none of them.",
        "Intended use": """
Serving images without any native library, and testing the `candle` backend with a real network.
For answers use `vehicle-classifier`: this one is far less often right, and on the test photos less often than its baseline.
""",
        "How it works": """
- A ConvNeXt V2 Atto of 3.4 million parameters, without pretrained weights: none were to be had, and photos by the thousand are few for a network that starts from nothing.
- First it learns, on the photos of known make, the features that the ImageNet MobileNetV2 sees in the same random views, and the makes; that stage computes in bfloat16.
- Then a logistic regression on its features becomes the head, and all layers learn the vehicle photos' labels together with what `vehicle-classifier`, trained on the same photos, answers to them and to the photos of known make.
- It is trained at 96 pixels and served at 112, where random crops and whole photos show cars of the same size.
- Both stages are short for the sake of an ordinary machine; more epochs and larger views would help.
- The files are those of Hugging Face's `ConvNextV2ForImageClassification` in float32; logits equal those of `transformers` 5.23 bit for bit.
""",
        "What would be a leak": """
Near duplicates of a photo on the other side of a split: they are kept together by difference hash.
A teacher that has seen what its student is measured on: each fold has its own teacher.
Photos of known make that are nearly a vehicle photo: they are left out.
Test photos: every choice was made out of fold, and the test photos were measured at the end.
""",
        "Limits": """
- Whatever limits `vehicle-classifier` limits this model more.
- Most answers are wrong or unsure: it is no judge of photos.
- Not for access control, tolls, police work or insurance decisions.
""",
    }

    def imitation(self, corpus: Corpus) -> Student:
        """The student after learning the ImageNet backbone's features; it has seen no photo of a class."""
        torch.manual_seed(0)
        student = Student(len(corpus.makes.classes), DROP)
        key = (inspect.getsource(imitate), IMITATION, SIZE, DROP, corpus.digest)

        def fitted() -> Student:
            teacher = pretrained(corpus.backbone, 1).eval()
            return imitate(student, teacher, IMITATION, SIZE, corpus, Chain())

        return kept(student, key, fitted, corpus.reuse)

    def fit(self, corpus: Corpus, index: np.ndarray, note: str) -> nn.Module:
        """From the imitation, taught by the other model as trained on the same photos."""
        network = ConvNext(len(corpus.train.classes), DROP)

        def fitted() -> nn.Module:
            network.convnextv2.load_state_dict(self.imitation(corpus).network.convnextv2.state_dict())
            linear_head(network, corpus.train.take(index), self.chain, strength=0.1)
            teacher = model.load_model(TEACHER).fit(corpus, index, f"teacher of {note}")
            return tutor(network, teacher, CLASSES, SIZE, corpus, index, note)

        key = (inspect.getsource(tutor), IMITATION, CLASSES, SIZE, DROP, self.chain, corpus.digest, index.tolist())
        return kept(network, key, fitted, corpus.reuse)

    def stages(self, corpus: Corpus) -> list[nn.Module]:
        """The imitation, and all that the teachers took."""
        teacher, everything = model.load_model(TEACHER), np.arange(len(corpus.train))
        sets = [*(seen for seen, _ in corpus.train.folds()), everything]
        return [self.imitation(corpus), *teacher.stages(corpus), *(teacher.fit(corpus, index, "teacher") for index in sets)]

    def write(self, network: nn.Module, corpus: Corpus, folder: Path) -> list[str]:
        """A directory of Hugging Face."""
        convnext.save(network, corpus.train.classes, self.chain, folder)
        return [self.file, "config.json", "preprocessor_config.json"]

    def answerer(self, folder: Path):
        """PyTorch on the files."""
        network = convnext.load(folder)

        def answer(views: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return network(torch.from_numpy(views)).numpy()

        return answer

    def preprocessing(self) -> dict:
        """As the image processor's file says."""
        return {"hugging_face": "preprocessor_config.json"}
