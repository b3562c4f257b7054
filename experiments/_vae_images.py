"""What a trained variational autoencoder is good for: new pictures, and the codes of a user's own.

Kingma & Welling 2014 (arXiv 1312.6114): a picture is p(x|z) of a draw z of N(0, 1); a code is q(z|x).
"""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments._trained import appearing, free
from experiments._vae_fits import network
from jaxdl.errors import UserError

BLOCK = 64  # pictures in one program call: the last one is filled up, so a picture never depends on how many there are
MOST = 999_999  # pictures of one command
TILED = 400  # pictures on the tile
SIDE = 64  # pixels of a picture on the tile, at least
GAP = 2  # white pixels between them


def generate(finished: Any, variant: str, seed: int, value: str, out: str) -> None:
    """Write pictures drawn from the model: 0000.png, 0001.png, ... in the data's own size, and tile.png of them.

    Picture n is the mean of p(x|z) at a z of N(0, 1) that follows from (seed, n) alone.

    value: how many; out: the folder, "" for WORKDIR/generated/VARIANT-seed=K. The rest: see `jaxdl.study.Action`
    """
    import jax
    from PIL import Image

    from jaxdl import tasks

    count = int(value) if value.isdecimal() and len(value) <= len(str(MOST)) else 0
    if not 1 <= count <= MOST:
        raise UserError(f"--generate={value} is not possible: valid is a whole number from 1 to {MOST}")
    place = free(out or finished.launch.asked.workdir / "generated" / f"{variant}-seed={seed}")
    module, params, config, source = trained(finished, variant, seed)
    shape, latent = source.data["train"]["image"].shape[1:], module.latent

    @jax.jit
    def decode(params: Any, numbers: Any) -> Any:  # [BLOCK] -> [BLOCK, inputs]
        output = module.apply({"params": params}, codes(seed, numbers, latent), method="decode")
        return tasks.pixel_means(config.model.decoder, output)

    first: list[np.ndarray] = []
    with appearing(place) as draft:
        draft.mkdir()
        for start in range(0, count, BLOCK):
            means = np.asarray(decode(params, np.arange(start, start + BLOCK, dtype=np.uint32)))
            drawn = pixels(means.reshape(BLOCK, *shape), source.normalisation)[: count - start]  # -> [B, h, w, c]
            for number, picture in enumerate(drawn, start):
                _image(Image, picture).save(draft / f"{number:04d}.png")
            first += list(drawn[: max(0, TILED - start)])
        _image(Image, tile(np.stack(first))).save(draft / "tile.png")
    print(f"pictures  {place}/0000.png" + (f" to {count - 1:04d}.png" if count > 1 else ""))
    print(f"tile      {place}/tile.png" + (f", of the first {TILED}" if count > TILED else ""))


