"""Makes the pictures of these tests and what Pillow and the Hugging Face processors make of them.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

Every picture is computed here. Where decoders agree to the bit a case holds checksums of the resized pixels and of the
tensor; for a JPEG it holds the resized pixels themselves, as a PNG, since JPEG decoders may round as they like.
"""

import io
import json
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageDraw, ImageOps
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

warnings.filterwarnings("ignore")
HERE = Path(__file__).parent
ROOM = np.random.default_rng(20)
PROCESSORS = {"ConvNextImageProcessor": ConvNextImageProcessorPil, "ViTImageProcessor": ViTImageProcessorPil}


def picture(width, height, noise):
    """Waves, edges and noise: smooth enough for a JPEG, and different in every corner."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [128 + 80 * np.sin(x / 9 + y / 23), 128 + 90 * np.cos(y / 13) + 20 * np.sin(x / 5), 40 + x * 150 / width]
    pixels = np.stack(waves, -1) + ROOM.normal(0, noise, (height, width, 3))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype("u1"))
    draw = ImageDraw.Draw(image)
    draw.ellipse([width // 8, height // 6, width // 2, height // 2], fill=(250, 30, 20))
    draw.rectangle([width * 2 // 3, height // 2, width - 4, height - 3], fill=(10, 200, 240))
    draw.line([0, height - 1, width, height // 3], fill=(255, 255, 255), width=2)
    return image


# PNG by hand, for what Pillow does not write.

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(row, depth):
    """One row of samples, `depth` bits each."""
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = np.unpackbits(row.astype("u1").reshape(-1, 1), axis=1)[:, 8 - depth :]
    return np.packbits(bits.reshape(-1)).tobytes()


def png(samples, depth, color, extra=b"", interlace=False):
    height, width = samples.shape[:2]
    rows = []
    for x, y, dx, dy in ADAM7 if interlace else [(0, 0, 1, 1)]:
        part = samples[y::dy, x::dx]
        if part.shape[1]:
            rows += [b"\0" + packed(row.reshape(-1), depth) for row in part]
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlace))
    data = zlib.compress(b"".join(rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def saved(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def adobe_transform(data, transform):
    at = data.index(b"Adobe")
    return data[: at + 11] + bytes([transform]) + data[at + 12 :]


# Cases.

cases = []


def resized(config, image):
    """The processor's pixels before they become numbers."""
    config = dict(config, do_rescale=False, do_normalize=False)
    return process(config, image).astype("u1")


def process(config, image):
    return PROCESSORS[config["image_processor_type"]](**config)(image, return_tensors="np")["pixel_values"][0]


def case(name, data, config, exact=True, pixels=None):
    (HERE / name).write_bytes(data)
    # What transformers.image_utils.load_image does.
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB") if pixels is None else pixels
    planes, tensor = resized(config, image), process(config, image)
    entry = {"file": name, "config": config}
    if exact:
        entry |= {"planes": zlib.crc32(planes.tobytes()), "tensor": zlib.crc32(tensor.astype("<f4").tobytes())}
    else:
        entry["expected"] = f"{name}.{planes.shape[2]}x{planes.shape[1]}.expected.png"
        Image.fromarray(planes.transpose(1, 2, 0)).save(HERE / entry["expected"], optimize=True)
    cases.append(entry)


def vit(height, width, **keys):
    return {"image_processor_type": "ViTImageProcessor", "size": {"height": height, "width": width}, **keys}


