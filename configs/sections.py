"""Sections that the recipes of all studies have in common, as plain values."""


def data(name, train, validation):
    """Which set, and how many examples; 0 and 0 leave the numbers to the set."""
    return dict(
        name=name, dir="", train=train, validation=validation, order="seed", normalise="unit",
        pictures=dict(size=28, colour=False), csv=dict(label="label"),
    )  # fmt: skip


def optimizer(name="momentum"):
    """See jaxdl/training/optimizers.py for names and settings."""
    return dict(
        name=name, schedule="constant", warmup=0.0, milestones=(0.5, 0.75), decay=0.1, clip_norm=0.0,
        weight_decay="kernel=1,bias=0", learning_rate_multipliers=".*=1",
    )  # fmt: skip


def runtime():
    """How runs execute: nothing that changes numbers."""
    return dict(
        strategy="jit", device="", checkpoint_seconds=30.0, memory_gigabytes=0.5, runs_at_once=0, tensorboard=False,
        device_gigabytes=2.0, workers=0,
    )  # fmt: skip
