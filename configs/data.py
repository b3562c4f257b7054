"""Which set `python -m experiments.data NAME` looks at, and how it is read. The same keys as in every study."""

from ml_collections import ConfigDict

from jaxdl.errors import unknown

PRESETS = ("default",)


def get_config(preset="default"):
    if (preset or "default") not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.data = dict(
        name="", dir="", train=0, validation=0, order="seed", normalise="unit",
        pictures=dict(size=28, colour=False), csv=dict(label="label"),
    )  # fmt: skip
    return config
