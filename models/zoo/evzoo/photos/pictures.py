"""Pictures for golden cases: generated, so that no photo is in the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def write(folder: Path) -> list[str]:
    """Writes the pictures; their paths in the model's folder.

    All are PNG: the server's JPEG decoder differs from Pillow's by a few of 255 steps, which is no fault of a model.
    """
    (folder / "golden").mkdir(exist_ok=True)
    found = []
    for name, picture in (("gradient", gradient()), ("circles", circles()), ("blobs", blobs()), ("stripes", stripes())):
        found.append(f"golden/{name}.png")
        picture.save(folder / found[-1], optimize=True)
    return found


def gradient() -> Image.Image:
    """Wide, colours changing along both sides."""
    rows, columns = np.mgrid[0:120, 0:200]
    values = np.stack([columns * 255 // 199, rows * 255 // 119, (rows + columns) * 255 // 318], axis=-1)
    return Image.fromarray(values.astype(np.uint8))


def circles() -> Image.Image:
    """Something with a roof and two wheels."""
    picture = Image.new("RGB", (240, 150), (176, 208, 240))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 110, 240, 150), (96, 96, 96))
    draw.polygon(((30, 90), (70, 50), (160, 50), (215, 90), (215, 115), (30, 115)), (200, 30, 40))
    draw.polygon(((72, 85), (90, 57), (150, 57), (180, 85)), (40, 50, 60))
    for centre in (75, 175):
        draw.ellipse((centre - 20, 95, centre + 20, 135), (20, 20, 20))
        draw.ellipse((centre - 9, 106, centre + 9, 124), (190, 190, 190))
    return picture


def blobs() -> Image.Image:
    """Tall, smooth noise."""
    values = np.random.default_rng(5).integers(0, 256, (13, 9, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((90, 130), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))


def stripes() -> Image.Image:
    """Grey, with edges; no alpha and no palette, as grey photos are."""
    rows, columns = np.mgrid[0:96, 0:96]
    return Image.fromarray((((rows // 8 + columns // 12) % 2) * 180 + 40).astype(np.uint8), mode="L")
