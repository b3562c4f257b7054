"""Augmentation: each time a network sees an image it sees another version of it.

    source = augmented(source, config.augmentation)  # for the images that a run trains on, batch by batch

    change = augment(config.augmentation, eigen)
    image = change(image, position, key)  # float32 [B, H, W, C] in [0, 1], uint32 [B], a key -> float32 [B, H, W, C]

What happens to an example depends on (key, its position in the whole batch) alone. With a key of (seed, step), and with
an order of examples that is a function of (seed, step), each (run, epoch, example) has its own draws, which neither the
number of devices, nor other runs, nor an interruption changes. Every transformation draws from its own key, so that
switching one on leaves the draws of the others as they were.
"""

import math
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl.data import colour, geometry
from jaxdl.data.source import Source
from jaxdl.errors import UserError, unknown

Drawn = dict[str, Any]  # {transformation: its parameters}

OUTSIDE = ("fill", "edge")
NAMES = (
    "resized_crop", "crop_padding", "rotation", "scale_jitter", "translation", "horizontal_flip", "vertical_flip",
    "brightness", "contrast", "saturation", "hue", "grey", "pca_colour", "cutout",
)  # in the order in which they are applied  # fmt: skip
_PROBABILITIES = ("horizontal_flip", "vertical_flip", "grey")
_AFFINE = ("rotation", "scale_jitter", "translation")  # one resampling
_COLOURS = ("saturation", "hue", "grey", "pca_colour")  # these need red, green and blue
_TRIES = 10  # torchvision's number
_SHARES_EACH = 2 * _TRIES + 2  # what resized_crop needs; the others use the first few


def augmented(source: Source, settings: Any) -> Source:
    """The source whose training batches are augmented, before they are normalised; for the settings see `augment`.

    UserError for settings that are out of range, that do not fit the images, or where there are no images.
    """
    check(settings)
    if not _on(settings):
        return source
    stored = source.data["train"]["image"]
    if not jnp.issubdtype(stored.dtype, jnp.integer) or source.prepare is not None:
        raise UserError(f"augmentation.{_on(settings)[0]} is for images, which {source.name} does not hold")
    check_shape(settings, stored.shape[1:])
    eigen = colour.principal_components(stored, source.normalisation.scale) if settings.pca_colour else None
    change = augment(settings, eigen)

    def of_step(run: dict[str, Any], step: Array, position: Array, image: Array) -> Array:
        own = jax.random.fold_in(jax.random.key(run["seed"]), jnp.uint32(zlib.crc32(b"augmentation")))
        return change(image, position, jax.random.fold_in(own, step))

    return source._replace(augment=of_step)


def augment(settings: Any, eigen: colour.Eigen | None = None) -> Callable[[Array, Array, Array], Array]:
    """image [B, H, W, C], position uint32 [B], key -> image [B, H, W, C], float32 in [0, 1].

    settings: attributes, here in the order in which they are applied; 0 or False is off, and then costs nothing
        resized_crop      a box of random place, area and shape, enlarged to the whole image:
        resized_crop_area, resized_crop_aspect    uniform share of the area; log-uniform width / height
        crop_padding      pixels around the image before a crop of the image's size: moves by whole pixels
        rotation          degrees: uniform in +-rotation
        scale_jitter      enlarged by a factor uniform in 1 +- scale_jitter
        translation       pixels: uniform in +-translation, down and right, also by parts of a pixel
        horizontal_flip, vertical_flip            probabilities
        brightness, contrast, saturation          factors: uniform in [max(0, 1 - x), 1 + x]
        hue               turn of the colour circle: uniform in +-hue, 0.5 at most
        grey              probability
        pca_colour        standard deviation of the components along the training colours' axes; 0.1 in the paper
        cutout            pixels: the side of a square about a random pixel
        outside           "fill" or "edge": what crop_padding, rotation, scale_jitter and translation bring in
        fill              that colour, and the one of cutout: one value, or one a channel

    eigen: of `colour.principal_components` on the training split, for pca_colour. key: of nothing else but this.
    Rotation, scale and translation are one resampling. UserError for what is out of range: here, or when the
    result is traced for images that it does not fit (see `check_shape`).
    """
    check(settings)
    if settings.pca_colour and eigen is None:
        raise UserError("augmentation.pca_colour needs the principal components of the training colours")
    if not _on(settings):
        return lambda image, position, key: image

    def change(image: Array, position: Array, key: Array) -> Array:
        shape = image.shape[1:]
        check_shape(settings, shape)
        return jax.vmap(lambda one, place: apply(settings, one, draw(settings, shape, place, key), eigen))(
            image, position
        )

    return change


