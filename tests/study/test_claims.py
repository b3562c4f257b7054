"""Verdicts about made-up studies, against t-tests of scipy and against what was built in."""

import json

import numpy as np
import pytest
import scipy.stats

from jaxdl.errors import UserError
from jaxdl.study import claims, folders, statistics
from jaxdl.study.results import Results
from jaxdl.study.runs import Run

PAPER = "A paper, Table 1"


def study(workdir, outcomes, metric="test_error", lost=(), plain=False, others=None):
    """Results of {variant: values [S, N]}. lost: (variant, seed) that diverged; plain: no values of examples.

    others: {variant: {metric without values of examples: [S]}}
    """
    runs = []
    for variant, values in outcomes.items():
        for seed, row in enumerate(np.atleast_2d(values)):
            run = Run(variant, seed, {}, {}, "0123456789", {})
            runs.append(run)
            folder = folders.run_folder(workdir, run)
            folders.begin(folder, {})
            gone = (variant, seed) in lost
            own = {name: float(each[seed]) for name, each in (others or {}).get(variant, {}).items()}
            means = {metric: float(row.mean())} | own
            folders.finish(folder, means, {} if plain else {metric: row}, "at step 3" * gone)
    return Results(workdir, runs, {}, ("validation_error", "min"))


def values(mean, seeds=6, examples=50, seed=0, spread=0.1):
    return mean + spread * np.random.default_rng(seed).standard_normal((seeds, examples))


def judged(workdir, outcomes, *made, **options):
    return claims.judge(made, study(workdir, outcomes, **options))


def less(one, other):
    return claims.less(f"{one}-{other}", "one is less", PAPER, "test_error", one, other)


def test_a_clear_difference_holds_or_is_contradicted_and_a_small_one_is_undecided(tmp_path):
    outcomes = {"low": values(0.1), "high": values(0.5, seed=1), "also high": values(0.5005, seed=2)}
    found = judged(tmp_path, outcomes, less("low", "high"), less("high", "low"), less("high", "also high"))
    assert [finding.verdict for finding in found] == ["holds", "contradicted", "undecided"]
    assert found[0].adjusted == pytest.approx(min(1, 3 * found[0].p)) and found[2].adjusted > 0.05
    greater = claims.greater("x", "more", PAPER, "test_error", "high", "low")
    assert judged(tmp_path, outcomes, greater)[0].verdict == "holds"


def test_the_estimate_is_that_of_the_paired_differences(tmp_path):
    one, other = values(0.1), values(0.3, seed=1)
    (finding,) = judged(tmp_path, {"one": one, "other": other}, less("one", "other"))
    stored = one.astype(np.float64) - other
    assert finding.estimates == (statistics.crossed(stored),)
    assert finding.p == pytest.approx(2 * statistics.crossed(stored).below(0))
    assert finding.weakest.examples == 50 and finding.notes == ()


def test_a_metric_without_values_of_examples_is_tested_over_seeds_and_says_so(tmp_path):
    one, other = values(0.1, examples=1), values(0.12, examples=1, seed=1)
    (finding,) = judged(tmp_path, {"one": one, "other": other}, less("one", "other"), plain=True)
    reference = scipy.stats.ttest_rel(one[:, 0], other[:, 0])
    assert finding.p == pytest.approx(reference.pvalue)
    interval = reference.confidence_interval(0.95)
    np.testing.assert_allclose(finding.weakest.interval(), interval)
    assert "seeds alone" in finding.notes[0]


def test_equal_needs_the_interval_inside_the_margin_not_a_lack_of_evidence(tmp_path):
    def equal(margin):
        return claims.equal("x", "the same", PAPER, "test_error", "one", "other", margin)

    near = {"one": values(0.3, examples=400), "other": values(0.301, examples=400, seed=1)}
    assert judged(tmp_path / "near", near, equal(0.05))[0].verdict == "holds"
    noisy = {"one": values(0.3, 3, 10, spread=1.0), "other": values(0.3, 3, 10, seed=1, spread=1.0)}
    assert judged(tmp_path / "noisy", noisy, equal(0.05))[0].verdict == "undecided"
    far = {"one": values(0.3), "other": values(0.6, seed=1)}
    assert judged(tmp_path / "far", far, equal(0.05))[0].verdict == "contradicted"
    with pytest.raises(UserError, match="margin=0 is not possible"):
        equal(0)


def test_no_more_is_a_one_sided_test_against_the_margin(tmp_path):
    one, other = values(0.32, seeds=8, spread=0.02), values(0.3, seeds=8, seed=1, spread=0.02)

    def found(margin):
        claim = claims.no_more("x", "no more", PAPER, "test_error", "one", "other", margin)
        return judged(tmp_path, {"one": one, "other": other}, claim, plain=True)[0]

    differences = one.mean(axis=1) - other.mean(axis=1)
    for margin in (0.01, 0.02, 0.03):
        expected = scipy.stats.ttest_1samp(differences, margin).pvalue
        assert found(margin).p == pytest.approx(expected, rel=1e-6)
    assert [found(margin).verdict for margin in (0.01, 0.03)] == ["contradicted", "holds"]
    assert claims.restore(claims.plain(found(0.03))) == found(0.03).claim
    assert found(0.0).claim == claims.less("x", "no more", PAPER, "test_error", "one", "other")


