"""What the dropout study compares, how it counts steps, and what it refuses."""

from types import SimpleNamespace

import numpy as np
import pytest

from configs.dropout_ablation import get_config
from experiments import dropout_ablation
from experiments.dropout_ablation import study
from jaxdl.errors import UserError
from jaxdl.study import Runs
from jaxdl.study.config import Config
from jaxdl.study.launch import Asked, check, prepare
from jaxdl.training.stopping import Requests


def values_of(preset="smoke", **changes):
    values = get_config(preset).to_dict()
    for key, value in changes.items():
        section, _, name = key.partition("__")
        values[section][name] = value
    return values


def test_every_regulariser_has_as_many_trials():
    config = Config(values_of("default"))
    rates = len(config.tune.learning_rate)
    counts = {}
    for name, changes in study.variants(config).items():
        grids = {key: len(value) for key, value in changes.items() if isinstance(value, tuple)}
        shared = 1 if "hyper.learning_rate" in changes else rates
        counts[name] = int(np.prod([*grids.values()])) * shared
    assert {count for name, count in counts.items() if not name.startswith("keep-")} == {6}
    assert {count for name, count in counts.items() if name.startswith("keep-")} == {rates}


def test_as_many_units_are_kept_whatever_the_probability():
    config = Config(values_of("default"))
    found = study.variants(config)
    kept = [
        dropout_ablation.widths(config, changes["scale"])[0] * (1 - changes["hyper.hidden_dropout"])
        for name, changes in found.items()
        if name.endswith("-scaled")
    ]
    assert len(kept) == 6 and np.allclose(kept, 128, atol=0.5)
    assert all(changes["scale"] == 1 for name, changes in found.items() if not name.endswith("-scaled"))


def test_steps_are_those_of_the_first_evaluation_at_the_loss():
    """Three runs: one that is there at step 40, one at the first evaluation, one that never comes."""
    config, seen = Config(values_of(speed__loss=0.5, speed__every=10, speed__patience=3)), {}
    train = {"image": np.zeros((1200, 8, 8, 1), np.uint8), "label": np.arange(1200, dtype=np.int32) % 10}
    losses = [[3.0, 1.0, 2.0, 0.4, 0.6, 0.3, 0.2], [0.1, 0.7, 0.6, 0.1, 0.1, 0.1, 0.1], [3.0, 2.0, 1.0, 1, 1, 1, 0.1]]

    class Source(SimpleNamespace):
        def _replace(self, **changes):
            return Source(**vars(self) | changes)

    def fit(name, task, optimizer, source, runs, **options):
        seen.update(options, rows=len(source.data["validation"]["label"]))
        steps, best = [], []
        for row in losses:  # stopping early, by hand
            capped = [task.summarise({"loss": np.float32([each])})["capped_loss"] for each in row]
            place = next(k for k in range(3, 7) if min(capped[: k - 2]) <= min(capped[: k + 1]))
            steps.append(10 * (place + 1))
            best.append(min(capped[: place + 1]))
        return SimpleNamespace(steps=np.array(steps), metrics={"validation_capped_loss": np.array(best)})

    source = Source(data={"train": train}, classes=10, steps_per_epoch=37)
    found = dropout_ablation.speed(config, source, Runs([], []), fit)
    assert (seen["every"], seen["patience"], seen["steps"], seen["rows"]) == (10, 3, 40 + 30, 1000)
    assert found["train_steps_to_loss"].tolist() == [40, 10, 40] and found["train_reached"].tolist() == [1, 1, 0]
    # At 2.5 times the steps the claimed difference is inside its margin, at 1.9 and 3.2 outside.
    (claim,) = [each for each in study.claims(config) if each.relation == "equal" and "steps" in each.metric]
    for ratio, inside in ((2.02, True), (2.97, True), (1.98, False), (3.03, False)):
        difference = np.log2(100 * ratio) - (np.log2(100) + found["train_log2_steps_middle"][1] - np.log2(10))
        assert (abs(difference) < claim.margin) == inside


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strengths__rate": (0.5, 1.0)}, r"hyper\.hidden_dropout=1\.0 is not possible: .*at least 0 and below 1"),
        ({"strengths__rate": (0.5, -0.5)}, r"hyper\.hidden_dropout=-0\.5 is not possible: valid is 0 or more"),
        ({"strengths__max_norm": (0.0, 2.0)}, r"strengths\.max_norm=\(0\.0, 2\.0\) is not possible: valid is above 0"),
        ({"hyper__input_dropout": 1.0}, r"hyper\.input_dropout=1\.0"),
        ({"compare__keep": (0.5, 1.5)}, r"compare\.keep=\(0\.5, 1\.5\).* not 1\.5"),
        ({"compare__keep": (0.0,)}, r"compare\.keep=\(0\.0,\).* not 0\.0"),
        ({"compare__regularisers": ("none", "dropuot")}, r"'dropuot'; did you mean 'dropout'\?"),
        ({"compare__averages": (3, 1)}, r"compare\.averages=\(3, 1\)"),
        ({"compare__medium": 300}, r"compare\.medium=300 is none of compare\.sizes=\(100,\)"),
        ({"compare__sizes": (100, 5000)}, r"500 labels a class is not possible"),
        ({"compare__sizes": (105, 100)}, r"compare\.sizes: 105 is no multiple of the 10 classes"),
        ({"speed__every": 0}, r"speed=.*above 0"),
        ({"model__widths": ()}, r"model\.widths=\(\) is not possible"),
    ],
)
def test_what_makes_no_sense_is_told_before_training(changes, said, tmp_path):
    values = values_of(**{"compare__keep": (), "compare__sizes": (100,)} | changes)
    with pytest.raises(UserError, match=said):
        check(prepare(study, Asked(values, tmp_path, "", (), ""), Requests()))