def draw(settings: Any, shape: tuple[int, ...], position: Array, key: Array) -> Drawn:
    """What happens to the example at a position: the parameters of each transformation that is on.

    All numbers come from one array of shares, uniform in [0, 1): a program with one generator in it compiles in a
    fraction of the time of one with a generator for each transformation.
    """
    height, width, _ = shape

    def own(code: Array) -> Array:  # by name, so that a new transformation changes no draw of the others
        return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, code), position), (_SHARES_EACH,))

    on = _on(settings)
    codes = jnp.array([zlib.crc32(name.encode()) for name in on], jnp.uint32)
    shares = dict(zip(on, jax.vmap(own)(codes), strict=True))
    draws = {
        "resized_crop": lambda u: box(u, height, width, settings.resized_crop_area, settings.resized_crop_aspect),
        "crop_padding": lambda u: whole(u[:2], 2 * settings.crop_padding + 1) - settings.crop_padding,
        "rotation": lambda u: within(u[0], settings.rotation),
        "scale_jitter": lambda u: factor(u[0], settings.scale_jitter),
        "translation": lambda u: within(u[:2], settings.translation),
        "horizontal_flip": lambda u: u[0] < settings.horizontal_flip,
        "vertical_flip": lambda u: u[0] < settings.vertical_flip,
        "brightness": lambda u: factor(u[0], settings.brightness),
        "contrast": lambda u: factor(u[0], settings.contrast),
        "saturation": lambda u: factor(u[0], settings.saturation),
        "hue": lambda u: within(u[0], settings.hue),
        "grey": lambda u: u[0] < settings.grey,
        "pca_colour": lambda u: settings.pca_colour * normal(u[:3]),
        "cutout": lambda u: whole(u[:2], jnp.array([height, width])),
    }
    return {name: draws[name](shares[name]) for name in on}


def apply(settings: Any, image: Array, drawn: Drawn, eigen: colour.Eigen | None = None) -> Array:
    """One image [H, W, C] under the parameters, one at least, that `draw` drew for it."""
    fill = jnp.broadcast_to(jnp.array(settings.fill, jnp.float32), image.shape[-1:])
    outside = fill if settings.outside == "fill" else None
    degrees, scale = drawn.get("rotation", 0.0), drawn.get("scale_jitter", 1.0)
    down, right = drawn.get("translation", (0.0, 0.0))
    steps = {
        "resized_crop": lambda image, box: geometry.resized_crop(image, *box),
        "crop_padding": lambda image, corner: geometry.crop(image, *corner, outside),
        _AFFINE: lambda image, _: geometry.affine(image, degrees, scale, down, right, outside),
        "horizontal_flip": geometry.flip_horizontally,
        "vertical_flip": geometry.flip_vertically,
        "brightness": colour.brightness,
        "contrast": colour.contrast,
        "saturation": colour.saturation,
        "hue": colour.hue,
        "grey": colour.grey,
        "pca_colour": lambda image, alpha: colour.pca_colour(image, alpha, eigen),
        "cutout": lambda image, place: geometry.cutout(image, *place, settings.cutout, fill),
    }
    on = [name for name in steps if (drawn.keys() & set(name) if name == _AFFINE else name in drawn)]
    stages = [lambda image, name=name: steps[name](image, drawn.get(name)) for name in on]
    # A loop, so that each step's image is computed once. In a straight line XLA fuses them all on a CPU, and computes
    # an image anew for each of its pixels that a later step reads: 120 ms against 3.3 for 64 images of 32x32 under
    # everything, 25 against 3 for a resized crop, a flip and four colours.
    return jax.lax.fori_loop(0, len(stages), lambda number, image: jax.lax.switch(number, stages, image), image)


def within(share: Array, limit: Array) -> Array:
    """[0, 1) -> [-limit, limit)."""
    return limit * (2.0 * share - 1.0)


def factor(share: Array, strength: Array) -> Array:
    """[0, 1) -> [max(0, 1 - strength), 1 + strength)."""
    low = jnp.maximum(1.0 - strength, 0.0)
    return low + share * (1.0 + strength - low)


def whole(share: Array, count: Array) -> Array:
    """[0, 1) -> {0, ..., count - 1}, int32. Shares are multiples of 2^-23, so that no product rounds up to count."""
    return jnp.floor(share * jnp.asarray(count, jnp.float32)).astype(jnp.int32)


def normal(share: Array) -> Array:
    """(0, 1) -> standard normal, by the inverse of its distribution; 2^-24 moves multiples of 2^-23 off 0."""
    return jnp.sqrt(2.0) * jax.lax.erf_inv(2.0 * (share + 2.0**-24) - 1.0)


