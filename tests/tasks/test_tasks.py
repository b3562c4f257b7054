"""Losses and their gradients against plain NumPy in float64, corruption against its probabilities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxdl import batch as batches
from jaxdl.errors import UserError
from jaxdl.models import MLP, Autoencoder
from jaxdl.tasks import check_strengths, classify, corrupt, kl_sparsity, reconstruct

UNITS = {"sigmoid": scipy.special.expit, "tanh": np.tanh, "linear": lambda x: x}
OFF = {"masking": 0.0, "gaussian": 0.0, "salt_pepper": 0.0, "sparsity_weight": 0.0, "sparsity_target": 0.0}


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def differences(function, arrays, step=1e-5):
    """Central finite differences of function(arrays), a pytree of float64 arrays: good to about 1e-9."""
    gradients = jax.tree.map(np.zeros_like, arrays)
    for array, gradient in zip(jax.tree.leaves(arrays), jax.tree.leaves(gradients), strict=True):
        for place in np.ndindex(array.shape):
            value = array[place]
            array[place] = value + step
            above = function(arrays)
            array[place] = value - step
            gradient[place] = (above - function(arrays)) / (2 * step)
            array[place] = value
    return gradients


def assert_close(found, expected, **tolerances):
    """Two pytrees of the same structure agree."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, **tolerances)


def random_params(model, inputs, scale=0.7):
    """Float64 parameters, all different from zero."""
    draw = np.random.default_rng(0)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, inputs), jnp.float32))["params"]
    return jax.tree.map(lambda leaf: scale * draw.normal(size=leaf.shape), params)


# The sparsity penalty


def numpy_penalty(activation, target):
    total = 0.0
    for mean in activation:
        total += target * np.log(target / mean) + (1 - target) * np.log((1 - target) / (1 - mean))
    return total


@pytest.mark.usefixtures("float64", "quick_compilation")
@pytest.mark.parametrize("target", [0.05, 0.3])
def test_kl_sparsity_is_the_sum_of_divergences_and_so_is_its_gradient(target):
    activation = np.array([0.001, 0.05, 0.2, 0.3, 0.5, 0.97])
    value, gradient = jax.value_and_grad(kl_sparsity)(jnp.asarray(activation), jnp.asarray(target))
    np.testing.assert_allclose(value, numpy_penalty(activation, target), rtol=1e-13)
    expected = differences(lambda activation: numpy_penalty(activation, target), activation, 1e-7)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


def test_kl_sparsity_is_zero_at_the_target_and_finite_for_dead_and_saturated_units():
    at_target = kl_sparsity(jnp.full(3, 0.1, jnp.float32), jnp.float32(0.1))
    assert abs(at_target) < 1e-6
    value, gradient = jax.value_and_grad(kl_sparsity)(jnp.float32([0, 1]), jnp.float32(0.1))
    np.testing.assert_allclose(value, numpy_penalty([1e-6, 1 - 1e-6], 0.1), rtol=1e-2)  # 1 - 1e-6 rounds in float32
    assert np.isfinite(gradient).all()


# Reconstruction


def numpy_reconstruction(model, objective, bounded, params, clean, corrupted, weight, target):
    """(loss, codes as activations [B, H], per example loss and squared error), layer by layer, unit by unit."""
    hidden = corrupted
    for number in range(len(model.widths)):
        layer = params[f"encoder_{number}"]
        last = number == len(model.widths) - 1
        hidden = UNITS[model.code_unit if last else model.unit](hidden @ layer["kernel"] + layer["bias"])
    if model.top_k:
        for row in hidden:
            smallest = np.argsort(row)[: -model.top_k]
            gap = np.sort(row)[-model.top_k] - row[smallest].max()
            assert gap > 1e-3  # finite differences don't change which units are kept
            row[smallest] = 0
    activation = (1 + hidden) / 2 if model.code_unit == "tanh" else hidden
    for number in reversed(range(len(model.widths))):
        if model.tied:
            hidden = hidden @ params[f"encoder_{number}"]["kernel"].T + params[f"decoder_bias_{number}"]
        else:
            hidden = hidden @ params[f"decoder_{number}"]["kernel"] + params[f"decoder_{number}"]["bias"]
        if number > 0:
            hidden = UNITS[model.unit](hidden)
    guess = 1 / (1 + np.exp(-hidden)) if bounded else hidden
    squared = ((clean - guess) ** 2).sum(axis=1)
    if objective == "cross_entropy":
        error = -(clean * np.log(guess) + (1 - clean) * np.log(1 - guess)).sum(axis=1)
    else:
        error = squared / 2
    penalty = weight * numpy_penalty(activation.mean(axis=0), target) if weight else 0.0
    return error.mean() + penalty, activation, error, squared


