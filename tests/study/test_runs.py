"""Which runs a study consists of, against plain enumeration."""

import numpy as np
import pytest

from jaxdl.errors import UserError
from jaxdl.study.config import Config
from jaxdl.study.runs import Run, Runs, own_grids, resolve

RATES, NOISES, SEEDS = (0.1, 0.3, 1.0), (0.2, 0.4), 3
VALUES = {
    "seeds": SEEDS,
    "hyper": {"learning_rate": 0.5, "noise": 0.25, "decay": 0.0},
    "tune": {"learning_rate": RATES, "noise": NOISES},
    "compare": {"depths": (1, 2)},
    "runtime": {"device": ""},
    "steps": 100,
}
VARIANTS = {
    "plain-1": {"depth": 1, "hyper.noise": 0},
    "plain-2": {"depth": 2, "hyper.noise": 0},
    "noisy-1": {"depth": 1},
    "fixed-1": {"depth": 1, "hyper.noise": 0.0, "hyper.learning_rate": 0.7, "hyper.decay": 0.01},
}


def resolved(only="", fingerprint="F", variants=VARIANTS, swept=None, static=None, **changes):
    """All runs, each owned by its own number, and their configs."""
    found = resolve(Config(VALUES | changes), lambda config: variants, only, fingerprint, swept or {}, static or {})
    return Runs([run for run, _ in found], [[number] for number in range(len(found))]), [each for _, each in found]


def expected():
    """(variant, seed, hyper) of all runs: every point of the grid, overruled by what the variant sets itself."""
    found = set()
    for variant, changes in VARIANTS.items():
        own = {key[6:]: value for key, value in changes.items() if key.startswith("hyper.")}
        for rate in RATES:
            for noise in NOISES:
                point = {"learning_rate": rate, "noise": noise, "decay": 0.0} | own
                found |= {(variant, seed, tuple(sorted(point.items()))) for seed in range(SEEDS)}
    return found


def test_the_runs_are_variants_x_points_x_seeds():
    runs, configs = resolved()
    found = [(run.variant, run.seed, tuple(sorted(run.hyper.items()))) for run in runs.rows]
    assert len(found) == len(set(found)) == 3 * 3 + 3 * 3 + 6 * 3 + 1 * 3
    assert set(found) == expected()
    assert list(dict.fromkeys(run.variant for run in runs.rows)) == list(VARIANTS)
    assert [run.settings for run in runs.rows] == [{"depth": VARIANTS[run.variant]["depth"]} for run in runs.rows]
    assert runs.owners == tuple((number,) for number in range(len(runs)))
    for run, config in zip(runs.rows, configs, strict=True):
        assert config["hyper"] == run.hyper
        assert (config["variant"], config["fingerprint"], config["steps"]) == (run.settings, "F", 100)


def test_a_variant_that_fixes_a_tuned_value_is_not_tuned_over_it():
    runs, _ = resolved()
    assert {run.hyper["noise"] for run in runs.rows if run.variant == "plain-1"} == {0.0}
    assert {run.hyper["learning_rate"] for run in runs.rows if run.variant == "plain-1"} == set(RATES)
    (point,) = {tuple(run.hyper.values()) for run in runs.rows if run.variant == "fixed-1"}
    assert point == (0.7, 0.0, 0.01)


def test_a_tuple_is_a_grid_of_the_variants_own():
    variants = VARIANTS | {"own-1": {"depth": 1, "hyper.noise": (0.4, 0.8), "hyper.decay": (0.1, 0.2, 0.3)}}
    runs, configs = resolved(variants=variants)
    before, _ = resolved()
    assert [*runs.rows][: len(before)] == [*before.rows]
    own = {
        (run.seed, tuple(run.hyper.values()), tuple(run.point.items()))
        for run in runs.rows if run.variant == "own-1"
    }  # fmt: skip
    assert own == {
        (seed, (rate, noise, decay),
         (("hyper.learning_rate", rate), ("hyper.noise", noise), ("hyper.decay", decay)))
        for seed in range(SEEDS) for rate in RATES for noise in (0.4, 0.8) for decay in (0.1, 0.2, 0.3)
    }  # fmt: skip
    assert all(config["hyper"] == run.hyper for run, config in zip(runs.rows, configs, strict=True))
    shared = {"hyper.learning_rate": RATES, "hyper.noise": NOISES}
    assert own_grids(runs.rows, shared) == {
        ("hyper.noise", (0.4, 0.8)): ["own-1"],
        ("hyper.decay", (0.1, 0.2, 0.3)): ["own-1"],
    }
    assert own_grids(before.rows, shared) == {}


