"""Variational autoencoders: what the reparameterisation trick buys, what beta does, what a code is good for.

Papers    Kingma & Welling 2014 (arXiv 1312.6114), Higgins et al. 2017 (ICLR), Burda et al. 2016 (arXiv 1509.00519),
          Jang et al. 2017 (arXiv 1611.01144)
Command   python -m experiments.vae_reparameterization --config=configs/vae_reparameterization.py:PRESET

PRESET    data      what
default   digits    64-100-100-8, everything
smoke     digits    does everything run? A minute or two, most of it compilation
shapes    shapes    betas on 2-D shapes with known factors
mnist     MNIST     784-200-200-50, pixels drawn anew at every use; --config.model.binarise=fixed draws them once
paper     MNIST     the same with the schedule of Burda et al. 2016: 3,280 epochs

--config.model.channels=16,32 puts convolutions in place of the dense layers but the last, where codes are
Gaussian.
"""

from ml_collections import ConfigDict

from configs import sections
from jaxdl.errors import unknown

PRESETS = ("default", "smoke", "shapes", "mnist", "paper")


def get_config(preset="default"):
    preset = preset or "default"
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.seeds = 5
    config.data = sections.data("digits", train=1200, validation=200)
    config.batch_size = 40
    config.compare = dict(
        estimators=("pathwise", "score", "score_running_mean", "score_leave_one_out"), leave_one_out=4,
        betas=(0.0, 0.5, 1.0, 2.0, 4.0, 10.0), latents=(2, 32), autoencoders=True,
    )  # fmt: skip
    config.model = dict(
        widths=(100, 100), channels=(), latent=8, unit="tanh", initialisation="glorot_uniform", decoder="bernoulli",
        binarise="none",
    )  # fmt: skip
    config.categorical = dict(
        units=20, classes=2, estimators=("score", "score_leave_one_out", "gumbel_softmax", "straight_through")
    )
    config.hyper = dict(
        learning_rate=0.001, weight_decay=0.0, momentum=0.9, beta=1.0, noise=1.0, temperature=0.5, masking=0.0,
        free_bits=0.0, anneal=0.0, decoder_deviation=1.0,
    )  # fmt: skip
    config.tune = dict(learning_rate=(0.0003, 0.001, 0.003, 0.01))
    config.bound = dict(samples=50)  # of the importance-weighted bound on the test images
    config.generation = dict(samples=2000, codes=1000, disturbance=0.5, widths=(100,), steps=1000, learning_rate=0.003)
    config.gradients = dict(points=(0, 100, 500, 1500, 4000), images=8, samples=1000, reference=2000)
    config.steps, config.epochs = 4000, 0.0
    config.optimizer = sections.optimizer("adam")
    config.evaluations = 20
    config.sweeps = dict(latent=("model.latent=2,4,8,16",))
    config.runtime = sections.runtime()
    if preset == "smoke":
        config.seeds = 2
        config.compare.estimators = ("pathwise", "score_leave_one_out")
        config.compare.betas, config.compare.latents = (0.0, 1.0, 4.0), ()
        config.categorical.estimators = ("score_leave_one_out", "gumbel_softmax")
        config.model.widths, config.model.latent, config.categorical.units = (16,), 2, 4
        config.tune.learning_rate = (0.003,)
        config.bound.samples, config.generation.samples, config.generation.steps = 5, 5, 60
        config.gradients.points, config.gradients.images = (0, 60), 2
        config.gradients.samples, config.gradients.reference = 10, 20
        config.steps, config.evaluations = 60, 3
    if preset == "shapes":
        config.data = sections.data("shapes", train=0, validation=0)
        config.batch_size = 100
        config.compare.estimators, config.categorical.estimators, config.gradients.points = ("pathwise",), (), ()
        config.compare.betas, config.compare.latents, config.compare.autoencoders = (
            (0.5, 1.0, 2.0, 4.0, 10.0),
            (),
            False,
        )
        config.model.widths, config.model.latent, config.model.unit = (256, 256), 10, "relu"
        config.tune.learning_rate = (0.001,)
        config.generation.samples, config.steps = 0, 10000
    if preset in ("mnist", "paper"):
        config.seeds = 2
        config.data = sections.data("mnist", train=0, validation=5000)
        config.batch_size = 100
        config.model.widths, config.model.latent, config.model.binarise = (200, 200), 50, "resampled"
        config.compare.latents, config.categorical.estimators, config.gradients.points = (2,), (), ()
        config.tune.learning_rate = (0.001,)
        config.bound.samples, config.generation.samples, config.generation.codes = 5000, 500, 5000
        config.steps, config.epochs = 0, 100.0
        config.optimizer.schedule = "cosine"
    if preset == "paper":
        config.seeds = 1
        config.data.train, config.data.validation = 59600, 400
        config.compare.estimators, config.compare.betas, config.compare.latents = ("pathwise",), (), ()
        config.compare.autoencoders = False
        config.batch_size, config.epochs, config.generation.samples = 20, 3280.0, 0
        # 3^i epochs at 0.001 10^(-i/7), i = 0 to 7.
        config.optimizer.schedule, config.optimizer.decay = "step", 10 ** (-1 / 7)
        config.optimizer.milestones = tuple(sum(3**i for i in range(stage)) / 3280 for stage in range(1, 8))
    return config