def test_an_ordered_list_needs_every_step_and_one_step_the_other_way_contradicts(tmp_path):
    means = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.3001}
    outcomes = {name: values(mean, seed=number) for number, (name, mean) in enumerate(means.items())}

    def grows(*variants):
        return claims.increasing("x", "grows", PAPER, "test_error", variants)

    for names, verdict in (("abc", "holds"), ("abcd", "undecided"), ("acb", "contradicted"), ("cba", "contradicted")):
        (finding,) = judged(tmp_path, outcomes, grows(*names))
        assert (names, finding.verdict) == (names, verdict)
        assert len(finding.estimates) == len(names) - 1
    falls = claims.decreasing("x", "falls", PAPER, "test_error", "cba")
    assert judged(tmp_path, outcomes, falls)[0].verdict == "holds"
    (finding,) = judged(tmp_path, outcomes, grows("a", "b", "c", "d"))
    assert finding.weakest == finding.estimates[2]


def test_a_difference_of_differences(tmp_path):
    means = {"a": 0.5, "b": 0.1, "c": 0.3, "d": 0.2}
    outcomes = {name: values(mean, seed=number) for number, (name, mean) in enumerate(means.items())}
    gain = claims.Claim("x", "more", PAPER, "test_error", ({"a": 1, "b": -1, "c": -1, "d": 1},), "greater")
    (finding,) = judged(tmp_path, outcomes, gain)
    assert finding.verdict == "holds"
    assert finding.weakest.mean == pytest.approx(np.mean(outcomes["a"] - outcomes["b"] - outcomes["c"] + outcomes["d"]))


def test_metrics_of_one_variant_are_compared_seed_by_seed(tmp_path):
    rng = np.random.default_rng(5)
    biases = {f"train_bias_{size}": 0.3 / size + 0.02 * rng.standard_normal(6) for size in (1, 2, 4)}
    made = study(tmp_path, {"one": values(0.1)}, others={"one": biases})
    terms = ["one", claims.Cell("one", "train_bias_2"), claims.Cell("one", "train_bias_4")]
    (finding,) = claims.judge([claims.decreasing("x", "falls", PAPER, "train_bias_1", terms)], made)
    one, two, four = biases.values()
    references = [scipy.stats.ttest_rel(*pair, alternative="less") for pair in ((two, one), (four, two))]
    assert [estimate.below(0) for estimate in finding.estimates] == pytest.approx([r.pvalue for r in references])
    assert [estimate.mean for estimate in finding.estimates] == pytest.approx([np.mean(two - one), np.mean(four - two)])
    assert finding.p == pytest.approx(2 * max(reference.pvalue for reference in references))
    assert finding.verdict == "holds" and "seeds alone" in finding.notes[0]


def test_a_metric_with_values_of_examples_beside_one_without_is_compared_by_its_mean(tmp_path):
    errors, train = values(0.3), {"train_error": 0.1 + 0.01 * np.arange(6)}
    made = study(tmp_path, {"one": errors}, others={"one": train})
    gap = claims.greater("x", "a gap", PAPER, "test_error", "one", claims.Cell("one", "train_error"))
    (finding,) = claims.judge([gap], made)
    reference = scipy.stats.ttest_rel(errors.mean(axis=1), train["train_error"])
    np.testing.assert_allclose(finding.weakest.interval(), reference.confidence_interval(0.95), rtol=1e-6)
    assert finding.verdict == "holds" and finding.weakest.examples == 0


def test_a_variant_that_is_asked_for_twice_is_named_once(tmp_path):
    train = {"train_error": np.full(5, 0.1)}
    made = study(tmp_path, {"one": values(0.3, seeds=5)}, lost=[("one", 1)], others={"one": train})
    terms = "one", claims.Cell("one", "train_error")
    gap, absent = (claims.greater(name, "a gap", PAPER, "test_error", *terms) for name in ("x", "y"))
    absent = absent._replace(contrasts=({"two": 1.0, claims.Cell("two", "train_error"): -1.0},))
    found, lost = claims.judge([gap, absent], made)
    assert [note for note in found.notes if "lost" in note] == ["one lost 1 of 5 runs (1 diverged)"]
    assert lost.notes == ("not run: two",)


def test_claims_json_names_a_metric_that_is_not_the_claims(tmp_path):
    made = study(tmp_path / "study", {"one": values(0.3)}, others={"one": {"train_error": np.full(6, 0.1)}})
    gap = claims.greater("x", "a gap", PAPER, "test_error", "one", claims.Cell("one", "train_error"))
    claims.write(tmp_path / "claims.json", claims.judge([gap], made))
    (written,) = json.loads((tmp_path / "claims.json").read_text())
    test, train = ({"variant": "one", "metric": f"{split}_error"} for split in ("test", "train"))
    assert written["contrasts"] == [[test | {"weight": 1.0}, train | {"weight": -1.0}]]


