"""From a photo to the numbers a network takes: the server's chain for answers, a random one for training."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


@dataclass(frozen=True)
class Chain:
    """`[preprocessing]` of the manifest: shorter side to `resize`, square from the centre, scaled and normalised.

    Each step computes as Hugging Face's image processors do, in their order and precision, because the server does so
    bit for bit; another resampling would measure another model.
    """

    resize: int = 224
    crop: int = 224
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def picture(self, image: Image.Image) -> Image.Image:
        """The square that the network sees."""
        width, height = image.size
        short, long = min(width, height), max(width, height)
        other = int(self.resize * long / short)
        size = (self.resize, other) if width <= height else (other, self.resize)
        image = image.resize(size, Image.Resampling.BICUBIC)
        left, top = (image.width - self.crop) // 2, (image.height - self.crop) // 2
        return image.crop((left, top, left + self.crop, top + self.crop))

    def numbers(self, picture: Image.Image) -> np.ndarray:
        """Channels first, float32."""
        values = (np.asarray(picture).astype(np.float64) * (1 / 255)).astype(np.float32)
        values = (values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def __call__(self, image: Image.Image) -> np.ndarray:
        """What a served photo becomes."""
        return self.numbers(self.picture(image))


@dataclass(frozen=True)
class Augmentation:
    """Random crops, mirroring, colours and erasing; what a photo loses must not say which car it is."""

    smallest: float = 0.4
    """Least share of the photo's area that a crop keeps."""
    colour: float = 0.3
    grey: float = 0.1
    erase: float = 0.25

    def __call__(self, image: Image.Image, size: int, chain: Chain, rng: np.random.Generator) -> np.ndarray:
        """A random view of `size` by `size` pixels."""
        picture = image.resize((size, size), Image.Resampling.BILINEAR, box=self._box(image, rng))
        if rng.random() < 0.5:
            picture = ImageOps.mirror(picture)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            picture = enhance(picture).enhance(rng.uniform(1 - self.colour, 1 + self.colour))
        if rng.random() < self.grey:
            picture = ImageOps.grayscale(picture).convert("RGB")
        values = chain.numbers(picture)
        if rng.random() < self.erase:
            height, width = rng.integers(size // 8, size // 3, 2)
            top, left = rng.integers(0, size - height), rng.integers(0, size - width)
            values[:, top : top + height, left : left + width] = rng.normal(0, 0.5, (3, 1, 1))
        return values

    def _box(self, image: Image.Image, rng: np.random.Generator) -> tuple[float, float, float, float]:
        area = image.width * image.height
        for _ in range(10):
            target = area * rng.uniform(self.smallest, 1.0)
            ratio = np.exp(rng.uniform(np.log(0.75), np.log(1.6)))
            width, height = np.sqrt(target * ratio), np.sqrt(target / ratio)
            if width <= image.width and height <= image.height:
                left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
                return (left, top, left + width, top + height)
        return (0, 0, image.width, image.height)


def opened(content: bytes) -> Image.Image:
    """A photo upright and in colour, as the server decodes it."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