def convnext(edge, **keys):
    return {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": edge}, **keys}


def whole(image):
    """No resizing: the decoder's own pixels."""
    size = {"height": image.height, "width": image.width}
    return {"image_processor_type": "ViTImageProcessor", "do_resize": False, "do_center_crop": True, "crop_size": size}


for path in HERE.iterdir():
    if path.suffix in {".png", ".jpg", ".webp", ".json"}:
        path.unlink()

# Resizing, cropping, numbers: of a picture that decodes to the same pixels everywhere.
noisy = picture(97, 61, 25)
tall = picture(41, 83, 25)
for name, data in [("noisy.png", saved(noisy, "png")), ("tall.png", saved(tall, "png"))]:
    for resample in range(6):
        case(name, data, vit(24, 40, resample=resample))
        case(name, data, vit(130, 110, resample=resample))
        case(name, data, vit(61, 13, resample=resample))
        case(name, data, convnext(32, crop_pct=0.875, resample=resample))
    case(name, data, convnext(224, crop_pct=0.875))
    case(name, data, convnext(384))
    case(name, data, convnext(23, crop_pct=0.71))
    case(name, data, vit(1, 1, resample=1))
    edge = {"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 20}, "do_center_crop": True}
    case(name, data, dict(edge, crop_size={"height": 32, "width": 17}))
    case(name, data, dict(edge, crop_size={"height": 7, "width": 45}, resample=3))
    case(name, data, dict(edge, do_resize=False, crop_size={"height": 70, "width": 50}))
    case(name, data, vit(16, 16, do_rescale=False, do_normalize=False))
    case(name, data, vit(16, 16, do_rescale=False, image_mean=[123.7, 116.3, 103.5], image_std=[58.4, 57.1, 57.4]))
    case(name, data, vit(16, 16, do_normalize=False, rescale_factor=0.00784313725490196))

# PNG: every colour type and depth, straight and interlaced.
small = picture(33, 21, 3)
rgb = np.array(small)
gray = np.array(small.convert("L"))
alpha = (np.arange(33 * 21).reshape(21, 33) * 7 % 256).astype("u1")
low = np.random.default_rng(5).integers(0, 256, (21, 33, 4))
wide = lambda samples: samples.astype("u2") * 256 + low[..., : samples.shape[-1]]
palette = chunk(b"PLTE", bytes(range(3, 198)) + b"\1\2\3")
whole_small = whole(small)
types = {
    "gray1": (gray[..., None] >> 7, 1, 0, b""),
    "gray2": (gray[..., None] >> 6, 2, 0, b""),
    "gray4": (gray[..., None] >> 4, 4, 0, b""),
    "gray8": (gray[..., None], 8, 0, b""),
    "gray8-trns": (gray[..., None], 8, 0, chunk(b"tRNS", b"\0\x50")),
    "grayalpha8": (np.stack([gray, alpha], -1), 8, 4, b""),
    "grayalpha16": (wide(np.stack([gray, alpha], -1)), 16, 4, b""),
    "rgb8": (rgb, 8, 2, b""),
    "rgb8-trns": (rgb, 8, 2, chunk(b"tRNS", b"\0\xfa\0\x1e\0\x14")),
    "rgb16": (wide(rgb), 16, 2, b""),
    "rgba8": (np.dstack([rgb, alpha]), 8, 6, b""),
    "rgba16": (wide(np.dstack([rgb, alpha])), 16, 6, b""),
    "palette1": (gray[..., None] >> 7, 1, 3, palette),
    "palette2": (gray[..., None] >> 6, 2, 3, palette),
    "palette4": (gray[..., None] >> 4, 4, 3, palette),
    "palette8": (gray[..., None] >> 2, 8, 3, palette),
    "palette8-trns": (gray[..., None] >> 2, 8, 3, palette + chunk(b"tRNS", bytes(range(60)))),
    "palette8-short": (gray[..., None], 8, 3, palette),
}
for name, (samples, depth, color, extra) in types.items():
    for interlace in [False, True]:
        file = f"{name}{'-interlaced' if interlace else ''}.png"
        case(file, png(samples, depth, color, extra, interlace), whole_small)
# Pillow would cut off everything above 255.
case("gray16.png", png(wide(gray[..., None]), 16, 0), whole_small, pixels=Image.fromarray(gray).convert("RGB"))
other = Image.new("RGB", small.size, (1, 2, 3))
case("animated.png", saved(small, "png", save_all=True, append_images=[other]), whole_small)
icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
case("profile.png", saved(small, "png", icc_profile=icc), whole_small)
for orientation in range(1, 9):
    file = f"orientation-{orientation}.png"
    case(file, saved(small, "png", exif=exif(orientation)), vit(14, 18, resample=3))
    case(file, saved(small, "png", exif=exif(orientation)), vit(40, 40, resample=1))

# WebP.
with_alpha = small.copy()
with_alpha.putalpha(Image.fromarray(alpha))
photo = picture(85, 59, 4)
case("lossy.webp", saved(photo, "webp", quality=80), whole(photo))
case("lossy-alpha.webp", saved(with_alpha, "webp", quality=70), whole_small)
case("lossless.webp", saved(small, "webp", lossless=True), whole_small)
case("lossless-alpha.webp", saved(with_alpha, "webp", lossless=True, exact=True), whole_small)
case("orientation-8.webp", saved(small, "webp", lossless=True, exif=exif(8)), vit(14, 18))
frames = dict(save_all=True, append_images=[other], duration=50)
case("animated.webp", saved(small, "webp", lossless=True, **frames), whole_small)
case("animated-lossy.webp", saved(small, "webp", quality=60, **frames), whole_small)
case("animated-alpha.webp", saved(with_alpha, "webp", lossless=True, exact=True, background=(9, 8, 7, 255), **frames), whole_small)

# JPEG: the decoder's pixels, and a tensor's.
jpegs = {
    "420.jpg": saved(photo, "jpeg", quality=85),
    "422.jpg": saved(photo, "jpeg", quality=85, subsampling=1),
    "444.jpg": saved(photo, "jpeg", quality=90, subsampling=0),
    "progressive.jpg": saved(photo, "jpeg", quality=85, progressive=True),
    "restarts.jpg": saved(photo, "jpeg", quality=60, restart_marker_blocks=3),
    "gray.jpg": saved(photo.convert("L"), "jpeg", quality=85),
    "gray-progressive.jpg": saved(photo.convert("L"), "jpeg", quality=85, progressive=True),
    "rgb.jpg": saved(photo, "jpeg", quality=85, keep_rgb=True),
    "cmyk.jpg": saved(photo.convert("CMYK"), "jpeg", quality=90),
    "ycck.jpg": adobe_transform(saved(photo.convert("YCbCr").convert("RGB").convert("CMYK"), "jpeg", quality=90), 2),
}
for name, data in jpegs.items():
    case(name, data, whole(photo), exact=False)
    case(name, data, convnext(40, crop_pct=0.875), exact=False)
case("profile.jpg", saved(small, "jpeg", quality=90, icc_profile=icc), whole_small, exact=False)
for orientation in [1, 3, 6, 8]:
    file = f"orientation-{orientation}.jpg"
    case(file, saved(small, "jpeg", quality=90, exif=exif(orientation)), convnext(16), exact=False)

(HERE / "cases.json").write_text("[\n" + ",\n".join(json.dumps(entry) for entry in cases) + "\n]\n")
