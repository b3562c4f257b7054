"""What a config's augmentation does to eight training images."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxdl import data
from jaxdl.errors import UserError
from jaxdl.study.launch import Launch

IMAGES, VERSIONS = 8, 8


def write(launch: Launch) -> Path:
    """Write figures/augmentation.png: the first images as they are, then as the first run sees them at eight steps.

    UserError for a recipe that augments nothing.
    """
    group = launch.groups[0]
    source = data.augmented(group.source, group.config.augmentation)
    if source.augment is None:
        example = "--config.augmentation.rotation=20.0"
        raise UserError(f"this recipe augments nothing: switch something on, as in {example}")
    stored = np.asarray(source.data["train"]["image"][:IMAGES])
    image = source.normalisation.scaled(stored)
    position, run = jnp.arange(len(stored), dtype=jnp.uint32), {"seed": np.uint32(group.runs.rows[0].seed)}
    versions = [source.augment(run, jnp.uint32(step), position, image) for step in range(VERSIONS)]
    path = launch.asked.workdir / "figures" / "augmentation.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(np.stack([image, *versions])).savefig(path, dpi=150)
    return path


def sheet(versions: np.ndarray) -> Figure:
    """Images [versions, N, height, width, channels] in [0, 1]: one row an image, the first column as it is stored."""
    columns, rows, _, _, channels = versions.shape
    figure = Figure(figsize=(columns * 1.05, 0.3 + rows * 1.05), layout="constrained")
    for axes, (column, row) in zip(
        figure.subplots(rows, columns, squeeze=False).T.ravel(), np.ndindex(columns, rows), strict=True
    ):
        shown = versions[column, row] if channels == 3 else versions[column, row].mean(axis=-1)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        if row == 0:
            axes.set_title("stored" if column == 0 else f"step {column - 1}", fontsize="small")
    return figure
