"""Greedy layer-wise pretraining.

python -m experiments.greedy_pretraining [--config=configs/greedy_pretraining.py:PRESET]
"""

from ml_collections import ConfigDict

PRESETS = ("default", "smoke", "full", "mnist", "mnist_stacked", "paper")


def get_config(preset=""):
    from jaxdl.errors import unknown

    if preset not in ("", *PRESETS):
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.seeds = 10
    config.data = dict(name="digits", dir="", train=1200, validation=200, order="seed")
    config.batch_size = 32
    config.compare = dict(kinds=("random", "sparse", "denoising"), depths=(1, 2, 3, 4), labels=(), labelled_depth=2)
    config.model = dict(hidden=64, unit="sigmoid", initialisation="glorot_uniform", tied=False, top_k=16)
    config.hyper = dict(
        learning_rate=0.1,
        weight_decay=0.0,
        momentum=0.9,
        pretrain_learning_rate=0.1,
        pretrain_weight_decay=0.0,
        sparsity_weight=0.1,
        sparsity_target=0.1,
        masking=0.25,
        gaussian=0.0,
        salt_pepper=0.0,
    )
    config.tune = dict(learning_rate=(0.03, 0.1, 0.3))
    config.pretrain = dict(steps=1500, epochs=0.0, objective="cross_entropy", optimizer=optimizer())
    config.readout = dict(steps=0, epochs=0.0)
    config.steps, config.epochs = 3000, 0.0
    config.optimizer = optimizer()
    config.evaluations = 20
    config.average, config.patience = 0.0, 0
    config.runtime = dict(
        strategy="jit", device="", checkpoint_seconds=30.0, memory_gigabytes=0.5, runs_at_once=0, tensorboard=False
    )
    if preset == "smoke":
        config.seeds = 2
        config.compare.kinds, config.compare.depths = ("random", "sparse", "denoising"), (1, 2)
        config.model.hidden = 16
        config.tune.learning_rate = (0.1, 0.3)
        config.pretrain.steps = config.steps = 60
        config.evaluations = 3
    return config


def optimizer():
    return dict(
        name="momentum",
        schedule="constant",
        warmup=0.0,
        milestones=(0.5, 0.75),
        decay=0.1,
        clip_norm=0.0,
        weight_decay="kernel=1,bias=0",
        learning_rate_multipliers=".*=1",
    )
