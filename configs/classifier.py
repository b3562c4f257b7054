"""One network trained on images, to use it: `python -m experiments.classify PICTURE --from=runs/classifier`.

Paper     LeCun et al. 1998 (lenet); Chollet 2017, "Deep Learning with Python", section 5.1 (keras)
Command   python -m experiments.classifier --config=configs/classifier.py:PRESET
          python -m experiments.classifier --config.data.name=image_folder --config.data.dir=Photos

PRESET      data              what
default     rendered digits   three blocks of convolution, batch norm and ReLU; 3 seeds
smoke       rendered digits   seconds: does everything run?
digits_cnn  rendered digits   the same as its tutorial has it: 7,500 images, 2,500 to validate, no test split
angle       rendered digits   regression: by how many degrees is the digit turned?
keras       MNIST             32-64-64 convolutions, 93,322 parameters, RMSprop, 5 epochs
lenet       MNIST             LeNet-5, 61,706 parameters, 20 epochs

Test error as it came out on 2 CPU cores: default 1.32 ± 1.12 % over 3 seeds; keras 0.89 % (99.11 % right, one seed).
"""

from ml_collections import ConfigDict

from configs import sections
from jaxdl.errors import unknown

PRESETS = ("default", "smoke", "digits_cnn", "angle", "keras", "lenet")


def get_config(preset="default"):
    preset = preset or "default"
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    config = ConfigDict()
    config.seeds = 3
    config.data = sections.data("rendered_digits", train=7000, validation=1000)
    config.data.normalise = "pixel_mean"
    config.target = "label"  # or "angle", or whatever else the set has a number of for each image
    config.batch_size = 128
    config.model = sections.model("digits_cnn") | dict(initialisation="glorot_uniform")
    config.augmentation = sections.augmentation()
    config.hyper = dict(learning_rate=0.01, momentum=0.9, weight_decay=1e-4)
    config.tune = dict()
    config.steps, config.epochs = 0, 4.0
    config.optimizer = sections.optimizer() | dict(weight_decay="kernel=1,bias=0,scale=0")
    config.average = 0.0  # decay of the moving average of the parameters; 0: none
    config.validate_every, config.patience = 30, 0  # steps; evaluations without improvement before it stops, 0: never
    config.sweeps = dict(network=("model.name=mlp,lenet,keras_cnn,digits_cnn",))
    config.runtime = sections.runtime()
    if preset == "smoke":
        config.seeds, config.data.train, config.data.validation, config.data.name = 2, 1200, 200, "digits"
        config.epochs, config.validate_every = 6.0, 20
    if preset == "digits_cnn":
        config.seeds, config.data.train, config.data.validation = 1, 7500, 2500
    if preset == "angle":
        config.target = "angle"
        config.epochs, config.optimizer.name, config.hyper.learning_rate = 20.0, "adam", 0.001
    if preset in ("keras", "lenet"):
        config.seeds, config.validate_every = 1, 300
        config.data.name, config.data.train, config.data.validation = "mnist", 0, 5000
        config.data.normalise = "unit"
        config.hyper.weight_decay = 0.0
    if preset == "keras":
        config.model.name, config.optimizer.name = "keras_cnn", "rmsprop"
        config.hyper.learning_rate, config.hyper.momentum = 0.001, 0.0
        config.batch_size, config.epochs = 64, 5.0
    if preset == "lenet":
        config.model.name = "lenet"
        config.epochs, config.optimizer.schedule = 20.0, "cosine"
    return config
