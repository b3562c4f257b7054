"""Which set `python -m experiments.data NAME` looks at, and how it is read. The same keys as in every study."""

from ml_collections import ConfigDict

from configs import sections
from jaxdl.errors import unknown

PRESETS = ("default",)


def get_config(preset="default"):
    if (preset or "default") not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.data = sections.data("", train=0, validation=0)
    return config
