"""The recipe of the tests' own study."""

from ml_collections import ConfigDict

PRESETS = ("default", "other")


def get_config(preset="default"):
    config = ConfigDict()
    config.seeds = 2
    config.data = dict(
        name="digits", dir="", train=1200, validation=200, order="seed", normalise="unit",
        pictures=dict(size=28, colour=False), csv=dict(label="label"),
    )  # fmt: skip
    config.batch_size = 32
    config.compare = dict(kinds=("plain", "decay"))
    config.model = dict(hidden=4, unit="sigmoid")
    config.hyper = dict(learning_rate=0.3, weight_decay=0.01, momentum=0.9)
    config.tune = dict(learning_rate=(0.3, 1.0))
    config.steps, config.epochs, config.evaluations = 20, 0.0, 2
    config.optimizer = dict(
        name="momentum", schedule="constant", warmup=0.0, milestones=(0.5, 0.75), decay=0.1, clip_norm=0.0,
        weight_decay="kernel=1,bias=0", learning_rate_multipliers=".*=1",
    )  # fmt: skip
    config.sweeps = dict(rates=("hyper.learning_rate=0.1,0.3",), both=("model.hidden=4,6", "batch_size=32,64"))
    config.runtime = dict(
        strategy="jit",
        device="",
        checkpoint_seconds=30.0,
        memory_gigabytes=0.5,
        runs_at_once=0,
        tensorboard=False,
        device_gigabytes=2.0,
        workers=0,
    )
    if preset == "other":
        config.model.unit, config.tune.learning_rate, config.compare.kinds = "tanh", (0.5,), ("decay",)
    return config
