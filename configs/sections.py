"""Sections that the recipes of all studies have in common, as plain values."""


def data(name, train, validation):
    """Which set, and how many examples; 0 and 0 leave the numbers to the set."""
    return dict(
        name=name, dir="", train=train, validation=validation, order="seed", normalise="unit",
        pictures=dict(size=28, colour=False), csv=dict(label="label"),
    )  # fmt: skip


def graph(name, split="random", train=20, validation=30):
    """Which graph, and which of its nodes are trained on; see jaxdl/data/graph_sets.py."""
    return dict(
        name=name, dir="", split=split, train=train, validation=validation, largest_component=True, normalise="none",
        directed=False, csv=dict(label="label"),
        blocks=dict(classes=4, nodes=400, degree=8.0, homophily=0.8, features=16, signal=1.0, seed=0),
    )  # fmt: skip


def graph_set(name, train=0, validation=0, folds=0):
    """Which set of graphs, and how it is divided; see jaxdl/data/graph_sets.py. most_nodes: of a batch, 0: no bound."""
    return dict(
        name=name, dir="", train=train, validation=validation, folds=folds, most_nodes=0,
        families=dict(count=200, seed=0),
    )  # fmt: skip


def model(name):
    """Which network, see jaxdl/models/by_name.py, and the settings of all of them; each reads its own."""
    return dict(
        name=name, initialisation="he_normal", widths=(256,), unit="relu", depth=20, shortcut="A",
        stride_in_3x3=False, growth_rate=12, bottleneck=True, compression=0.5,
    )  # fmt: skip


def optimizer(name="momentum"):
    """See jaxdl/training/optimizers.py for names and settings."""
    return dict(
        name=name, schedule="constant", warmup=0.0, milestones=(0.5, 0.75), decay=0.1, clip_norm=0.0,
        weight_decay="kernel=1,bias=0", learning_rate_multipliers=".*=1",
    )  # fmt: skip


def runtime():
    """How runs execute: nothing that changes numbers."""
    return graph_runtime() | dict(device_gigabytes=2.0, workers=0)


def graph_runtime():
    """The same where nothing is streamed."""
    return dict(
        strategy="jit", device="", checkpoint_seconds=30.0, memory_gigabytes=0.5, runs_at_once=0, tensorboard=False
    )


def augmentation():
    """Off, all of it. See jaxdl/data/augmentation.py for what each does, in which order and in which units."""
    return dict(
        resized_crop=False, resized_crop_area=(0.08, 1.0), resized_crop_aspect=(0.75, 4 / 3), crop_padding=0,
        rotation=0.0, scale_jitter=0.0, translation=0.0, horizontal_flip=0.0, vertical_flip=0.0,
        brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grey=0.0, pca_colour=0.0, cutout=0,
        outside="fill", fill=(0.0,),
    )  # fmt: skip
