"""What the invariance study does to images: disturbances, one permutation of the pixels, digits at other places."""

import math
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import jaxdl
from jaxdl.errors import UserError

KINDS = ("shift", "rotation", "scale", "noise")


class Disturbance(NamedTuple):
    """Degrees counter-clockwise, enlargement, pixels down and right, standard deviation of the noise."""

    degrees: float = 0.0
    scale: float = 1.0
    down: float = 0.0
    right: float = 0.0
    noise: float = 0.0


def disturbances(amounts: Any) -> dict[str, list[Disturbance]]:
    """{"shift_2": ...}: the error under an amount is the mean over a list, of four directions or two senses.

    amounts: .shift in whole pixels, .rotation in degrees, .scale as factors, .noise as standard deviations, where
        black is 0 and white is 1
    """

    def both(name: str, amount: float) -> list[Disturbance]:
        return [Disturbance(**{name: sign * amount}) for sign in (1, -1)]

    found = {f"shift_{amount}": both("down", amount) + both("right", amount) for amount in amounts.shift}
    found |= {f"rotation_{amount:g}": both("degrees", amount) for amount in amounts.rotation}
    found |= {f"scale_{amount:g}": [Disturbance(scale=amount)] for amount in amounts.scale}
    return found | {f"noise_{amount:g}": [Disturbance(noise=amount)] for amount in amounts.noise}


def check(amounts: Any, height: int, width: int) -> None:
    """UserError for amounts that make no sense for images of height x width."""
    side = min(height, width)
    valid = {
        "shift": (lambda amount: isinstance(amount, int) and 1 <= amount < side, f"whole pixels from 1 to {side - 1}"),
        "rotation": (lambda amount: 0 < amount <= 180, "degrees above 0, 180 at most"),
        "scale": (lambda amount: 0 < amount < math.inf and amount != 1, "factors above 0, and not 1"),
        "noise": (lambda amount: 0 < amount < math.inf, "standard deviations above 0"),
    }
    for kind in KINDS:
        values = tuple(getattr(amounts, kind))
        wrong = next((value for value in values if not valid[kind][0](value)), None)
        if wrong is not None:
            raise UserError(
                f"disturb.{kind}={wrong} is not possible for images of {height}x{width}: valid are {valid[kind][1]}"
            )
        if len(set(values)) < len(values):
            raise UserError(f"disturb.{kind}={values} is not possible: each amount once")


def disturbed(image: Any, disturbance: Any, noise: Any) -> Any:
    """Images [B, H, W, C] in [0, 1] under one disturbance, float32 [5] in the order of its fields.

    noise: standard normal, [B, H, W, C]. What comes in from outside is black. A shift by whole pixels is exact.
    """
    import jax
    import jax.numpy as jnp

    from jaxdl.data import geometry

    degrees, scale, down, right, deviation = disturbance
    black = jnp.zeros(image.shape[-1:], jnp.float32)
    moved = jax.vmap(lambda one: geometry.affine(one, degrees, scale, down, right, black))(image)
    return moved + deviation * noise


def noise_of(run: Any, number: Any, shape: tuple[int, ...]) -> Any:
    """Standard normal noise [B, *shape] of the test images `number` [B]: a function of the seed and of the image.

    Of nothing else, so that all variants meet the same noise.
    """
    import jax
    import jax.numpy as jnp

    key = jax.random.fold_in(jax.random.key(run["seed"]), jnp.uint32(zlib.crc32(b"disturbance")))
    return jaxdl.batch.normal(key, number, shape)


def errors_under(task: Any, listed: dict[str, list[Disturbance]], normalise: Callable) -> Callable:
    """An `evaluate` for test images in [0, 1]: {"error_shift_2": [B], ...}; also "error_shift", over all its amounts.

    normalise: images in [0, 1] -> as the network sees them. The batch has `number` beside the images
    """
    import jax
    import jax.numpy as jnp

    table = np.array([row for rows in listed.values() for row in rows], np.float32)  # [D, 5]

    def evaluate(params: Any, model_state: Any, batch: Any, run: Any, key: Any) -> dict[str, Any]:
        image = batch["image"]
        noise = noise_of(run, batch["number"], image.shape[1:])

        def wrong(row: Any) -> Any:
            seen = batch | {"image": normalise(disturbed(image, row, noise))}
            return task.evaluate(params, model_state, seen, run, key)["error"]

        each = jax.lax.map(wrong, jnp.asarray(table))  # [D, B]
        found, first = {}, 0
        for name, rows in listed.items():
            found[f"error_{name}"] = each[first : first + len(rows)].mean(axis=0)
            first += len(rows)
        for kind in KINDS:
            own = [values for name, values in found.items() if name.startswith(f"error_{kind}_")]
            if own:
                found[f"error_{kind}"] = sum(own[1:], own[0]) / jnp.float32(len(own))
        return found

    return evaluate


def in_unit_range(source: Any) -> Any:
    """The source whose images are [0, 1] instead of normalised, and whose test images are numbered."""
    count = len(source.data["test"]["label"])
    test = dict(source.data["test"]) | {"number": np.arange(count, dtype=np.uint32)}
    plain = jaxdl.data.normalisation.Normalisation("unit", source.normalisation.scale)
    return source._replace(data=source.data | {"test": test}, normalisation=plain)


def changed(source: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """The source with images [N, H, W, C] that are `change` of the stored ones."""

    def images(split: dict) -> dict:
        return dict(split) | {"image": change(np.asarray(split["image"]))}

    return source._replace(data={name: images(split) for name, split in source.data.items()})


def permuted(source: Any) -> Any:
    """The source with the pixels of all its images in another order, the same for all."""

    def change(image: np.ndarray) -> np.ndarray:
        count, height, width, channels = image.shape
        order = np.random.default_rng(0).permutation(height * width)
        return image.reshape(count, -1, channels)[:, order].reshape(image.shape)  # [N, H W, C] and back

    return changed(source, change)


def placed(source: Any) -> Any:
    """The source with its images at half their size in the middle of black ones as large as before.

    All classes: were some of them at other places too, a place would tell them from the rest, and a network with a
    global head found it out, from how strides and the image's border cut a digit (99.9 % errors elsewhere).
    """
    return changed(source, in_the_middle)


def in_the_middle(image: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] at half their size, means of 2x2 pixels, in the middle of black ones."""
    count, height, width, channels = image.shape
    high, wide = height // 2, width // 2
    top, left = (height - high) // 2, (width - wide) // 2
    blocks = image[:, : 2 * high, : 2 * wide].reshape(count, high, 2, wide, 2, channels)
    whole = np.zeros_like(image)
    # [N, H/2, 2, W/2, 2, C] -> [N, H/2, W/2, C]
    whole[:, top : top + high, left : left + wide] = np.round(blocks.mean(axis=(2, 4)))
    return whole


def away(height: int, width: int) -> dict[str, list[Disturbance]]:
    """A digit in the middle, "home", and moved towards each of the four corners, "elsewhere".

    By about a quarter of the image, in multiples of 4 pixels: two layers of stride 2 see the same there. By other
    distances they do not, shared weights or not (14 pixels, from corner to corner: 85 % errors with shared ones).
    """
    down, right = (4.0 * max(1, round(side / 16)) for side in (height, width))
    corners = [Disturbance(down=y * down, right=x * right) for y in (-1, 1) for x in (-1, 1)]
    return {"home": [Disturbance()], "elsewhere": corners}