CLAIMS = [
    claims.equal("a", "A", PAPER, "test_error", "one", "other", 0.01),
    claims.greater("b", "B", PAPER, "test_error", "one", claims.Cell("one", "train_error")),
    claims.decreasing("c", "C", PAPER, "test_loss", ["one", "other", "third"]),
    claims.Claim("d", "D", PAPER, "m", ({"one": 1.0, "other": -0.3, claims.Cell("one", "n"): -0.7},), "less"),
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_is_restored_from_claims_json(tmp_path, claim):
    claims.write(tmp_path / "claims.json", claims.judge([claim], study(tmp_path, {"one": values(0.3)})))
    (written,) = json.loads((tmp_path / "claims.json").read_text())
    assert claims.restore(written) == claim


def test_what_is_no_claim_is_not_restored(tmp_path):
    (finding,) = claims.judge([claims.equal("x", "y", PAPER, "m", "a", "b", 0.1)], study(tmp_path, {"a": values(0.3)}))
    sound = claims.plain(finding)
    term = {"variant": "a", "metric": "m", "weight": 1.0}
    changes = {
        "contrasts": [[], [[]], 3, [{"a": 1.0, "b": -1.0}], [[term | {"weight": "x"}]], [[term | {"variant": 3}]]],
        "relation": ["lses", ["less"], None],
        "margin": [0.0, float("nan"), "x", None],
        "text": [None, 3],
    }
    broken = [sound | {key: value} for key, wrong in changes.items() for value in wrong]
    for plain in [*broken, *({k: v for k, v in sound.items() if k != key} for key in changes), [], None, "x"]:
        with pytest.raises(ValueError, match=r"no claim|could not convert"):
            claims.restore(plain)


def test_lost_runs_and_unequal_seeds_are_named_and_only_common_seeds_count(tmp_path):
    one, other = values(0.1, seeds=5), values(0.5, seeds=7, seed=1)
    (finding,) = judged(tmp_path, {"one": one, "other": other}, less("one", "other"), lost=[("other", 2)])
    assert finding.weakest.seeds == 4  # 0, 1, 3 and 4
    assert any("other lost 1 of 7 runs (1 diverged)" in note for note in finding.notes)
    assert any("left out: 2, 5, 6" in note for note in finding.notes)


def test_one_seed_or_a_variant_that_did_not_run_gives_no_verdict(tmp_path):
    (finding,) = judged(tmp_path / "one", {"one": values(0.1, 1), "other": values(0.9, 1)}, less("one", "other"))
    assert finding.verdict == "no verdict" and "1 seed: no verdict" in finding.notes[0] and finding.weakest is None
    every = [("one", seed) for seed in range(3)]
    outcomes = {"one": values(0.1, 3), "other": values(0.9, 3)}
    (finding,) = judged(tmp_path / "lost", outcomes, less("one", "other"), lost=every)
    assert finding.verdict == "no verdict" and "one lost 3 of 3 runs (3 diverged)" in finding.notes
    (finding,) = judged(tmp_path / "absent", outcomes, less("one", "absent"))
    assert finding.verdict == "no verdict" and finding.notes == ("not run: absent",)


def test_claims_without_a_verdict_take_no_part_in_the_correction(tmp_path):
    outcomes = {"low": values(0.1), "high": values(0.2, seed=1)}
    alone, _ = judged(tmp_path, outcomes, less("low", "high"), less("low", "absent"))
    assert alone.adjusted == alone.p


def test_an_undecided_claim_says_how_many_seeds_would_decide_it(tmp_path):
    outcomes = {"one": 0.3 + values(0, 4, 5000, spread=0.01), "other": 0.3 + values(0, 4, 5000, 1, spread=0.01)}
    shifts = np.array([0.05, -0.04, 0.06, -0.01])[:, None]  # of the seeds
    (finding,) = judged(tmp_path, outcomes | {"one": outcomes["one"] + shifts}, less("one", "other"))
    assert finding.verdict == "undecided"
    assert finding.needed == statistics.seeds_to_decide(finding.weakest, 0.0)
    assert 10 < finding.needed < 200


def test_claims_json_holds_what_was_found(tmp_path):
    outcomes = {"low": values(0.1), "high": values(0.5, seed=1)}
    found = judged(tmp_path / "study", outcomes, less("low", "high"), less("low", "absent"))
    claims.write(tmp_path / "claims.json", found)
    first, second = json.loads((tmp_path / "claims.json").read_text())
    low, high = found[0].weakest.interval()
    assert (first["verdict"], first["ci_low"], first["ci_high"], first["seeds"]) == ("holds", low, high, 6)
    assert {"id", "text", "paper", "metric", "estimate"} <= set(first)
    assert (second["verdict"], second["estimate"], second["notes"]) == ("no verdict", None, ["not run: absent"])


def test_a_relation_that_is_none_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match="did you mean 'greater'"):
        judged(tmp_path, {"a": values(0), "b": values(1)}, less("a", "b")._replace(relation="greatr"))
