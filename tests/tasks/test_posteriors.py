"""Categorical codes against sums over all codes in float64, and scipy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import jaxdl
from jaxdl.errors import UserError
from jaxdl.tasks.posteriors import SCORES, categorical

pytestmark = pytest.mark.usefixtures("quick_compilation")

INPUTS, UNITS, CLASSES = 3, 2, 3
POSTERIOR = categorical(CLASSES)
HYPER = dict(beta=1.5, noise=1.0, temperature=0.5, masking=0.0, free_bits=0.0, anneal=0.0, decoder_deviation=1.0)
RUN = {"seed": np.uint32(0), "hyper": {name: jnp.float32(value) for name, value in HYPER.items()}}
IMAGES = np.random.default_rng(1).random((4, INPUTS)).astype(np.float32)
BATCH = {"image": IMAGES, "label": np.zeros(4, np.int32), "position": np.arange(4, dtype=np.uint32)}
CODES = np.array([np.eye(CLASSES)[list(code)].ravel() for code in itertools.product(range(CLASSES), repeat=UNITS)])


@pytest.fixture(scope="module")
def model():
    return jaxdl.models.CategoricalVAE(INPUTS, (), UNITS, CLASSES)


@pytest.fixture(scope="module")
def params(model):
    random = np.random.default_rng(2)
    shapes = model.init(jax.random.key(0), jnp.zeros((1, INPUTS)))["params"]
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.7, leaf.shape), jnp.float32), shapes)


def posterior_of(params):
    """log q(z|x) of every code, [codes, B], and log p(x|z), in float64; `params` of NumPy arrays."""
    logits = IMAGES.astype(np.float64) @ params["logits"]["kernel"] + params["logits"]["bias"]
    log_q = scipy.special.log_softmax(logits.reshape(4, UNITS, CLASSES), axis=-1).reshape(4, -1)
    output = CODES @ params["output"]["kernel"] + params["output"]["bias"]  # [codes, inputs]
    log_p = IMAGES @ output.T - np.logaddexp(0, output).sum(axis=1)  # [B, codes]
    return CODES @ log_q.T, log_p.T


def exact_loss(params):
    log_q, log_p = posterior_of(params)
    kl = (np.exp(log_q) * (log_q + UNITS * np.log(CLASSES))).sum(axis=0)
    return float((-(np.exp(log_q) * log_p).sum(axis=0) + HYPER["beta"] * kl).mean())


def exact_gradient(params, step=1e-5):
    gradient = jax.tree.map(np.zeros_like, params)
    for leaf, own in zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True):
        for place in np.ndindex(leaf.shape):
            value, leaf[place] = leaf[place], leaf[place] + step
            above, leaf[place] = exact_loss(params), value - step
            own[place] = (above - exact_loss(params)) / (2 * step)
            leaf[place] = value
    return gradient


@pytest.fixture(scope="module")
def sampled(model, params):
    """sampled(estimator, count=20_000): losses [count], gradients [count, ...] of as many draws."""
    state = {"step": jnp.float32(7), "baseline": jnp.float32(-2.0)}

    @functools.cache
    def sampled(estimator, count=20_000):
        task = jaxdl.tasks.elbo(model, INPUTS, estimator=estimator, samples=2, posterior=POSTERIOR)

        def one(key):
            return jax.value_and_grad(lambda params: task.loss(params, state, BATCH, RUN, key)[0])(params)

        keys = jax.random.split(jax.random.key(5), count)
        return jax.device_get(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=1000))(keys))

    return sampled


@pytest.mark.parametrize("estimator", SCORES)
def test_score_functions_are_unbiased(params, sampled, estimator):
    losses, found = sampled(estimator)
    wide = jax.tree.map(lambda leaf: np.array(leaf, np.float64), params)
    assert abs(losses.mean(dtype=np.float64) - exact_loss(wide)) < 5 * losses.std() / np.sqrt(len(losses))
    for own, exact in zip(jax.tree.leaves(found), jax.tree.leaves(exact_gradient(wide)), strict=True):
        spread = own.std(axis=0, dtype=np.float64) / np.sqrt(len(losses))
        assert (np.abs(own.mean(axis=0, dtype=np.float64) - exact) < 5 * spread + 1e-5).all()


def test_relaxed_draws_point_the_right_way_with_less_spread(params, sampled):
    wide = jax.tree.map(lambda leaf: np.array(leaf, np.float64), params)
    exact = exact_gradient(wide)["logits"]["kernel"].ravel()
    plain = sampled("score")[1]["logits"]["kernel"].reshape(-1, exact.size)
    for estimator in POSTERIOR.reparameterised:
        own = sampled(estimator, 4000)[1]["logits"]["kernel"].reshape(-1, exact.size)
        mean = own.mean(axis=0)
        assert mean @ exact / np.linalg.norm(mean) / np.linalg.norm(exact) > 0.9  # biased, but not by much
        assert own.var(axis=0).sum() < plain.var(axis=0).sum()


def test_draws_are_one_hot_with_the_frequencies_of_the_logits():
    logits = jnp.asarray([[[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]]])  # [1, 2, 3]
    count, key, position = 20_000, jax.random.key(0), np.zeros(1, np.uint32)
    code = np.asarray(POSTERIOR.draw((logits,), RUN, key, position, count)).reshape(count, UNITS, CLASSES)
    assert set(np.unique(code)) == {0.0, 1.0} and (code.sum(axis=-1) == 1).all()
    wanted = scipy.special.softmax(np.asarray(logits[0], np.float64), axis=-1)
    for unit in range(UNITS):
        assert scipy.stats.chisquare(code[:, unit].sum(axis=0), count * wanted[unit]).pvalue > 1e-4


def test_straight_through_is_one_hot_forward_and_relaxed_backward():
    logits, key, position = (
        jnp.asarray([[[0.3, 1.0, -1.0], [2.0, 0.1, 0.0]]]),
        jax.random.key(0),
        np.zeros(1, np.uint32),
    )
    weights = jnp.arange(6, dtype=jnp.float32)

    @functools.partial(jax.jit, static_argnums=0)
    @functools.partial(jax.value_and_grad, argnums=1, has_aux=True)
    def total(name, logits):
        code = POSTERIOR.reparameterised[name]((logits,), RUN, key, position, 4)
        return (code * weights[None, None, :]).sum(), code

    (_, hard), through = total("straight_through", logits)
    (_, soft), relaxed = total("gumbel_softmax", logits)
    np.testing.assert_allclose(hard, POSTERIOR.draw((logits,), RUN, key, position, 4), atol=1e-6)
    np.testing.assert_allclose(through, relaxed, rtol=1e-5)
    assert np.abs(np.asarray(soft) - np.asarray(hard)).max() > 0.05
    assert (
        np.asarray(soft).reshape(4, UNITS, CLASSES).argmax(-1) == np.asarray(hard).reshape(4, UNITS, CLASSES).argmax(-1)
    ).all()


def test_densities_and_divergence_are_those_of_scipy(params):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, UNITS, CLASSES)), jnp.float32)
    probability = scipy.special.softmax(np.asarray(logits, np.float64), axis=-1)
    uniform = np.full(CLASSES, 1 / CLASSES)
    wanted = [[scipy.stats.entropy(unit, uniform) for unit in image] for image in probability]
    np.testing.assert_allclose(POSTERIOR.divergence((logits,)), wanted, rtol=1e-5)
    codes = np.tile(CODES[:, None, :], (1, 4, 1)).astype(np.float32)
    found = POSTERIOR.log_density(codes, (logits,))
    for number, code in enumerate(CODES.reshape(-1, UNITS, CLASSES)):
        for image in range(4):
            terms = [scipy.stats.multinomial(1, probability[image, unit]).logpmf(code[unit]) for unit in range(UNITS)]
            assert found[number, image] == pytest.approx(sum(terms), rel=1e-4)
    np.testing.assert_allclose(
        POSTERIOR.log_prior(codes), np.full((len(CODES), 4), -UNITS * np.log(CLASSES)), rtol=1e-6
    )


def test_the_bound_reaches_the_enumerated_log_likelihood(model, params):
    log_q, log_p = posterior_of(jax.tree.map(lambda leaf: np.array(leaf, np.float64), params))
    joint = log_p - UNITS * np.log(CLASSES)
    exact = scipy.special.logsumexp(joint, axis=0)
    # Relative variance of one weight: E_q[w^2] / E_q[w]^2 - 1.
    variance = np.exp(scipy.special.logsumexp(2 * joint - log_q, axis=0) - 2 * exact) - 1
    measure = jaxdl.tasks.bound(model, INPUTS, "bernoulli", "none", 20_000, POSTERIOR)
    found = jax.jit(lambda key: measure(params, {}, BATCH, RUN, key))(jax.random.key(0))
    assert (np.abs(found["bound"] - exact) < 5 * np.sqrt(variance / 20_000)).all()


@pytest.mark.parametrize(("latent", "classes"), [(0, 2), (3, 1)])
def test_a_code_has_units_and_classes(latent, classes):
    with pytest.raises(UserError, match=f"{latent} units of {classes} classes are not possible"):
        jaxdl.models.CategoricalVAE(INPUTS, (), latent, classes).init(jax.random.key(0), jnp.zeros((1, INPUTS)))