def encode(finished: Any, variant: str, seed: int, value: str, out: str) -> None:
    """Write the codes of all pictures below a folder, in the order of their names: an .npz file without pickles.

    mean, log_variance: float32 [N, Z], of q(z|x); file: text [N], the names relative to the folder

    Of each picture the model sees the central square in the data's size, channels and steps of grey, normalised as in
    training. Where training draws binary pixels (model.binarise), it sees their probabilities.

    value: the folder; out: the file, "" for WORKDIR/encoded/VARIANT-seed=K.npz. The rest: see `jaxdl.study.Action`
    """
    import jax

    from jaxdl.data import image_folder, images

    place = free(out or finished.launch.asked.workdir / "encoded" / f"{variant}-seed={seed}.npz")
    if place.suffix != ".npz":
        raise UserError(f"--out={out} is no .npz file: write --out={out}.npz")
    root = Path(value).expanduser()
    if not root.is_dir():
        raise UserError(f"--encode={value} is no folder: valid is a folder of pictures")
    module, params, _, source = trained(finished, variant, seed)
    images.side(source)
    like = source.data["train"]["image"]

    @jax.jit
    def encoded(params: Any, stored: Any) -> tuple[Any, Any]:  # [BLOCK, h, w, c] -> [BLOCK, Z], twice
        return module.apply({"params": params}, source.images(stored), method="encode")

    found: list[tuple[np.ndarray, np.ndarray]] = []
    try:
        files = sorted(image_folder.pictures(root), key=str)
        if not files:
            raise UserError(f"{root} holds no picture; valid: {' '.join(image_folder.PICTURES)}")
        for start in range(0, len(files), BLOCK):
            block = [images.stored(path.read_bytes(), str(path), source) for path in files[start:][:BLOCK]]
            stored = np.zeros((BLOCK, *like.shape[1:]), like.dtype)
            stored[: len(block)] = block
            found.append(tuple(np.asarray(each)[: len(block)] for each in encoded(params, stored)))
        others = sorted(_visible(root) - set(files))
    except OSError as error:
        raise UserError(f"cannot read the pictures in {root} ({error.strerror})") from error
    mean, log_variance = (np.concatenate(each) for each in zip(*found, strict=True))
    with appearing(place) as draft:
        names = np.array([path.relative_to(root).as_posix() for path in files])
        # As np.savez does, which can't write an array called `file`.
        with zipfile.ZipFile(draft, "w") as archive:
            for name, array in {"mean": mean, "log_variance": log_variance, "file": names}.items():
                with archive.open(f"{name}.npy", "w") as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
    print(f"codes     {place}: {len(files)} pictures, {mean.shape[1]} values each")
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        print(f"passed over, being no pictures: {others[0].relative_to(root)}{more}")


def trained(finished: Any, variant: str, seed: int) -> tuple[Any, Any, Any, Any]:
    """The network of a run, its parameters, config and source.

    UserError where it has no decoder of Gaussian codes, where it diverged, and where the data are no pictures.
    """
    import jax

    from jaxdl.data import images

    model = finished.model(variant, seed)
    params, config, source = model.params, model.group.config, model.group.source
    if not {"mean", "log_variance", "output"} <= params.keys():
        raise UserError(f"the variant {variant!r} has no decoder of Gaussian codes: name another --variant")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise UserError(f"the variant {variant!r} diverged with seed {seed}: name another --seed or --variant")
    images.channels(source)
    return network(config, source, ("gaussian", params["mean"]["bias"].shape[0], "")), params, config, source


def codes(seed: int, numbers: Any, latent: int) -> Any:
    """Draws of N(0, 1), float32 [N, latent]: each follows from the seed and its number, uint32 [N]."""
    from jaxdl import batch
    from jaxdl.training import step

    return batch.normal(step.key("generate", {"seed": np.uint32(seed)}, 0), numbers, (latent,))


def pixels(values: np.ndarray, normalisation: Any) -> np.ndarray:
    """What a model sees of pictures of integers, float [N, h, w, c], as uint8: the inverse of the normalisation."""
    if not normalisation.bounded:
        values = values / (1 if normalisation.factor is None else normalisation.factor) + normalisation.offset
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


def tile(pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 [N, h, w, c] in a square grid, row by row, each enlarged by a whole factor: uint8 [H, W, c]."""
    factor = math.ceil(SIDE / max(pictures.shape[1:3]))
    large = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width, channels = large.shape
    columns = math.ceil(math.sqrt(count))
    lines = math.ceil(count / columns)
    sheet = np.full((lines * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), 255, np.uint8)
    for number, picture in enumerate(large):
        top, left = GAP + number // columns * (height + GAP), GAP + number % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def _image(module: Any, values: np.ndarray) -> Any:
    return module.fromarray(values[..., 0] if values.shape[-1] == 1 else values)


def _visible(root: Path) -> set[Path]:
    """The files below a folder that are not hidden."""
    found = {path for path in root.rglob("*") if path.is_file()}
    return {path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)}
