"""The classifier: its pictures against counts by hand, a user's own network on a user's own pictures, its refusals."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import _classifier_pictures as pictures
from experiments import classifier
from jaxdl import data
from jaxdl.data import normalisation
from jaxdl.errors import UserError
from jaxdl.study import contact_sheet
from jaxdl.study.launch import Asked, check, prepare
from jaxdl.training.stopping import Requests

NET = '''
from flax import linen as nn

class Net(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, images, train):
        hidden = nn.Dense(8)(images.reshape(len(images), -1))
        hidden = nn.relu(nn.BatchNorm(use_running_average=not train)(hidden))
        return nn.Dense(self.classes)(hidden)
'''


def source(labels):
    image = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4, 1), np.uint8)
    split = {"image": image, "label": np.array(labels, np.int32), "angle": np.array(labels, np.float32)}
    kept = normalisation.Normalisation("unit", 1 / 255)
    return data.Source("three", dict.fromkeys(("train", "validation", "test"), split), ("a", "b", "c"), kept, "0", 1)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title) if text.get_text()]


def test_confusions_and_the_most_confident_mistakes_are_those_of_the_probabilities():
    probabilities = np.array([[0.9, 0.1, 0], [0.3, 0.1, 0.6], [0, 0.2, 0.8], [0.1, 0.5, 0.4], [1, 0, 0]])
    drawn = pictures.classification(probabilities, source([0, 1, 1, 1, 2]), "test")
    # a: one right; b: one right, two taken for c; c: taken for a
    counts = sorted(text for text in texts(drawn["confusion"]) if text.isdigit())
    assert counts == ["1", "1", "1", "2"]
    said = [text for text in texts(drawn["mistakes"]) if "taken for" in text]
    assert said == ["c taken for\na (100%)", "b taken for\nc (80%)", "b taken for\nc (60%)"]
    right = np.eye(3)[[0, 1, 1, 1, 2]]
    assert set(pictures.classification(right, source([0, 1, 1, 1, 2]), "test")) == {"confusion"}


def test_the_largest_errors_of_a_regression_come_first():
    drawn = pictures.regression(np.array([0.0, 4.0, 1.5]), source([0, 1, 1]), "test", "angle")
    assert next(text for text in texts(drawn["mistakes"]) if text) == "1.0\npredicted 4.0"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of colour pictures in two classes, red and blue ones."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(1)
    for number in range(40):
        pixels = random.integers(0, 100, (20, 24, 3), np.uint8)
        pixels[..., 2 * (number % 2)] += 150
        place = folder / ("red", "blue")[number % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def test_a_users_network_with_batch_norm_learns_a_users_pictures(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").write_text(NET)
    config = classifier.study.config("smoke")
    config.model.name = "my_net:Net"
    config.data.update({"name": "image_folder", "dir": str(photos), "train": 24, "validation": 0})
    config.data.pictures.update({"size": 8, "colour": True})
    config.optimizer.weight_decay = ".*=0"
    config.batch_size, config.epochs, config.seeds, config.augmentation.horizontal_flip = 12, 20.0, 1, 0.5
    found = classifier.study.run(config, workdir=tmp_path / "runs")
    (row,) = found.report.results.rows
    assert row.variant == "Net" and row.metrics["test_error"].tolist() == [0.0]
    model = found.model("Net")
    stored = model.group.source.data["test"]
    assert (model.apply(stored["image"]).argmax(axis=1) == stored["label"]).all()
    assert {"Dense_0", "BatchNorm_0", "Dense_1", "total"} <= {line.split()[0] for line in found.report.opening}
    own = json.loads(next((tmp_path / "runs").glob("Net/*/seed=0/config.json")).read_text())
    assert own["augmentation"]["horizontal_flip"] == 0.5


def launched(tmp_path, **changes):
    values = classifier.study.config("smoke").to_dict() | {"seeds": 1}
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (values[section] if section else values)[name] = value
    return check(prepare(classifier.study, Asked(values, tmp_path, "", (), ""), Requests()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "lable"}, "unknown target in digits: 'lable'|unknown target in digits 'lable'"),
        ({"model__name": "cifar_resnet", "model__depth": 21}, "nearest: 20"),
        ({"model__name": "keras_cnn"}, "at least 18x18"),
        ({"augmentation__crop_padding": 9}, "larger than an image of 8x8"),
        ({"augmentation__hue": 0.1}, "images of 3 channels"),
        ({"validate_every": -1}, "evaluated every -1 steps"),
    ],
)
def test_what_is_not_possible_is_said_before_training(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        launched(tmp_path, **changes)


def test_the_contact_sheet_shows_what_training_sees(tmp_path):
    launch = launched(tmp_path, augmentation__horizontal_flip=1.0)
    path = contact_sheet.write(launch)
    assert path == tmp_path / "figures" / "augmentation.png" and path.stat().st_size > 1000
    own = launch.groups[0]
    stored = own.source.normalisation.scaled(own.source.data["train"]["image"][:8])
    changed = data.augmented(own.source, own.config.augmentation).augment
    seen = changed({"seed": np.uint32(0)}, np.uint32(3), np.arange(8, dtype=np.uint32), stored)
    np.testing.assert_array_equal(seen, stored[:, :, ::-1])
    with pytest.raises(UserError, match=r"augments nothing.*--config.augmentation"):
        contact_sheet.write(launched(tmp_path))
