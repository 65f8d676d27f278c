"""Makes pictures of 1.6 and 2.1 million pixels and prints Pillow's and numpy's times from a file to a tensor.

    python measure.py directory        (numpy and pillow as in tests/golden/requirements.txt)
"""

import io
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps, __version__

RUNS = 50
MEAN, STD = (np.array(of, "f4").reshape(3, 1, 1) for of in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def picture(width, height):
    room = np.random.default_rng(1)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [128 + 80 * np.sin(x / 37 + y / 91), 128 + 90 * np.cos(y / 53) + 20 * np.sin(x / 7), 128 + 70 * np.sin((x + y) / 29)]
    image = Image.fromarray(np.clip(np.stack(waves, -1) + room.normal(0, 6, (height, width, 3)), 0, 255).astype("u1"))
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        left, top = int(room.integers(0, width)), int(room.integers(0, height))
        color = tuple(int(value) for value in room.integers(0, 255, 3))
        draw.ellipse([left, top, left + width // 10, top + height // 8], fill=color)
    return image


def steps(data):
    """ConvNeXt at 224 pixels, without the processor's own overhead."""
    started = time.perf_counter()
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    decoded = time.perf_counter()
    width, height = image.size
    long = int(256 * max(width, height) / min(width, height))
    width, height = (256, long) if width <= height else (long, 256)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - 224) // 2, (height - 224) // 2
    image = image.crop((left, top, left + 224, top + 224))
    resized = time.perf_counter()
    tensor = (np.asarray(image).transpose(2, 0, 1).astype("f8") * (1 / 255)).astype("f4")
    np.ascontiguousarray((tensor - MEAN) / STD)
    normalized = time.perf_counter()
    return decoded - started, resized - decoded, normalized - resized, normalized - started


directory = Path(sys.argv[1])
directory.mkdir(exist_ok=True)
turned = Image.Exif()
turned[0x0112] = 6
small = picture(1600, 1000)
small.save(directory / "baseline.jpg", quality=85)
small.save(directory / "turned.jpg", quality=85, exif=turned)
small.save(directory / "progressive.jpg", quality=85, progressive=True)
small.save(directory / "lossy.webp", quality=80)
small.save(directory / "rgb.png")
picture(1920, 1080).save(directory / "full-hd.jpg", quality=90, subsampling=0)
print(f"Pillow {__version__}\n{'ms':<24} {'decode':>8} {'resize':>8} {'normalize':>9} {'all':>8}")
for path in sorted(directory.iterdir()):
    data = path.read_bytes()
    best = np.array([steps(data) for _ in range(RUNS)]).min(0) * 1e3
    print(f"{path.name:<24} {best[0]:>8.2f} {best[1]:>8.2f} {best[2]:>9.2f} {best[3]:>8.2f}")
