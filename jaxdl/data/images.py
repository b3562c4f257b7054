"""One picture file as a square of pixels."""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

from jaxdl.data.cache import line
from jaxdl.data.source import Source
from jaxdl.errors import UserError

PIXELS = 100_000_000  # of one picture; a file of some kilobytes can claim to hold far more
VALID = "JPEG, PNG, WebP"
_MODES = {1: "L", 3: "RGB"}  # channels -> Pillow's name for such an image
_BEGINNINGS = (  # (place, bytes there, kind)
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
)
_lock = threading.Lock()


def decode(content: bytes, what: str, size: int, channels: int) -> np.ndarray:
    """A picture file as uint8 [size, size, channels]: its central square, resized.

    content: a JPEG, PNG or WebP file; its EXIF orientation is applied, its colour profile is not
    what: how errors call it
    channels: 1 (grey, as ITU-R 601 weighs the colours) or 3 (red, green, blue)

    What is transparent shows white. The values depend on nothing but `content`, `size`, `channels` and the
    version of Pillow.

    Raises UserError for a file of another kind, a damaged or animated one, and one of more than PIXELS pixels.
    """
    kind = next((kind for place, bytes_, kind in _BEGINNINGS if content.startswith(bytes_, place)), "")
    if kind not in VALID.split(", "):
        found = f"of the kind {kind}" if kind else "no picture" if content else "empty"
        raise UserError(f"{what} is {found}; valid: {VALID}")
    try:
        with _quiet():
            image = Image.open(io.BytesIO(content), formats=VALID.upper().split(", "))
        width, height = image.size
        if width * height > PIXELS:
            raise UserError(f"{what} has {width:,} x {height:,} pixels; valid: at most {PIXELS:,} in all")
        # The second picture in an MPO file, a JPEG as telephones write it, is a small copy or a map of depths.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise UserError(f"{what} is animated ({image.n_frames} frames); valid: {VALID} of one frame")
        # A large JPEG is decoded at 1/2, 1/4 or 1/8, never below twice the size wanted: for a 12-megapixel photo
        # in 8 ms instead of 114, with values that differ by 0.7 of 255 on average (measured).
        image.draft(None, (2 * size, 2 * size))
        image.load()
        with _quiet(), contextlib.suppress(Exception):  # a damaged EXIF block turns nothing, as in other viewers
            ImageOps.exif_transpose(image, in_place=True)
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = _plain(image.crop((left, top, left + side, top + side))).convert(_MODES[channels])
        # Pillow's bilinear filter averages over all pixels that become one, and unlike Lanczos never overshoots.
        pixels = np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
    except UserError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit is higher
        raise UserError(f"{what} is too large ({line(error)}); valid: at most {PIXELS:,} pixels") from error
    except Exception as error:  # Pillow documents none for damaged files, and raises a dozen kinds
        raise UserError(f"{what} is damaged ({kind}: {line(error)}); replace or remove it") from error
    return pixels.reshape(size, size, channels)


def channels(source: Source) -> int:
    """1 for a source of grey pictures, 3 for one of colour pictures. UserError for one of something else."""
    stored = source.data["train"]["image"]
    if not (np.issubdtype(stored.dtype, np.integer) and len(stored.shape) == 4 and stored.shape[-1] in _MODES):
        kind = f"{stored.dtype} values of shape {stored.shape[1:]}"
        raise UserError(f"{source.name} holds no grey or colour pictures but {kind}: train on pictures")
    return stored.shape[-1]


def side(source: Source) -> int:
    """Pixels a side of the pictures that a source holds. UserError where they are no squares, or no pictures."""
    channels(source)
    height, width = source.data["train"]["image"].shape[1:3]
    if height != width:
        raise UserError(f"pictures become squares, which the {height}x{width} images of {source.name} are not")
    return height


def stored(content: bytes, what: str, source: Source) -> np.ndarray:
    """A picture file as a source stores its images: `decode` in their size, channels and steps (0 to 255, 0 to 16).

    Raises UserError where `decode`, `side` or `channels` does.
    """
    pixels = decode(content, what, side(source), channels(source))
    return np.rint(pixels / (255 * source.normalisation.scale)).astype(source.data["train"]["image"].dtype)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings of harmless oddities. One thread at a time: the filters belong to the process."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _plain(image: Image.Image) -> Image.Image:
    """The image in 8 bits (mode L or RGB) and opaque."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip at 255
        values = np.asarray(image).astype(np.uint32)
        if transparent is not None:
            values[values == transparent] = 65535
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")
