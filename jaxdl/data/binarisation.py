"""Images whose pixels are drawn once, with their grey values as probabilities; the same draw for everybody."""

import hashlib

import numpy as np

from jaxdl.data.source import Source
from jaxdl.errors import UserError


def binarised(source: Source) -> Source:
    """The source with each stored pixel v of scale s replaced by 1/s with probability v s, else by 0.

    Fixed once and for all, as Larochelle & Murray 2011 have it for MNIST; their own draw is another one. Models that
    see a fixed draw reach other likelihoods than those that see a new one at every use: never compare the two.

    Raises UserError for a source that is streamed, or is no set of images of integers in [0, 1].
    """
    if source.streamed or source.normalisation.kind != "unit" or source.normalisation.offset is not None:
        raise UserError(
            f"{source.name} can't be binarised once: it must fit into memory, and be images of integers with "
            "data.normalise=unit"
        )
    highest = round(1 / source.normalisation.scale)
    data = {}
    for number, (split, rows) in enumerate(source.data.items()):
        stored = np.asarray(rows["image"])
        # Philox is counter-based: the same draws on every machine. An integer below `highest` against the pixel.
        draw = np.random.Generator(np.random.Philox(key=number)).integers(0, highest, stored.shape, np.uint16)
        data[split] = rows | {"image": np.where(draw < stored, highest, 0).astype(stored.dtype)}
    fingerprint = hashlib.sha256(f"{source.fingerprint}-binarised".encode()).hexdigest()[:16]
    return source._replace(data=data, fingerprint=fingerprint)
