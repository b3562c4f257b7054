"""Deep autoencoders by pretraining, beside PCA with a code of the same size.

Paper     Hinton & Salakhutdinov 2006, Science 313
          (MNIST 784-1000-500-250-30: deep autoencoder 3.00, PCA with 30 components 13.87 squared error an image)
Command   python -m experiments.deep_autoencoder --config=configs/deep_autoencoder.py:PRESET

PRESET      data      what
default     digits    64-100-50-25-8
smoke       digits    seconds: does everything run?
mnist       MNIST     784-200-100-50-30
paper       MNIST     784-1000-500-250-30; for an accelerator
"""

from ml_collections import ConfigDict

from configs import sections
from jaxdl.errors import unknown

PRESETS = ("default", "smoke", "mnist", "paper")


def get_config(preset="default"):
    preset = preset or "default"
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.seeds = 10
    config.data = sections.data("digits", train=1200, validation=200)
    config.batch_size = 40
    config.model = dict(widths=(100, 50, 25, 8), initialisation="glorot_uniform")
    config.hyper = dict(
        learning_rate=0.03, momentum=0.9, weight_decay=0.0, pretrain_learning_rate=0.03,
        sparsity_weight=0.0, sparsity_target=0.0, masking=0.1, gaussian=0.0, salt_pepper=0.0,
    )  # fmt: skip
    config.tune = dict(learning_rate=(0.01, 0.03, 0.1, 0.3))
    config.pretrain = dict(steps=1500, epochs=0.0)
    config.steps, config.epochs = 4000, 0.0
    config.optimizer = sections.optimizer()
    config.average = 0.0  # decay of the moving average of the parameters; 0: none
    config.evaluations, config.patience = 20, 0  # stop after so many evaluations without improvement; 0: never
    config.sweeps = dict(code=("model.widths=(100,50,25,4),(100,50,25,8),(100,50,25,16)",))
    config.runtime = sections.runtime()
    if preset == "smoke":
        config.seeds = 2
        config.model.widths = (16, 8, 4)
        config.tune.learning_rate = (0.03,)
        config.pretrain.steps = config.steps = 40
        config.evaluations = 2
    if preset in ("mnist", "paper"):
        config.data.name, config.data.train, config.data.validation = "mnist", 0, 5000
        config.batch_size = 100
        config.model.widths = (200, 100, 50, 30)
        config.seeds = 3
        config.tune.learning_rate = (0.003, 0.01, 0.03)
        config.hyper.pretrain_learning_rate = 0.003
        config.pretrain.steps, config.steps = 5500, 11000
    if preset == "paper":
        config.model.widths = (1000, 500, 250, 30)
        config.pretrain.steps, config.pretrain.epochs = 0, 50.0
        config.steps, config.epochs = 0, 200.0
    return config
