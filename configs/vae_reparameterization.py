"""Variational autoencoders: what the reparameterisation trick buys, and what beta does.

Papers    Kingma & Welling 2014 (arXiv 1312.6114), Higgins et al. 2017 (ICLR), Burda et al. 2016 (arXiv 1509.00519)
Command   python -m experiments.vae_reparameterization --config=configs/vae_reparameterization.py:PRESET

PRESET      data      what
default     digits    64-100-100-8
smoke       digits    seconds: does everything run?
mnist       MNIST     784-200-200-50, binarisation drawn anew at every use
"""

from ml_collections import ConfigDict

from configs import sections
from jaxdl.errors import unknown

PRESETS = ("default", "smoke", "mnist")


def get_config(preset="default"):
    preset = preset or "default"
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.seeds = 5
    config.data = sections.data("digits", train=1200, validation=200)
    config.batch_size = 40
    config.compare = dict(
        estimators=("pathwise", "score", "score_running_mean"), betas=(0.0, 0.5, 1.0, 2.0, 4.0, 10.0), autoencoders=True
    )
    config.model = dict(
        widths=(100, 100), latent=8, unit="tanh", initialisation="glorot_uniform", decoder="bernoulli", binarise="none",
        samples=1,
    )  # fmt: skip
    config.hyper = dict(
        learning_rate=0.001, weight_decay=0.0, momentum=0.9, beta=1.0, noise=1.0, masking=0.0, free_bits=0.0,
        anneal=0.0, decoder_deviation=1.0,
    )  # fmt: skip
    config.tune = dict(learning_rate=(0.001, 0.003))
    config.bound = dict(samples=50)  # of the importance-weighted bound on the test images
    config.steps, config.epochs = 4000, 0.0
    config.optimizer = sections.optimizer("adam")
    config.evaluations = 20
    config.sweeps = dict(latent=("model.latent=2,4,8,16",))
    config.runtime = sections.runtime()
    if preset == "smoke":
        config.seeds = 2
        config.compare.betas = (0.0, 1.0, 4.0)
        config.model.widths, config.model.latent = (16,), 2
        config.tune.learning_rate = (0.003,)
        config.bound.samples = 5
        config.steps, config.evaluations = 60, 3
    if preset == "mnist":
        config.seeds = 2
        config.data = sections.data("mnist", train=0, validation=5000)
        config.batch_size = 100
        config.model.widths, config.model.latent, config.model.binarise = (200, 200), 50, "resampled"
        config.tune.learning_rate = (0.001,)
        config.bound.samples = 5000
        config.steps, config.epochs = 0, 20.0
    return config
