"""Functions that deep networks represent with few units: exact constructions, and the same as data to train on.

Units are rectifiers, inputs and weights are dyadic rationals with few digits: float64 has no error here.
"""

from typing import Any

import numpy as np

FUNCTIONS = ("parity", "sawtooth")


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def sawtooth(x: np.ndarray, teeth: int) -> np.ndarray:
    """The triangle wave of 2^teeth pieces on [0, 1]: it is 0 at even and 1 at odd multiples of 2^-teeth."""
    phase = np.mod(x * 2.0**teeth, 2.0)
    return np.minimum(phase, 2.0 - phase)


def deep_sawtooth(x: np.ndarray, teeth: int) -> np.ndarray:
    """The same from `teeth` layers of two units: m(m(...m(x))), m(x) = 2 relu(x) - 4 relu(x - 1/2).

    Telgarsky 2016, arXiv 1602.04485, section 2.
    """
    for _ in range(teeth):
        x = 2.0 * relu(x) - 4.0 * relu(x - 0.5)
    return x


def shallow_sawtooth(x: np.ndarray, teeth: int) -> np.ndarray:
    """The same from one layer of 2^teeth units, one for each piece; fewer give fewer pieces."""
    slope, places = 2.0**teeth, np.arange(2**teeth) / 2.0**teeth
    steps = np.where(np.arange(2**teeth) == 0, slope, 2 * slope * (-1.0) ** np.arange(2**teeth))
    return relu(x[:, None] - places) @ steps  # [N, 2^teeth] -> [N]


def pieces(values: np.ndarray) -> int:
    """Of how many linear pieces a function is, from its values on a grid that all its corners lie on."""
    return 1 + int(np.count_nonzero(np.diff(values, 2)))


def most_pieces(depth: int, width: int) -> int:
    """So many pieces at most has a network of one input with `depth` layers of `width` rectifiers.

    (2 width)^depth (Telgarsky 2016, lemma 3.2); one layer has width + 1.
    """
    return width + 1 if depth == 1 else (2 * width) ** depth


def all_bits(count: int) -> np.ndarray:
    """Every word of so many bits, 0 or 1: [2^count, count]."""
    return (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(float)


def deep_parity(bits: np.ndarray) -> np.ndarray:
    """Parity of words [N, n] from ceil(log2 n) layers, by pairs: a xor b = relu(a + b) - 2 relu(a + b - 1).

    Two units a pair: 2 (n - 1) in all.
    """
    while bits.shape[1] > 1:
        if bits.shape[1] % 2:
            bits = np.pad(bits, ((0, 0), (0, 1)))  # a zero is no operand
        total = bits[:, ::2] + bits[:, 1::2]
        bits = relu(total) - 2.0 * relu(total - 1.0)
    return bits[:, 0]


def shallow_parity(bits: np.ndarray) -> np.ndarray:
    """The same from one layer of n rectifiers: parity is a sawtooth of the sum of the bits."""
    count = bits.shape[1]
    steps = np.where(np.arange(count) == 0, 1.0, 2.0 * (-1.0) ** np.arange(count))
    return relu(bits.sum(axis=1, keepdims=True) - np.arange(count)) @ steps


def implicants(bits: np.ndarray, values: np.ndarray) -> int:
    """How many ands an or of ands needs for a function of which no and may leave out a variable.

    bits: all words [2^n, n]; values: 0 or 1 of each [2^n]. ValueError where one may: two words that differ in a
    single bit and are both 1. Of parity there are none such, so it is 2^(n - 1): each and is true of one word.
    """
    places = bits.astype(int) @ (1 << np.arange(bits.shape[1]))
    by_word = values[np.argsort(places)]
    for bit in range(bits.shape[1]):
        if (by_word * by_word[np.arange(len(by_word)) ^ (1 << bit)]).any():
            raise ValueError(f"an and may leave out variable {bit}")
    return int(by_word.sum())


def function_source(config: Any, source: Any, name: str) -> Any:
    """The function as two classes, on all its points in all three splits: how well is it represented?

    parity: all words of functions.bits bits, as -1 and 1; sawtooth: 16 points in the middle of each piece of the wave
    of 2^functions.teeth pieces, on [-1, 1], class 1 where the wave is above 1/2
    """
    from jaxdl.data.normalisation import Normalisation  # and with it JAX

    functions = config.functions
    if name == "parity":
        words = all_bits(functions.bits)
        image, label = 2 * words - 1, words.sum(axis=1) % 2
    else:
        count = 16 * 2**functions.teeth
        x = (np.arange(count) + 0.5) / count
        image, label = 2 * x[:, None] - 1, sawtooth(x, functions.teeth) > 0.5
    split = {"image": image.astype(np.float32), "label": label.astype(np.int32)}
    data = {each: split for each in source.data}
    as_it_is = Normalisation("channel", 1.0)
    return source._replace(
        name=name, data=data, names=("0", "1"), normalisation=as_it_is,
        fingerprint=f"{name}-{len(image)}", batch_size=min(source.batch_size, len(image)),
    )  # fmt: skip
