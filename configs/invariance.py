"""What a network's form knows of images: pooling, sharing, locality, augmentation.

Papers    LeCun 1989 (Generalization and network design strategies), LeCun et al. 1998 (Proceedings of the IEEE 86)
Command   python -m experiments.invariance --config=configs/invariance.py:PRESET

PRESET    data               what
default   rendered digits    everything, in 3 minutes on 2 CPU cores
smoke     rendered digits    does everything run? Seconds, most of them compilation
mnist     MNIST              the same with 55,000 training images

Test error by default, 5 seeds, in % (longer training takes the first two much further): mlp 29.25, local 16.75,
cnn 4.60, cnn-max 2.00, cnn-average 2.33; shifted by 1 to 6 pixels 64.69, 57.77, 48.34, 41.65, 41.97.
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
    config.data = sections.data("rendered_digits", train=3000, validation=500)
    config.test_images = 800  # the first ones; 0 for all
    config.batch_size = 50
    config.model = dict(maps=(16, 32), local_maps=(3, 6), widths=(23,), initialisation="he_normal")
    config.augmentation = sections.augmentation()
    config.augmentation.crop_padding = 4
    config.disturb = dict(
        shift=(1, 2, 4, 6), rotation=(15.0, 30.0, 60.0), scale=(0.5, 0.7, 1.4),
        noise=(0.1, 0.2, 0.4),
    )  # fmt: skip
    config.compare = dict(
        variants=(
            "mlp", "local", "cnn", "cnn-max", "cnn-average", "augmented-cnn", "permuted-mlp", "permuted-cnn",
            "placed-local-global", "placed-cnn-global", "placed-cnn",
        ),
    )  # fmt: skip
    config.hyper = dict(learning_rate=0.003, momentum=0.9, weight_decay=0.0)
    config.tune = dict(learning_rate=(0.003,))
    config.steps, config.epochs = 400, 0.0
    config.optimizer = sections.optimizer("adam")
    config.optimizer.schedule = "cosine"
    config.evaluations = 8
    config.sweeps = dict(maps=("model.maps=(8,16),(16,32),(32,64)",))
    config.runtime = sections.runtime()
    if preset == "smoke":
        config.seeds, config.test_images = 2, 100
        config.data.train, config.data.validation = 500, 100
        config.model.maps, config.model.local_maps, config.model.widths = (4, 6), (2, 3), (8,)
        config.disturb = dict(shift=(1, 4), rotation=(45.0,), scale=(0.7,), noise=(0.2,))
        config.compare.variants = ("local", "augmented-cnn", "permuted-mlp", "placed-cnn-global")
        config.steps, config.evaluations = 20, 2
    if preset == "mnist":
        config.data = sections.data("mnist", train=0, validation=5000)
        config.test_images, config.batch_size = 2000, 100
        config.steps, config.epochs = 0, 5.0
    return config