def box(shares: Array, height: int, width: int, area: Any, aspect: Any) -> tuple[Array, Array, Array, Array]:
    """(top, left, height, width), int32, of a box in an image of height x width; torchvision's RandomResizedCrop.

    shares: [22] in [0, 1). The share of the area is uniform between the two of `area`, width / height log-uniform
    between the two of `aspect`, and the place uniform. The first of 10 boxes that the image holds; when it holds
    none, the largest box of an allowed aspect, in the middle.
    """
    by_area, by_aspect, by_place = jnp.split(shares, (_TRIES, 2 * _TRIES))  # [10], [10], [2]
    area, low, high = jnp.asarray(area, jnp.float32), jnp.log(jnp.float32(aspect[0])), jnp.log(jnp.float32(aspect[1]))
    areas = height * width * (area[0] + by_area * (area[1] - area[0]))
    aspects = jnp.exp(low + by_aspect * (high - low))
    heights, widths = jnp.round(jnp.sqrt(areas / aspects)), jnp.round(jnp.sqrt(areas * aspects))
    possible = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)
    allowed = jnp.clip(width / height, aspect[0], aspect[1])
    largest = jnp.round(jnp.minimum(height, width / allowed)), jnp.round(jnp.minimum(width, height * allowed))
    first = possible.argmax()
    found = possible[first]
    rows = jnp.where(found, heights[first], largest[0]).astype(jnp.int32)
    columns = jnp.where(found, widths[first], largest[1]).astype(jnp.int32)
    top = jnp.where(found, whole(by_place[0], height - rows + 1), (height - rows) // 2)
    left = jnp.where(found, whole(by_place[1], width - columns + 1), (width - columns) // 2)
    return top, left, rows, columns


def _on(settings: Any) -> list[str]:
    return [name for name in NAMES if getattr(settings, name)]


def check(settings: Any) -> None:
    """UserError for a setting of `augment` that is out of range whatever the images are."""
    limits = {name: (0, 1) for name in _PROBABILITIES} | {name: (0, math.inf) for name in ("brightness", "contrast")}
    limits |= {"saturation": (0, math.inf), "hue": (0, 0.5), "pca_colour": (0, math.inf), "rotation": (0, 180)}
    limits |= {"crop_padding": (0, math.inf), "translation": (0, math.inf), "cutout": (0, math.inf)}
    for name, (low, high) in limits.items():
        value = getattr(settings, name)
        if not (low <= value <= high and math.isfinite(value)):
            valid = f"{low} to {high}" if math.isfinite(high) else f"{low} or more"
            raise UserError(f"augmentation.{name}={value} is not possible: valid is {valid}")
    if not 0 <= settings.scale_jitter < 1:
        raise UserError(f"augmentation.scale_jitter={settings.scale_jitter} is not possible: valid is 0 to below 1")
    for name, most in (("resized_crop_area", 1.0), ("resized_crop_aspect", math.inf)):
        ends = tuple(getattr(settings, name))
        if len(ends) != 2 or not 0 < ends[0] <= ends[1] <= most or not math.isfinite(ends[1]):
            above = "" if math.isinf(most) else f", {most:g} at most"
            raise UserError(f"augmentation.{name}={ends} is not possible: valid is (low, high), above 0{above}")
    if settings.outside not in OUTSIDE:
        raise unknown("augmentation.outside", settings.outside, OUTSIDE)
    if not len(settings.fill) or not all(0 <= value <= 1 for value in settings.fill):
        raise UserError(f"augmentation.fill={tuple(settings.fill)} is not possible: valid are values from 0 to 1")
    _ = settings.resized_crop


def check_shape(settings: Any, shape: tuple[int, ...]) -> None:
    """UserError when images of this shape, without the batch, are none, or too small or too grey for the settings."""
    on = _on(settings)
    if not on:
        return
    if len(shape) != 3:
        raise UserError(f"augmentation.{on[0]} is for images [height, width, channels], not for shape {list(shape)}")
    height, width, channels = shape
    for name in ("crop_padding", "translation", "cutout"):
        if getattr(settings, name) > min(height, width):
            raise UserError(
                f"augmentation.{name}={getattr(settings, name)} is larger than an image of {height}x{width}: "
                f"valid is 0 to {min(height, width)}"
            )
    coloured = [name for name in on if name in _COLOURS]
    if coloured and channels != 3:
        raise UserError(f"augmentation.{coloured[0]} is for images of 3 channels, these have {channels}")
    if settings.contrast and channels not in (1, 3):
        raise UserError(f"augmentation.contrast is for images of 1 or 3 channels, these have {channels}")
    if len(settings.fill) not in (1, channels):
        raise UserError(f"augmentation.fill has {len(settings.fill)} values, the images {channels} channels")