@pytest.mark.parametrize("grid", [(), (0.1, 0.1), ("a",)])
def test_a_bad_grid_of_a_variant(grid):
    with pytest.raises(UserError, match=r"hyper\.decay of the variant 'bad'=.*is not possible: a grid"):
        resolved(variants={"bad": {"hyper.decay": grid}})


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        ("", list(VARIANTS)),
        ("plain-*", ["plain-1", "plain-2"]),
        ("*-1", ["plain-1", "noisy-1", "fixed-1"]),
        ("fixed-1,plain-[2-9]", ["plain-2", "fixed-1"]),
        (" noisy-? , ", ["noisy-1"]),
        ("plain-*,*-2", ["plain-1", "plain-2"]),
    ],
)
def test_only_keeps_the_variants_that_a_glob_matches_in_their_own_order(only, chosen):
    runs, _ = resolved(only)
    assert list(dict.fromkeys(run.variant for run in runs.rows)) == chosen
    everything, _ = resolved()
    assert [*runs.rows] == [run for run in everything.rows if run.variant in chosen]


def test_the_hash_is_one_for_all_seeds_of_a_point_and_differs_between_points():
    runs, _ = resolved()
    points = {(run.variant, tuple(run.hyper.items())): set() for run in runs.rows}
    for run in runs.rows:
        points[run.variant, tuple(run.hyper.items())].add(run.hash)
    assert all(len(hashes) == 1 for hashes in points.values())
    assert len({next(iter(hashes)) for hashes in points.values()}) == len(points) == 3 + 3 + 6 + 1


def test_runs_keep_their_hash_when_the_command_asks_for_others_too():
    before = {(run.variant, run.seed, *run.hyper.values()): run.hash for run in resolved()[0].rows}
    wider = {"learning_rate": (0.03, *RATES), "noise": NOISES}
    changes = dict(seeds=5, tune=wider, compare={"depths": (1,)}, runtime={"device": "tpu"})
    after = {(run.variant, run.seed, *run.hyper.values()): run.hash for run in resolved("*", **changes)[0].rows}
    assert len(after) > len(before)
    assert {key: after[key] for key in before} == before


def test_another_setting_or_other_data_make_other_runs():
    hashes = {run.hash for run in resolved()[0].rows}
    assert hashes.isdisjoint(run.hash for run in resolved(steps=101)[0].rows)
    assert hashes.isdisjoint(run.hash for run in resolved(fingerprint="G")[0].rows)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (dict(tune={"learning_rte": (0.1,)}), ["'learning_rte'", "did you mean 'learning_rate'?"]),
        (dict(tune={"noise": ()}), ["tune.noise=()"]),
        (dict(tune={"noise": (0.1, 0.2, 0.1)}), ["tune.noise=(0.1, 0.2, 0.1)", "different"]),
        (dict(tune={"noise": (1, 1.0)}), ["tune.noise=(1, 1.0)", "different"]),
        (dict(tune={"noise": ("a", "b")}), ["tune.noise=('a', 'b')", "numbers"]),
        (dict(tune={"noise": "0.1"}), ["tune.noise='0.1'", "numbers"]),
        (dict(tune={"noise": (0.1, float("nan"))}), ["noise=nan"]),
        (dict(tune={"noise": (0.1, -0.1)}), ["noise=-0.1"]),
        (dict(seeds=0), ["seeds=0", "at least 1"]),
        (dict(seeds=-2), ["seeds=-2", "at least 1"]),
        (dict(only="noisi-1"), ["'noisi-1'", "did you mean 'noisy-1'?"]),
        (dict(only="plain-1,x*"), ["'x*'", "plain-1, plain-2, noisy-1, fixed-1"]),
        (dict(variants={}), ["no variant"]),
        (dict(variants={"a": {"hyper.nois": 1.0}}), ["variant 'a'", "'nois'", "did you mean 'noise'?"]),
    ],
)
def test_what_cannot_be_resolved_is_named_on_one_line(changes, parts):
    with pytest.raises(UserError) as caught:
        resolved(**changes)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sweep_takes_the_place_of_tunes_grid_and_every_run_knows_its_point():
    runs, _ = resolved("noisy-1", swept={"hyper.noise": (0.0, 0.8), "width": (4, 8)}, static={"width": 4}, seeds=1)
    found = [run.point for run in runs.rows]
    assert found == [
        {"width": 4, "hyper.learning_rate": rate, "hyper.noise": noise} for rate in RATES for noise in (0.0, 0.8)
    ]
    assert [(run.hyper["learning_rate"], run.hyper["noise"]) for run in runs.rows] == [
        (rate, noise) for rate in RATES for noise in (0.0, 0.8)
    ]


