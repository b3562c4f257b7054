"""Depth of plain and of residual networks.

Paper     He et al. 2016 (arXiv 1512.03385), section 4.2
Command   python -m experiments.resnet_depth --config=configs/resnet_depth.py:PRESET

PRESET          data       what
default         digits     8x8 images; 20 and 32 layers; 12 minutes
smoke           digits     does everything run? 8 layers alone; most of it is compilation
cifar10_small   CIFAR-10   20 and 44 layers on 10,000 images for 1,500 steps; about 3 hours, by extrapolation
paper           CIFAR-10   the paper's recipe, 20 to 110 layers; for an accelerator

As it came out by default (6 seeds, 12 min 2 s on 2 CPU cores), training / test error in %: plain-20 0.19 / 2.60,
plain-32 35.89 / 38.96, residual-20 0.00 / 1.93, residual-32 0.08 / 2.23, densenet-22-12 0.00 / 1.26.

`budgets` are shorter trainings, in steps, each from the start and with the whole learning-rate schedule. Weight
decay acts on the kernels; the paper does not say on which parameters.
"""

from ml_collections import ConfigDict

from configs import sections
from jaxdl.errors import unknown

PRESETS = ("default", "smoke", "cifar10_small", "paper")


def get_config(preset="default"):
    preset = preset or "default"
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.seeds = 6
    config.data = sections.data("digits", train=1200, validation=200) | dict(normalise="pixel_mean")
    config.batch_size = 32
    config.compare = dict(
        depths=(20, 32), option_b=(20,),  # without and with shortcuts; depths with option B as well
        densenet=dict(depth=22, growth_rate=12, bottleneck=False, compression=1.0),  # parameters of residual-20
        margin=0.01,  # training errors this close are the same; 0: the deeper residual net's has to be lower
    )  # fmt: skip
    config.model = dict(initialisation="he_normal")
    config.hyper = dict(learning_rate=0.1, momentum=0.9, weight_decay=1e-4)
    config.tune = dict(learning_rate=(0.1,))
    config.optimizer = sections.optimizer() | dict(schedule="step", weight_decay="kernel=1,bias=0,scale=0")
    config.warm_up = dict(depth=110, steps=400, factor=0.1)  # networks that deep begin at a part of the rate
    config.steps, config.epochs, config.budgets = 440, 0.0, (60, 300)
    config.augmentation = sections.augmentation()
    config.evaluations = 20
    config.observed = dict(images=256)  # training images that gradients are measured on
    config.sweeps = dict(learning_rate=("hyper.learning_rate=0.01,0.03,0.1",))
    config.runtime = sections.runtime()
    if preset == "smoke":
        config.seeds, config.batch_size = 2, 16
        config.compare.depths, config.compare.option_b = (8,), ()
        config.compare.densenet.depth, config.compare.densenet.growth_rate = 7, 24
        config.warm_up.depth, config.warm_up.steps = 8, 5
        config.steps, config.budgets, config.evaluations = 24, (8,), 4
        config.augmentation.crop_padding = 1
        config.observed.images = 32
    if preset in ("cifar10_small", "paper"):
        config.data = sections.data("cifar10", train=45000, validation=5000) | dict(normalise="pixel_mean")
        config.augmentation.crop_padding, config.augmentation.horizontal_flip = 4, 0.5
        config.compare.margin = 0.0
        config.runtime.memory_gigabytes = 8.0
    if preset == "cifar10_small":
        config.seeds = 2
        config.data.train, config.data.validation = 10000, 2000
        config.compare.depths, config.compare.option_b, config.compare.densenet.depth = (20, 44), (), 0
        config.batch_size, config.steps, config.budgets = 64, 1500, (170, 500)
    if preset == "paper":
        config.seeds = 5
        config.compare.depths, config.compare.option_b = (20, 32, 44, 56, 110), (56,)
        config.compare.densenet = dict(depth=100, growth_rate=12, bottleneck=True, compression=0.5)  # as residual-56
        config.batch_size, config.steps, config.budgets, config.evaluations = 128, 64000, (), 64
    return config