SPARSE = {"sparsity_weight": 0.7, "sparsity_target": 0.1}
CASES = {  # the autoencoder's settings; objective; whether values are in [0, 1]; hyperparameters that are on
    "plain": ({"widths": (4,)}, "cross_entropy", True, {}),
    "sparse": ({"widths": (4,)}, "cross_entropy", True, SPARSE),
    "sparse tanh": ({"widths": (4,), "code_unit": "tanh"}, "squared_error", True, SPARSE),
    "masked": ({"widths": (4,)}, "cross_entropy", True, {"masking": 0.4}),
    "gaussian, tied": ({"widths": (4,), "tied": True}, "squared_error", True, {"gaussian": 0.5}),
    "salted, sparse": ({"widths": (4,)}, "squared_error", True, {"salt_pepper": 0.5} | SPARSE),
    "k-sparse": ({"widths": (5,), "code_unit": "linear", "top_k": 2}, "cross_entropy", True, {}),
    "deep, tied, sparse": ({"widths": (4, 3), "unit": "tanh", "tied": True}, "cross_entropy", True, SPARSE),
    "real-valued, deep": ({"widths": (4, 2), "code_unit": "linear"}, "squared_error", False, {"gaussian": 0.3}),
}


def make_batch(bounded=True, size=7, inputs=6):
    draw = np.random.default_rng(1)
    image = draw.uniform(size=(size, 2, inputs // 2, 1)) if bounded else 3 * draw.normal(size=(size, inputs, 1, 1))
    return {"image": jnp.asarray(image), "position": jnp.arange(size, dtype=jnp.uint32)}


def make_run(hyper):
    """Strengths in float64; the two shares stay float32, as random bits are compared in it."""
    values = {name: np.float64(value) for name, value in (OFF | hyper).items()}
    shares = {name: np.float32(values[name]) for name in ("masking", "salt_pepper")}
    return {"seed": np.uint32(0), "hyper": values | shares}


@pytest.mark.usefixtures("float64", "quick_compilation")
@pytest.mark.parametrize("case", CASES)
def test_reconstruction_loss_and_gradient_match_numpy_and_finite_differences(case):
    settings, objective, bounded, hyper = CASES[case]
    model = Autoencoder(6, **settings)
    task = reconstruct(model, 6, objective, bounded=bounded)
    batch, run, key = make_batch(bounded), make_run(hyper), jax.random.key(3)
    params = random_params(model, 6)
    program = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    (loss, (model_state, metrics)), gradient = program(params, {}, batch, run, key)

    clean = np.asarray(batch["image"]).reshape(7, 6)
    strengths = [run["hyper"][name] for name in ("masking", "gaussian", "salt_pepper")]
    corrupted = np.asarray(corrupt(jnp.asarray(clean), batch["position"], key, *strengths))
    assert (corrupted != clean).any() == any(strengths)
    penalties = run["hyper"]["sparsity_weight"], run["hyper"]["sparsity_target"]
    expected, activation, error, _ = numpy_reconstruction(
        model, objective, bounded, params, clean, corrupted, *penalties
    )

    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    np.testing.assert_allclose(metrics["reconstruction"], error.mean(), rtol=1e-12)
    np.testing.assert_allclose(metrics["activation"], activation.mean(), rtol=1e-12)
    penalty = numpy_penalty(activation.mean(axis=0), penalties[1]) if penalties[0] else 0
    np.testing.assert_allclose(metrics["penalty"], penalty, rtol=1e-12)
    assert model_state == {}

    def plain(params):
        return numpy_reconstruction(model, objective, bounded, params, clean, corrupted, *penalties)[0]

    assert_close(gradient, differences(plain, params), rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("float64", "quick_compilation")
@pytest.mark.parametrize("case", ["sparse", "sparse tanh", "k-sparse", "real-valued, deep"])
def test_reconstruction_is_evaluated_on_the_clean_input_example_by_example(case):
    """Whatever corrupts and penalises in training."""
    settings, objective, bounded, _ = CASES[case]
    model = Autoencoder(6, **settings)
    batch, params = make_batch(bounded), random_params(model, 6)
    run = make_run({"masking": 0.5, "gaussian": 1.0, "salt_pepper": 0.5} | SPARSE)
    task = reconstruct(model, 6, objective, bounded=bounded)
    found = jax.jit(task.evaluate)(params, {}, batch, run, jax.random.key(3))
    clean = np.asarray(batch["image"]).reshape(7, 6)
    _, activation, error, squared = numpy_reconstruction(model, objective, bounded, params, clean, clean, 0, 0)
    assert_close(found, {"loss": error, "squared_error": squared, "activation": activation.mean(axis=1)}, rtol=1e-12)


@pytest.mark.usefixtures("float64", "quick_compilation")
def test_sparse_denoising_loss_and_gradient_are_the_same_on_eight_devices():
    model = Autoencoder(6, (4,))
    task = reconstruct(model, 6, "cross_entropy")
    batch, params, key = make_batch(size=24), random_params(model, 6), jax.random.key(5)
    run = make_run({"masking": 0.3, "gaussian": 0.2, "salt_pepper": 0.2} | SPARSE)

    def step(params, image):
        here = {"image": image, "position": batches.positions(24)}
        return batches.across_devices(jax.value_and_grad(task.loss, has_aux=True)(params, {}, here, run, key))

    whole = jax.jit(step)(params, batch["image"])
    pieces = batch["image"].reshape(8, 3, *batch["image"].shape[1:])
    spread = jax.pmap(step, axis_name=batches.AXIS, in_axes=(None, 0))(params, pieces)
    assert whole[0][1][1]["penalty"] > 0.1
    for device in range(8):
        assert_close(jax.tree.map(lambda leaf, device=device: leaf[device], spread), whole, rtol=1e-10, atol=1e-13)


def test_cross_entropy_of_extreme_outputs_is_finite_and_right():
    """softplus(z) - x z, where log(sigmoid(z)) would be -inf in float32."""
    output = np.array([1e4, -1e4, 1e4, -1e4, 90.0, 0.0])
    image = np.array([[1, 0, 1, 0, 1, 0.5], [0, 1, 1, 0, 0.25, 1]])
    params = {
        "encoder_0": {"kernel": jnp.zeros((6, 1)), "bias": jnp.zeros(1)},
        "decoder_0": {"kernel": jnp.zeros((1, 6)), "bias": jnp.float32(output)},
    }
    task = reconstruct(Autoencoder(6, (1,)), 6, "cross_entropy")
    batch = {"image": jnp.float32(image), "position": jnp.arange(2, dtype=jnp.uint32)}
    run = {"hyper": jax.tree.map(jnp.float32, OFF)}
    program = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    (loss, _), gradient = program(params, {}, batch, run, jax.random.key(0))
    expected = np.logaddexp(0, output) - image * output  # [2, 6]
    np.testing.assert_allclose(loss, expected.sum(axis=1).mean(), rtol=1e-6)
    slope = (scipy.special.expit(output) - image).mean(axis=0)
    np.testing.assert_allclose(gradient["decoder_0"]["bias"], slope, atol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_an_unknown_objective_is_named_with_the_nearest():
    with pytest.raises(
        UserError, match=r"^unknown reconstruction objective 'cross-entropy'; did you mean 'cross_entropy'"
    ):
        reconstruct(Autoencoder(6, (4,)), 6, "cross-entropy")


def test_cross_entropy_of_values_outside_the_unit_interval_is_refused():
    with pytest.raises(UserError, match=r"^cross_entropy reconstructs values in \[0, 1\] only: use squared_error"):
        reconstruct(Autoencoder(6, (4,)), 6, "cross_entropy", bounded=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"masking": 1.0, "salt_pepper": 1.0, "gaussian": 5.0, "sparsity_target": 1.0}, None),
        ({"sparsity_weight": 3.0, "sparsity_target": 0.1}, None),
        ({"masking": 1.5}, "hyper.masking=1.5 is not possible: valid is 0 to 1"),
        ({"salt_pepper": -0.1}, "hyper.salt_pepper=-0.1 is not possible: valid is 0 to 1"),
        ({"masking": float("nan")}, "hyper.masking=nan is not possible"),
        ({"sparsity_target": 10.0}, "hyper.sparsity_target=10.0 is not possible: valid is 0 to 1"),
        ({"sparsity_target": 0.0, "sparsity_weight": 1.0}, "valid is between 0 and 1"),
        ({"sparsity_target": 1.0, "sparsity_weight": 1.0}, "valid is between 0 and 1"),
    ],
)
def test_strengths_without_a_meaning_are_refused(changes, message):
    if message is None:
        check_strengths(OFF | changes, "sigmoid")
        return
    with pytest.raises(UserError) as error:
        check_strengths(OFF | changes, "sigmoid")
    assert message in str(error.value)


@pytest.mark.parametrize("unit", ["relu", "linear"])
def test_the_sparsity_penalty_is_refused_where_activations_are_unbounded(unit):
    check_strengths(OFF, unit)
    with pytest.raises(UserError, match=f"not possible with {unit} units"):
        check_strengths(OFF | {"sparsity_weight": 1.0, "sparsity_target": 0.1}, unit)


# Classification


@pytest.mark.usefixtures("float64", "quick_compilation")
def test_classification_loss_error_and_gradient_match_numpy_and_finite_differences():
    model = MLP((4,), 3, "tanh")
    task = classify(model, (2, 3, 1))
    draw = np.random.default_rng(2)
    image, label = draw.normal(size=(8, 2, 3, 1)), np.array([0, 2, 1, 1, 0, 2, 2, 2], np.int32)
    batch = {"image": jnp.asarray(image), "label": jnp.asarray(label), "position": jnp.arange(8, dtype=jnp.uint32)}
    params, run, key = random_params(model, 6), {"hyper": {}}, jax.random.key(0)

    def plain(params):
        hidden = np.tanh(image.reshape(8, 6) @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"])
        logits = hidden @ params["output"]["kernel"] + params["output"]["bias"]
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return -np.log(share[np.arange(8), label]), share.argmax(axis=1) != label

    loss, error = plain(params)
    assert 0 < error.mean() < 1
    values = jax.jit(task.evaluate)(params, {}, batch, run, key)
    assert_close(values, {"loss": loss, "error": error}, rtol=1e-12)
    program = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    (value, (model_state, metrics)), gradient = program(params, {}, batch, run, key)
    np.testing.assert_allclose(value, loss.mean(), rtol=1e-12)
    assert model_state == {}
    assert_close(metrics, {"error": error.mean()}, rtol=1e-7)  # float32, also here
    assert_close(gradient, differences(lambda params: plain(params)[0].mean(), params), rtol=1e-6, atol=1e-9)


def test_classification_of_extreme_logits_is_finite_and_right():
    task = classify(MLP((), 3), (1,))
    params = {"output": {"kernel": jnp.float32([[1e4, -1e4, 0]]), "bias": jnp.zeros(3)}}
    for label, expected, slope in ((0, 0, [0, 0, 0]), (1, 2e4, [1, -1, 0]), (2, 1e4, [1, 0, -1])):
        batch = {"image": jnp.ones((1, 1)), "label": jnp.int32([label])}
        loss, gradient = jax.value_and_grad(lambda *args: task.loss(*args)[0])(params, {}, batch, {}, None)
        assert loss == expected
        np.testing.assert_array_equal(gradient["output"]["bias"], slope)


def test_tasks_start_from_the_parameters_of_their_model():
    """With no state beside them, and from the key: another key, other weights."""
    run = {"hyper": {}}
    for task, shapes in (
        (classify(MLP((4,), 3), (2, 3, 1)), {(6, 4), (4,), (4, 3), (3,)}),
        (reconstruct(Autoencoder(6, (4,)), 6, "cross_entropy"), {(6, 4), (4,), (4, 6), (6,)}),
    ):
        init = jax.jit(task.init)
        params, model_state = init(run, jax.random.key(0))
        assert model_state == {}
        assert {leaf.shape for leaf in jax.tree.leaves(params)} == shapes
        other, _ = init(run, jax.random.key(1))
        kernels = [(one, two) for one, two in zip(*map(jax.tree.leaves, (params, other)), strict=True) if one.ndim == 2]
        assert not any((one == two).any() for one, two in kernels)


# Corruption

COUNT, VALUES = 400, 101  # an odd number of values: the last random word serves one of them only


def corrupted(image, *, masking=0.0, gaussian=0.0, salt_pepper=0.0, key=7, position=None):
    """The corrupted image in one compiled program, and by default at places 0, 1, ..."""
    position = np.arange(len(image), dtype=np.uint32) if position is None else np.asarray(position, np.uint32)
    return np.asarray(CORRUPT(image, position, jax.random.key(key), *map(np.float32, (masking, gaussian, salt_pepper))))


CORRUPT = jax.jit(corrupt)


def grey():
    """Values strictly between 0 and 1."""
    return np.random.default_rng(4).uniform(0.01, 0.99, size=(COUNT, VALUES)).astype(np.float32)


def assert_binomial(chosen, share):
    """Whether bool [B, D] could be B x D coins that fall with `share`: over all, by row, by column, and neighbours."""
    deviation = np.sqrt(share * (1 - share))
    assert abs(chosen.mean() - share) < 3 * deviation / np.sqrt(chosen.size)
    for axis in (0, 1):
        score = (chosen.mean(axis=axis) - share) / deviation * np.sqrt(chosen.shape[axis])
        statistic, degrees = np.square(score).sum(), len(score)
        assert 0.001 < scipy.stats.chi2(degrees).cdf(statistic) < 0.999
    centred = (chosen - share) / deviation
    for first, second in ((centred[1:], centred[:-1]), (centred[:, 1:], centred[:, :-1])):
        assert abs((first * second).mean()) < 4 / np.sqrt(first.size)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_masking_zeroes_its_share_of_the_values_and_leaves_the_others_alone(share):
    image = grey()
    found = corrupted(image, masking=share)
    masked = found != image
    assert (found[masked] == 0).all()
    assert_binomial(masked, share)


def test_masking_everything_leaves_nothing():
    assert not corrupted(grey(), masking=1.0).any()


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_salt_and_pepper_sets_its_share_of_the_values_half_to_zero_and_half_to_one(share):
    image = grey()
    found = corrupted(image, salt_pepper=share)
    changed = found != image
    assert {*found[changed].tolist()} == {0, 1}
    assert_binomial(changed, share)
    assert_binomial(found == 0, share / 2)
    assert_binomial(found == 1, share / 2)


def test_salt_and_pepper_everywhere_leaves_zeros_and_ones():
    found = corrupted(grey(), salt_pepper=1.0)
    assert_binomial(found == 1, 0.5)
    assert {*found.reshape(-1).tolist()} == {0, 1}


@pytest.mark.parametrize("deviation", [0.1, 2.0])
def test_gaussian_noise_has_mean_zero_and_the_deviation_asked_for(deviation):
    image = grey()
    noise = (corrupted(image, gaussian=deviation).astype(np.float64) - image) / deviation
    assert abs(noise.mean()) < 3 / np.sqrt(noise.size)
    assert abs(noise.std() - 1) < 3 / np.sqrt(2 * noise.size)
    assert scipy.stats.kstest(noise.reshape(-1), "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise.reshape(-1), image.reshape(-1))[0, 1]) < 4 / np.sqrt(noise.size)


def test_the_three_corruptions_draw_from_different_random_numbers():
    """No value's noise of one kind is correlated with any value's of another kind in the same example."""
    image = grey()
    noise = {
        "masking": corrupted(image, masking=0.5) == 0,
        "gaussian": corrupted(image, gaussian=1.0).astype(np.float64) - image,
        "salt_pepper": corrupted(image, salt_pepper=0.5) != image,
    }
    scores = {name: (values - values.mean(axis=0)) / values.std(axis=0) for name, values in noise.items()}
    for first, second in itertools.combinations(scores.values(), 2):
        correlation = first.T @ second / COUNT  # [values, values]
        assert np.abs(correlation).max() < 5.5 / np.sqrt(COUNT)
    both = corrupted(image, masking=0.5, salt_pepper=0.5)
    assert_binomial(both == image, 0.25)


@pytest.mark.parametrize("strength", ["masking", "gaussian", "salt_pepper"])
def test_noise_of_an_example_depends_on_key_and_position_only(strength):
    image = grey()
    whole = corrupted(image, **{strength: 0.5})
    for places in ([0, 1, 2, 3], [396, 397, 398, 399], [11, 3, 7, 0]):
        part = corrupted(image[places], position=places, **{strength: 0.5})
        np.testing.assert_array_equal(part, whole[places])
    alike = corrupted(np.full_like(image, 0.5), **{strength: 0.5})
    assert len({example.tobytes() for example in alike}) == COUNT  # another place, other noise
    other = corrupted(np.full_like(image, 0.5), key=8, **{strength: 0.5})
    assert not (other == alike).all(axis=1).any()


def test_without_strength_an_image_passes_bit_by_bit():
    """Not even a zero of the other sign or a value outside [0, 1] changes."""
    image = np.float32([[-0.0, 0.0, 1.0, -3.7], [np.nan, np.inf, 1e-42, 0.1]])
    assert corrupted(image).tobytes() == image.tobytes()


def test_runs_side_by_side_are_corrupted_as_each_would_be_alone():
    """Under vmap, where both branches of `lax.cond` are computed."""
    image = grey()
    strengths = np.array([*itertools.product((0, 0.5), repeat=3)], np.float32)
    position = np.arange(COUNT, dtype=np.uint32)
    together = jax.jit(jax.vmap(corrupt, in_axes=(None, None, None, 0, 0, 0)))(
        image, position, jax.random.key(7), *strengths.T
    )
    for found, (masking, gaussian, salt_pepper) in zip(together, strengths, strict=True):
        alone = corrupted(image, masking=masking, gaussian=gaussian, salt_pepper=salt_pepper)
        np.testing.assert_allclose(found, alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dead", [0.0, 1e-9, 1.0])
def test_the_sparsity_penalty_still_draws_a_saturated_unit_back(dead):
    """Beyond 1e-6 from 0 or 1 the slope is finite and points towards the target."""
    value, slope = jax.value_and_grad(lambda mean: kl_sparsity(mean, jnp.float32(0.1)))(jnp.float32([dead]))
    assert np.isfinite(value) and np.isfinite(slope[0])
    assert np.sign(slope[0]) == (-1 if dead < 0.1 else 1)
