"""Why deep networks were hard to train, and what made them trainable.

Papers    Glorot & Bengio 2010 (AISTATS), He et al. 2015 (arXiv 1502.01852), Ioffe & Szegedy 2015 (arXiv 1502.03167),
          He et al. 2016 (arXiv 1512.03385), Krizhevsky et al. 2012, Telgarsky 2016 (arXiv 1602.04485)
Command   python -m experiments.trainability --config=configs/trainability.py:PRESET

PRESET    data      what
default   digits    what the claims need, in 12 minutes on 2 CPU cores
smoke     digits    does everything run? Seconds, most of them compilation
full      digits    seven units, six initialisations, three kinds of layers, five depths: hours

Test error by default, 10 seeds, in %, at 2 / 5 / 10 / 30 layers: sigmoid-glorot 2.59 / 89.97 / 89.92 / 89.97,
tanh-standard 2.39 / 3.00 / 17.33 / 89.92, tanh-glorot 2.72 / 3.00 / 2.92 / 4.79, relu-glorot 2.80 / 3.02 / 3.60 /
88.06, relu-he 2.95 / 3.43 / 3.60 / 14.18, relu-he-residual 2.92 / 3.12 / 3.05 / 2.67. Contradicted: that two layers of
rectifiers take fewer steps than of sigmoid and tanh units; that ten of rectifiers take fewer with batch norm than
without; that a deep network learns parity better than a shallow one.

A family is UNIT-INITIALISATION or UNIT-INITIALISATION-NORMALISATION; a variant is a family at a depth. All runs that
share unit, normalisation and depth are one program over initialisations, initial scales, learning rates and seeds.
"""

from itertools import product

from ml_collections import ConfigDict

from configs import sections
from jaxdl.errors import unknown

PRESETS = ("default", "smoke", "full")


def get_config(preset="default"):
    preset = preset or "default"
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.seeds = 10
    config.data = sections.data("digits", train=1200, validation=200) | dict(normalise="channel")
    config.batch_size = 32
    config.model = dict(width=32)
    config.compare = dict(
        depths=(2, 5, 10, 30),  # hidden layers
        families=(
            "linear-orthogonal", "sigmoid-glorot", "tanh-standard", "tanh-glorot", "relu-glorot", "relu-he",
            "relu-he-residual",
        ),
        # at one depth, their initial weights times each gain as well; at 2, relu-he-10 diverged at every rate
        gain_families=("relu-he", "relu-he-batch_norm", "sigmoid-glorot-batch_norm"), gain_depth=10, gains=(0.5, 1.5),
        starts=5,  # relu-he at the first depth from so many starting points, the best on the validation split; 0: not
        functions=("parity", "sawtooth"),
    )  # fmt: skip
    # Parity of so many bits, a sawtooth of 2^teeth pieces: as many units in `teeth` layers as in one.
    config.functions = dict(bits=8, teeth=4, units=8)
    config.hyper = dict(learning_rate=0.03, momentum=0.9, weight_decay=0.0, gain=1.0)
    config.tune = dict(learning_rate=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3))
    config.steps, config.epochs = 1500, 0.0
    config.target_loss = 0.2  # nats, of the training batches: steps are counted until there
    config.optimizer = sections.optimizer() | dict(weight_decay="kernel=1,bias=0,scale=0")
    config.evaluations = 10
    config.observed = dict(images=200, jacobians=2)  # training images that signals, and Jacobians, are of
    config.sweeps = dict(width=("model.width=16,32,64",))
    config.runtime = sections.runtime()
    if preset == "smoke":
        config.seeds, config.model.width, config.steps, config.evaluations = 2, 12, 30, 3
        config.tune = dict(learning_rate=(0.03,))
        config.compare.depths, config.compare.gain_depth, config.compare.gains = (2, 3), 3, (2.0,)
        config.compare.families = ("tanh-standard", "tanh-glorot")
        config.compare.gain_families, config.compare.starts = ("tanh-glorot-batch_norm",), 0
        config.compare.functions = ("sawtooth",)
        config.observed.images = 40
    if preset == "full":
        units = ("linear", "sigmoid", "tanh", "softsign", "relu", "leaky_relu", "elu")
        starts = ("small", "standard", "lecun", "glorot", "he", "orthogonal")
        each = product(units, starts, ("", "-batch_norm", "-residual"))
        config.compare.families = tuple(f"{unit}-{start}{kind}" for unit, start, kind in each)
        config.compare.depths = (2, 5, 10, 20, 30)
        config.tune = dict(learning_rate=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3))
        config.steps = 3000
    return config
