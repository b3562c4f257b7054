"""Dropout, and what it replaces: penalties, a bound on weights, stopping early.

Papers    Srivastava et al. 2014 (JMLR 15), Wan et al. 2013 (ICML; DropConnect)
          (MNIST, 784-1024-1024-2048-10, Table 9: L2 1.62, max-norm 1.35, dropout + max-norm 1.05 % test error)
Command   python -m experiments.dropout_ablation --config=configs/dropout_ablation.py:PRESET

PRESET    data      what
default   digits    64-256-10, everything, in 7 minutes on 2 CPU cores
smoke     digits    does everything run? Seconds, most of them compilation
mnist     MNIST     784-256-10 in 21 minutes; without DropConnect, whose masks are as many as weights times examples
paper     MNIST     784-1024-1024-2048-10, momentum 0.95; for an accelerator. --sweep=networks, --sweep=units: Table 2's

Test error by default, 10 seeds, in %: none 2.62, dropout 2.59, dropout-both 2.32, L2 2.87, L1 2.62, max-norm 2.75,
dropout+max-norm 2.67; with 100 images none 10.10, dropout 9.67. Contradicted: that dropout takes 2 to 3 times the steps
(281 against 195). Strengths and learning rates lie at the ends of short grids for some variants; the table marks them.
By mnist, 3 seeds, 10 epochs: none 1.83, dropout 2.01, L2 1.86, max-norm 1.77, dropout+max-norm 2.61, dropout+L2 2.71;
with 5,000 images none 4.59, dropout 4.32. Ten epochs are too few for dropout on all of MNIST: its training error is
larger, too.
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
    config.data = sections.data("digits", train=1000, validation=400)
    config.batch_size = 32
    config.model = dict(widths=(256,), unit="relu", initialisation="he_normal", inverted=True)
    config.hyper = dict(
        learning_rate=0.1, momentum=0.9, weight_decay=0.0, max_norm=0.0, l1=0.0, sparsity_weight=0.0,
        sparsity_target=0.1, input_dropout=0.0, hidden_dropout=0.0, input_gaussian=0.0, hidden_gaussian=0.0,
        dropconnect=0.0,
    )  # fmt: skip
    config.tune = dict(learning_rate=(0.03, 0.1))
    # What each regulariser chooses from: as many trials for each, learning rates alone for those without a strength.
    config.strengths = dict(
        learning_rate=(0.01, 0.02, 0.03, 0.06, 0.1, 0.2), weight_decay=(1e-4, 1e-3, 1e-2), l1=(1e-5, 1e-4, 1e-3),
        sparsity_weight=(1e-3, 1e-2, 1e-1), max_norm=(1.0, 2.0, 3.0), rate=(0.25, 0.5, 0.75), input=0.1, hidden=0.5,
    )  # fmt: skip
    config.compare = dict(
        regularisers=(
            "none", "dropout", "dropout-input", "dropout-both", "gaussian", "dropconnect", "L2", "L1", "max-norm",
            "sparsity", "early-stopping", "dropout+max-norm", "dropout+L2",
        ),
        keep=(0.1, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0),  # probabilities of keeping hidden units
        sizes=(100, 200, 400),  # training examples, beside all of them
        medium=400,
        averages=(1, 2, 5, 10, 20, 50, 100),  # thinned networks
    )  # fmt: skip
    config.speed = dict(loss=0.02, every=10, patience=20)  # when the training loss is there, looked at every 10 steps
    config.steps, config.epochs = 2000, 0.0
    config.optimizer = sections.optimizer()
    config.max_norm = "kernel=1,bias=0"  # which parameters the bound is for
    config.evaluations, config.patience = 20, 5  # of early stopping, in evaluations
    config.sweeps = dict(width=("model.widths=(64,),(256,),(1024,)",))
    config.runtime = sections.runtime()
    if preset == "smoke":
        config.seeds, config.steps, config.evaluations, config.patience = 2, 40, 4, 1
        config.model.widths, config.tune.learning_rate = (16,), (0.1,)
        config.strengths.learning_rate, config.strengths.rate = (0.05, 0.1), (0.25, 0.5)
        config.strengths.max_norm = (1.0, 2.0)
        config.compare = dict(
            regularisers=("none", "dropout", "max-norm", "early-stopping"), keep=(0.5,), sizes=(100,), medium=100,
            averages=(1, 3),
        )  # fmt: skip
        config.speed = dict(loss=2.0, every=5, patience=3)
    if preset in ("mnist", "paper"):
        config.data, config.batch_size, config.seeds = sections.data("mnist", train=0, validation=5000), 100, 3
        config.strengths.weight_decay, config.strengths.l1 = (1e-5, 1e-4, 1e-3), (1e-6, 1e-5, 1e-4)
        config.strengths.max_norm, config.strengths.input = (2.0, 3.0, 4.0), 0.2
        config.compare.regularisers = tuple(name for name in config.compare.regularisers if name != "dropconnect")
        config.compare.sizes, config.compare.medium = (100, 500, 1000, 5000, 10000), 5000
        config.speed = dict(loss=0.02, every=50, patience=20)
        config.steps, config.epochs = 0, 10.0
    if preset == "mnist":  # half the trials and fewer sizes: within an hour
        config.tune.learning_rate, config.strengths.learning_rate = (0.1,), (0.03, 0.1, 0.2)
        config.compare.sizes = (100, 1000, 5000)
    if preset == "paper":
        config.model.widths, config.model.inverted = (1024, 1024, 2048), False
        config.hyper.momentum = 0.95
        config.steps, config.epochs = 1_000_000, 0.0
        config.sweeps = dict(
            networks=(
                "model.widths=(1024,1024),(1024,1024,1024),(2048,2048,2048),(4096,4096),(8192,8192),(8192,8192,8192)",
            ),
            units=("model.unit=sigmoid,relu",),
        )  # fmt: skip
    return config
