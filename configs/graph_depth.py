"""Over-smoothing: what a graph convolutional network loses with each layer, and what brings it back.

Papers    Kipf & Welling 2017 (arXiv 1609.02907), appendix B; Li et al. 2018 (1801.07606); Zhao & Akoglu 2020
          (1909.12223)
Command   python -m experiments.graph_depth --config=configs/graph_depth.py:PRESET

PRESET    data             what
default   a block model    1,000 nodes, random splits
smoke     a block model    does everything run? Seconds, most of them compilation
cora      Cora             the public split, 400 epochs as in the paper

Default, test error in % with 2 / 4 / 8 / 16 layers, mean +- 95 % interval over 10 seeds, on 2 cores with jax 0.10.2:
    plain     2.36 +- 0.36   3.23 +- 0.47   5.73 +- 1.18   77.78 +- 4.30
    residual  2.34 +- 0.45   2.96 +- 0.49   3.51 +- 0.39    3.76 +- 0.51
    norm      2.07 +- 0.30   3.15 +- 0.28   3.91 +- 0.38   19.04 +- 8.21
All 8 claims hold.
"""

from ml_collections import ConfigDict

from configs import sections
from jaxdl.errors import unknown

PRESETS = ("default", "smoke", "cora")


def get_config(preset="default"):
    preset = preset or "default"
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.seeds = 10
    config.data = sections.graph("block_model")
    config.data.blocks = dict(classes=5, nodes=1000, degree=6.0, homophily=0.8, features=32, signal=2.0, seed=0)
    config.model = dict(width=16)
    config.hyper = dict(
        learning_rate=0.01, weight_decay=5e-4, input_dropout=0.5, hidden_dropout=0.5, attention_dropout=0.0
    )
    config.tune = dict()
    config.steps, config.epochs = 400, 0.0  # Kipf & Welling 2017, appendix B
    config.every = 20
    config.compare = dict(
        depths=(2, 4, 8, 16),  # layers, the last one included
        kinds=("plain", "residual", "norm"),  # "residual+norm" is there, too
    )
    config.optimizer = sections.optimizer("adam") | dict(weight_decay="hidden_0=1,.*=0")
    config.sweeps = dict(dropout=("hyper.hidden_dropout=0,0.5",), decay=("hyper.weight_decay=0,0.0005",))
    config.runtime = sections.graph_runtime()
    if preset == "smoke":
        config.seeds, config.steps, config.every = 2, 20, 10
        config.data.blocks.nodes, config.data.train, config.data.validation = 120, 5, 5
        config.compare.depths, config.compare.kinds = (2, 3), ("plain", "residual")
    if preset == "cora":
        config.data = sections.graph("cora", split="public") | dict(normalise="rows")
    return config
