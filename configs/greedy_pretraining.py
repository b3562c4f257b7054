"""Greedy layer-wise pretraining: deep sigmoid networks from random or pretrained weights.

Papers    Bengio et al. 2007 (NIPS 19), Vincent et al. 2010 (JMLR 11), Ng 2011 (CS294A, sparse autoencoders)
Command   python -m experiments.greedy_pretraining --config=configs/greedy_pretraining.py:PRESET

PRESET           data      what
default          digits    random, sparse, denoising at depths 1-4; 10 and 50 labels a class
smoke            digits    seconds: does everything run?
full             digits    all kinds of starts at depths 1-5; 10, 50 and 100 labels a class
mnist            MNIST     the default comparison on MNIST
mnist_stacked    MNIST     784-200-200-10 stacked sparse autoencoder, before and after fine-tuning
                           (published: 87.7 and 97.6 % accuracy, the UFLDL exercise)
paper            MNIST     1000 units a layer, depths 1-5, tied weights, plain SGD; for an accelerator
"""

from ml_collections import ConfigDict

from configs import sections
from jaxdl.errors import unknown

PRESETS = ("default", "smoke", "full", "mnist", "mnist_stacked", "paper")


def get_config(preset="default"):
    preset = preset or "default"
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.seeds = 10
    config.data = sections.data("digits", train=1200, validation=200)
    config.batch_size = 32
    config.compare = dict(
        kinds=("random", "sparse", "denoising"), depths=(1, 2, 3, 4), labels=(10, 50), labelled_depth=2,
        top=True,  # also train the output layer alone, on each kind's layers at the greatest depth
    )  # fmt: skip
    config.measure = dict(sparsity_batches=(1, 8, 64))  # sizes at which the sparsity penalty's estimate is looked at
    config.model = dict(hidden=64, unit="sigmoid", initialisation="glorot_uniform", tied=False, top_k=16)
    config.hyper = dict(
        learning_rate=0.3, weight_decay=0.0, momentum=0.9,
        pretrain_learning_rate=0.1, pretrain_weight_decay=0.0,
        sparsity_weight=0.1, sparsity_target=0.1, masking=0.25, gaussian=0.0, salt_pepper=0.0,
    )  # fmt: skip
    config.tune = dict(learning_rate=(0.1, 0.3, 1.0, 3.0))
    config.pretrain = dict(steps=1500, epochs=0.0, objective="cross_entropy", optimizer=sections.optimizer())
    config.readout = dict(steps=0, epochs=0.0)  # train the output layer alone before fine-tuning; 0 and 0: don't
    config.steps, config.epochs = 3000, 0.0  # of fine-tuning
    config.optimizer = sections.optimizer()
    config.average = 0.0  # decay of the moving average of the parameters; 0: none
    config.evaluations, config.patience = 20, 0  # stop after so many evaluations without improvement; 0: never
    config.sweeps = dict(size=("model.hidden=32,64,128",), momentum=("hyper.momentum=0.5,0.9,0.95",))
    config.runtime = sections.runtime()
    if preset == "smoke":
        config.seeds = 2
        config.compare.depths, config.compare.labels = (1, 2), (10,)
        config.model.hidden = 16
        config.tune.learning_rate = (0.3, 1.0)
        config.pretrain.steps = config.steps = 60
        config.evaluations = 3
    if preset == "full":
        config.compare.kinds = ("random", "plain", "sparse", "denoising", "ksparse", "supervised")
        config.compare.depths, config.compare.labels = (1, 2, 3, 4, 5), (10, 50, 100)
    if preset in ("mnist", "mnist_stacked", "paper"):
        config.data.name, config.data.train, config.data.validation = "mnist", 0, 5000
        config.batch_size = 100
    if preset == "mnist":
        config.seeds = 3
        config.compare.labels = (10, 100)
        config.model.hidden = 100
        config.tune.learning_rate = (0.1, 0.3, 1.0)
        config.pretrain.steps, config.steps = 5000, 5500
    if preset == "mnist_stacked":
        config.seeds = 3
        config.compare.kinds, config.compare.depths, config.compare.labels = ("random", "sparse"), (2,), ()
        config.model.hidden = 200
        config.hyper.sparsity_weight, config.hyper.sparsity_target = 3.0, 0.1
        config.hyper.pretrain_learning_rate = 0.001
        config.pretrain.objective, config.pretrain.optimizer.name = "squared_error", "adam"
        config.pretrain.steps, config.pretrain.epochs = 0, 15.0
        config.readout.epochs = 10.0
        config.tune.learning_rate = (0.01, 0.03, 0.1, 0.3)
        config.steps, config.epochs = 0, 20.0
    if preset == "paper":
        config.seeds = 5
        config.batch_size = 20
        config.compare.kinds = ("random", "plain", "sparse", "denoising", "supervised")
        config.compare.depths, config.compare.labels = (1, 2, 3, 4, 5), ()
        config.model.hidden, config.model.tied, config.model.initialisation = 1000, True, "glorot_sigmoid"
        config.hyper.momentum, config.hyper.pretrain_learning_rate = 0.0, 0.01
        config.optimizer.name = config.pretrain.optimizer.name = "sgd"
        config.pretrain.steps, config.pretrain.epochs = 0, 15.0
        config.tune.learning_rate = (0.01, 0.03, 0.1, 0.3)
        config.steps, config.epochs, config.patience = 0, 50.0, 5
        config.evaluations = 50
    return config