def test_a_key_set_by_a_variant_and_by_a_sweep_is_an_error_that_says_so():
    with pytest.raises(UserError, match=r"hyper\.noise is set both by --sweep and by the variant 'plain-1' \(to 0\)"):
        resolved(swept={"hyper.noise": (0.1, 0.2)})
    resolved("noisy-1", swept={"hyper.noise": (0.1, 0.2)})  # leaves that variant out


def random_runs(count=60):
    """Runs of few different settings, so that many coincide when a name is left out; shared and own owners."""
    random = np.random.default_rng(0)
    rows, owners = [], []
    for number in range(count):
        settings = {"start": str(random.choice(["a", "b"])), "depth": int(random.integers(1, 4))}
        hyper = {"rate": float(random.choice([0.1, 0.3])), "noise": float(random.choice([0.0, 0.2]))}
        rows.append(Run("v", int(random.integers(3)), settings, hyper, f"hash{number}", {}))
        owners.append([2 * number] + [2 * number + 1] * (number % 3 == 0))
    return Runs(rows, owners)


@pytest.mark.parametrize("without", [(), ("depth",), ("rate",), ("depth", "rate"), ("start", "depth", "noise")])
def test_distinct_groups_the_runs_that_differ_in_nothing_else(without):
    runs = random_runs()
    groups = {}
    for number, row in enumerate(runs.rows):
        left = {name: value for name, value in (row.settings | row.hyper).items() if name not in without}
        groups.setdefault((row.seed, *sorted(left.items())), []).append(number)
    found, place = runs.distinct(*without)
    assert len(found) == len(groups) < len(runs)
    for group, members in enumerate(groups.values()):  # in the order of their first members
        assert place[members].tolist() == [group] * len(members)
        row = found.rows[group]
        first = runs.rows[members[0]]
        assert row.seed == first.seed
        assert row.settings == {name: value for name, value in first.settings.items() if name not in without}
        assert row.hyper == {name: value for name, value in first.hyper.items() if name not in without}
        assert sorted(found.owners[group]) == sorted(owner for member in members for owner in runs.owners[member])
    assert sorted(owner for owners in found.owners for owner in owners) == sorted(sum(runs.owners, ()))


def test_places_in_finds_each_run_among_others():
    distinct, _ = random_runs().distinct()
    shuffled = np.random.default_rng(1).permutation(len(distinct))
    others = Runs([distinct.rows[i] for i in shuffled], [distinct.owners[i] for i in shuffled])
    some = distinct.where(np.arange(len(distinct)) % 3 == 1)
    places = some.places_in(others)
    assert [others.rows[place] for place in places] == list(some.rows)


def test_where_keeps_rows_and_owners_in_order():
    runs = random_runs()
    mask = runs.setting("depth") == 2
    assert mask.tolist() == [row.settings["depth"] == 2 for row in runs.rows]
    some = runs.where(mask)
    pairs = [(row, owner) for row, owner in zip(runs.rows, runs.owners, strict=True) if row.settings["depth"] == 2]
    assert list(zip(some.rows, some.owners, strict=True)) == pairs
    assert 0 < len(some) < len(runs)


def test_arrays_hold_seeds_and_hyperparameters_in_the_types_of_the_program():
    runs = random_runs()
    arrays = runs.arrays()
    assert set(arrays) == {"seed", "hyper"} and set(arrays["hyper"]) == {"rate", "noise"}
    np.testing.assert_array_equal(arrays["seed"], np.array([row.seed for row in runs.rows], np.uint32), strict=True)
    for name in ("rate", "noise"):
        wanted = np.array([row.hyper[name] for row in runs.rows], np.float32)
        np.testing.assert_array_equal(arrays["hyper"][name], wanted, strict=True)
