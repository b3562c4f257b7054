"""Every optimizer against its published rule in plain NumPy, and the promises that jit and vmap rely on."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from jaxdl.errors import UserError
from jaxdl.training import schedules
from jaxdl.training.optimizers import OPTIMIZERS, optimizer

STEPS = 5
HYPER = {"learning_rate": 0.07, "weight_decay": 0.3, "momentum": 0.8}
FIRST_ORDER = [name for name in OPTIMIZERS if name != "lbfgs"]


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def make_settings(name="sgd", **changes):
    """Everything off but weight decay on the kernel."""
    settings = {
        "name": name,
        "schedule": "constant",
        "warmup": 0.0,
        "milestones": (),
        "decay": 1.0,
        "clip_norm": 0.0,
        "weight_decay": "kernel=1,bias=0",
        "learning_rate_multipliers": ".*=1",
    }
    return types.SimpleNamespace(**{**settings, **changes})


def make_params():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(2, 3)), rng.normal(size=3)
    return {"hidden_0": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}


def loss(params):
    """A quadratic with its minimum away from 0."""
    kernel, bias = params["hidden_0"]["kernel"], params["hidden_0"]["bias"]
    return 0.5 * jnp.sum((kernel - 2.0) ** 2) + 1.5 * jnp.sum((bias + 1.0) ** 2)


def fit(settings, hyper, steps=STEPS, params=None, objective=loss, **options):
    """The parameters after `steps` updates in one while_loop, the state its carry."""
    params = make_params() if params is None else params
    rule = optimizer(settings, steps, **options)(hyper)

    def body(carry):
        step, params, state = carry
        value, gradients = jax.value_and_grad(objective)(params)
        extra = {"value": value, "grad": gradients, "value_fn": objective}
        updates, state = rule.update(gradients, state, params, **extra)
        return step + 1, optax.apply_updates(params, updates), state

    return jax.lax.while_loop(lambda carry: carry[0] < steps, body, (0, params, rule.init(params)))[1]


def reference(name, settings, hyper, schedule, decays, rates):
    """The published rules in NumPy float64; `schedule`, `decays` and `rates` are given by hand."""
    weights = {key: np.float64(value) for key, value in make_params()["hidden_0"].items()}
    first, second = ({key: np.zeros_like(w) for key, w in weights.items()} for _ in range(2))
    lr, wd, mu = hyper["learning_rate"], hyper["weight_decay"], hyper["momentum"]
    for t in range(1, STEPS + 1):
        gradients = {"kernel": weights["kernel"] - 2, "bias": 3 * (weights["bias"] + 1)}
        gradients = {key: g * (rates[key] != 0) for key, g in gradients.items()}
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        clip = min(1, settings.clip_norm / norm) if settings.clip_norm else 1
        for key, w in weights.items():
            m, v, g = first[key], second[key], clip * gradients[key]
            if name != "adamw":
                g = g + wd * decays[key] * w
            if name == "sgd":
                u = g
            elif name in ("momentum", "nesterov"):
                m[...] = mu * m + g
                u = g + mu * m if name == "nesterov" else m
            elif name == "rmsprop":
                v[...] = 0.9 * v + 0.1 * g**2
                u = g / (np.sqrt(v) + 1e-8)
            else:
                m[...] = 0.9 * m + 0.1 * g
                v[...] = 0.999 * v + 0.001 * g**2
                u = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            if name == "adamw":
                u = u + wd * decays[key] * w
            weights[key] = w - lr * schedule[t - 1] * rates[key] * u
    return {"hidden_0": weights}


CASES = {  # settings, and by hand what they mean: schedule over 5 steps, weight decay, learning rate
    "plain": ({}, [1] * 5, {"kernel": 1, "bias": 0}, {"kernel": 1, "bias": 1}),
    "clip": ({"clip_norm": 0.7}, [1] * 5, {"kernel": 1, "bias": 0}, {"kernel": 1, "bias": 1}),
    "multipliers": (
        {"weight_decay": "k.*l$=0.5, .*=2", "learning_rate_multipliers": "hidden_0/b=3,hidden=0.25"},
        [1] * 5,
        {"kernel": 0.5, "bias": 2},
        {"kernel": 0.25, "bias": 3},
    ),
    "step": (
        {"schedule": "step", "warmup": 0.4, "milestones": (0.6, 0.8), "decay": 0.1, "clip_norm": 2.0},
        [0, 0.5, 1, 0.1, 0.01],
        {"kernel": 1, "bias": 0},
        {"kernel": 1, "bias": 1},
    ),
    "frozen": (
        {"weight_decay": ".*=1", "learning_rate_multipliers": "bias=0,.*=1", "clip_norm": 0.5},
        [1] * 5,
        {"kernel": 1, "bias": 1},
        {"kernel": 1, "bias": 0},
    ),
}


def assert_close(actual, expected, atol=1e-6):
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=atol), actual, expected)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FIRST_ORDER)
def test_published_rule(name, case):
    changes, schedule, decays, rates = CASES[case]
    settings = make_settings(name, **changes)
    expected = reference(name, settings, HYPER, schedule, decays, rates)
    # optax takes 1 - 0.999^t from 0.999 in float32: Adam's first steps are off by 6e-6 of their length.
    assert_close(jax.jit(lambda: fit(settings, HYPER))(), expected, atol=1e-5 if "adam" in name else 1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_traced_hyper(name):
    """Python constants, traced, vmapped and lax.mapped hyper agree, and no value of any key recompiles."""
    settings = make_settings(name, clip_norm=0.0 if name == "lbfgs" else 0.7)
    compiled = 0

    @jax.jit
    def traced(hyper):
        nonlocal compiled
        compiled += 1
        return fit(settings, hyper, steps=3)

    hyper = {key: np.float32(value) for key, value in HYPER.items()}
    rates = np.float32([0.01, 0.07, 0.5])
    singles = [traced(hyper | {"learning_rate": rate}) for rate in rates]
    for key in hyper:
        changed = traced(hyper | {key: np.float32(0.123)})
        used = key != "momentum" or name in ("momentum", "nesterov")
        same = jax.tree.map(np.array_equal, changed, singles[1])
        assert all(jax.tree.leaves(same)) != used, key
    assert compiled == 1

    assert_close(jax.jit(lambda: fit(settings, HYPER, steps=3))(), singles[1])
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *singles)
    one = lambda rate: fit(settings, hyper | {"learning_rate": rate}, steps=3)  # noqa: E731
    for several in jax.jit(lambda rates: (jax.vmap(one)(rates), jax.lax.map(one, rates)))(rates):
        assert_close(several, stacked)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, jnp.float32) for name in OPTIMIZERS] + [(name, jnp.bfloat16) for name in FIRST_ORDER],
)
def test_state_is_a_stable_donatable_carry(name, dtype):
    params = jax.tree.map(lambda w: w.astype(dtype), make_params())
    rule = optimizer(make_settings(name), STEPS)({k: jnp.float32(v) for k, v in HYPER.items()})

    def step(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = rule.update(gradients, state, params, value=value, grad=gradients, value_fn=loss)
        return optax.apply_updates(params, updates), state

    state = rule.init(params)
    kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)  # noqa: E731
    before = kinds((params, state))
    compiled = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(2):
        params, state = compiled(params, state)
        assert kinds((params, state)) == before
    assert compiled._cache_size() == 1
    assert int(state.step) == 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_parameters_keep_their_bits(name):
    """And the others train as if the frozen ones were not there."""
    kernel, bias = make_params()["hidden_0"]["kernel"], jnp.float32([-0.0, 1e-42, 3.0])
    params = {"kernel": kernel, "bias": bias}
    settings = make_settings(name, weight_decay=".*=1", learning_rate_multipliers="bias=0,.*=1")

    def objective(params):
        value = jnp.sum((params["kernel"] - 2.0) ** 4)
        # A constant whose gradient is not even finite: nothing of it may come through.
        return value + jnp.sum(jnp.sqrt(0.0 * params["bias"])) if "bias" in params else value

    both = lambda: [fit(settings, HYPER, STEPS, p, objective) for p in (params, {"kernel": kernel})]  # noqa: E731
    fitted, alone = jax.jit(both)()
    assert np.asarray(fitted["bias"]).tobytes() == np.asarray(bias).tobytes()
    assert np.all(fitted["kernel"] != kernel)
    assert_close(fitted["kernel"], alone["kernel"])


def test_clipping_norm_excludes_frozen():
    params = {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(2)}
    gradients = {"kernel": jnp.float32([[3.0], [4.0]]), "bias": jnp.float32([1e6, 1e6])}
    settings = make_settings(clip_norm=2.5, learning_rate_multipliers="bias=0,.*=1")
    rule = optimizer(settings, STEPS)({"learning_rate": 1.0, "weight_decay": 0.0})
    updates, _ = jax.jit(rule.update)(gradients, rule.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [[-1.5], [-2.0]], rtol=1e-6)
    assert not np.any(updates["bias"])
    zeros = jnp.float32([-0.0, 0.0])  # outside jit too, where XLA cannot drop the sum
    assert np.array_equal(np.signbit(zeros + updates["bias"]), [True, False])


def rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_lbfgs_rosenbrock(weight_decay):
    """Minima of Rosenbrock plus weight_decay / 2 x^2, against SciPy in float64."""
    objective = lambda p: rosenbrock(p["kernel"], p["bias"])  # noqa: E731
    params = {"kernel": jnp.float32(-1.2), "bias": jnp.float32(1.0)}
    hyper = {"learning_rate": jnp.float32(1), "weight_decay": jnp.float32(weight_decay)}
    fitted = jax.jit(lambda hyper: fit(make_settings("lbfgs"), hyper, 100, params, objective))(hyper)
    penalised = lambda p: rosenbrock(*p) + weight_decay / 2 * p[0] ** 2  # noqa: E731
    expected = scipy.optimize.minimize(penalised, [-1.2, 1.0], method="L-BFGS-B", options={"ftol": 1e-15})
    np.testing.assert_allclose([fitted["kernel"], fitted["bias"]], expected.x, atol=1e-3)
    assert abs(penalised([float(fitted["kernel"]), float(fitted["bias"])]) - expected.fun) < 1e-4


def test_lbfgs_ridge_logistic_regression():
    """The penalised minimum for several strengths at once; without L2 in the line search it is missed."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(40, 5))
    labels = np.sign(inputs @ rng.normal(size=5) + 0.5 + 0.5 * rng.normal(size=40))
    strengths = [0.01, 0.1, 1.0]

    def objective(params):
        margins = jnp.float32(labels) * (jnp.float32(inputs) @ params["kernel"] + params["bias"])
        return jnp.mean(jnp.logaddexp(0.0, -margins))

    def one(strength):
        params = {"kernel": jnp.zeros(5), "bias": jnp.zeros(())}
        hyper = {"learning_rate": jnp.float32(1), "weight_decay": strength}
        return fit(make_settings("lbfgs"), hyper, 60, params, objective)

    fitted = jax.jit(jax.vmap(one))(jnp.float32(strengths))  # far more steps than it takes: it must stay put
    for index, strength in enumerate(strengths):

        def penalised(p, strength=strength):
            margins = labels * (inputs @ p[:5] + p[5])
            return np.mean(np.logaddexp(0, -margins)) + strength / 2 * np.sum(p[:5] ** 2)

        options = {"ftol": 1e-15, "gtol": 1e-9}
        expected = scipy.optimize.minimize(penalised, np.zeros(6), method="L-BFGS-B", options=options)
        actual = np.append(np.float64(fitted["kernel"][index]), np.float64(fitted["bias"][index]))
        np.testing.assert_allclose(actual, expected.x, rtol=1e-2, atol=1e-3)
        assert abs(penalised(actual) - expected.fun) < 1e-4 * expected.fun


SCHEDULES = {  # settings over 10 steps and the multipliers by hand
    "constant": ({}, [1] * 10),
    "warmup": ({"warmup": 0.4}, [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]),
    "step": (
        {"schedule": "step", "milestones": (0.3, 0.75), "decay": 0.5},
        [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25],
    ),
    "cosine": (
        {"schedule": "cosine", "warmup": 0.4},
        [0, 0.25, 0.5, 0.75, 1, (2 + 3**0.5) / 4, 0.75, 0.5, 0.25, (2 - 3**0.5) / 4],
    ),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_schedule(case):
    changes, expected = SCHEDULES[case]
    multiplier = schedules.multiplier(make_settings(**changes), 10)
    values = jax.jit(jax.vmap(multiplier))(jnp.arange(10))
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-7)
    # Past the end, should a fit go on: the last value, and 0 after a cosine.
    last = 0 if case == "cosine" else expected[-1]
    np.testing.assert_allclose(multiplier(jnp.int32(1000)), last, atol=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 1001])
def test_schedule_stays_between_0_and_1(schedule, steps):
    for warmup in (0.0, 0.1, 1.0):
        settings = make_settings(schedule=schedule, warmup=warmup, milestones=(0.1, 0.5), decay=0.1)
        values = jax.jit(jax.vmap(schedules.multiplier(settings, steps)))(jnp.arange(steps))
        assert np.all((values >= 0) & (values <= 1))
        assert (values[0] == 0) == (round(warmup * steps) > 0)


ERRORS = [
    ({"name": "adamm"}, r"unknown optimizer 'adamm'; did you mean 'adamw?'"),
    ({"schedule": "linear"}, r"unknown schedule 'linear'; .*valid: constant, step, cosine"),
    ({"warmup": 1.5}, r"warmup has 1.5; valid: numbers from 0 to 1"),
    ({"decay": -0.1}, r"decay has -0.1"),
    ({"milestones": (0.5, 32000)}, r"milestones has 32000"),
    ({"clip_norm": -1.0}, r"clip_norm is -1.0"),
    ({"clip_norm": float("nan")}, r"clip_norm is nan"),
    ({"weight_decay": ""}, r"malformed weight_decay ''"),
    ({"weight_decay": "kernel"}, r"malformed weight_decay 'kernel'"),
    ({"weight_decay": "kernel=1,,bias=0"}, r"malformed weight_decay .* at ''"),
    ({"weight_decay": "=1"}, r"malformed weight_decay '=1'"),
    ({"weight_decay": "kernel=one"}, r"malformed weight_decay .* at 'kernel=one'"),
    ({"weight_decay": "kernel=-1"}, r"malformed weight_decay"),
    ({"weight_decay": "kernel=nan"}, r"malformed weight_decay"),
    ({"learning_rate_multipliers": "(=1"}, r"malformed learning_rate_multipliers '\(=1'"),
    ({"name": "lbfgs", "schedule": "cosine"}, r"schedule must be 'constant' and warmup 0"),
    ({"name": "lbfgs", "warmup": 0.1}, r"schedule must be 'constant' and warmup 0"),
    ({"name": "lbfgs", "clip_norm": 1.0}, r"clip_norm must be 0"),
    ({"name": "lbfgs", "learning_rate_multipliers": ".*=0.5"}, r"multipliers of 0 and 1 only"),
]


@pytest.mark.parametrize(("changes", "message"), ERRORS)
def test_errors_of_settings(changes, message):
    with pytest.raises(UserError, match=message):
        optimizer(make_settings(**changes), STEPS)


def test_error_without_steps():
    with pytest.raises(UserError, match="over 0 steps"):
        optimizer(make_settings(), 0)


@pytest.mark.parametrize("key", ["weight_decay", "learning_rate_multipliers"])
def test_error_of_an_uncovered_parameter(key):
    rule = optimizer(make_settings(**{key: "kernel=1,scale=0"}), STEPS)(HYPER)
    message = f"{key} has no pattern for parameter 'hidden_0/bias'; patterns: 'kernel', 'scale'"
    with pytest.raises(UserError, match=message):
        rule.init(make_params())


def test_error_of_a_missing_hyperparameter():
    hyper = {"learning_rate": 0.1, "weight_decay": 0.0}
    optimizer(make_settings("adam"), STEPS)(hyper)
    with pytest.raises(UserError, match=r"optimizer 'nesterov' needs hyper\.momentum; given: learn"):
        optimizer(make_settings("nesterov"), STEPS)(hyper)


def test_every_setting_is_always_read():
    class Recorder:
        def __init__(self, settings):
            self.read = set()
            self.settings = settings

        def __getattr__(self, key):
            self.read.add(key)
            return getattr(self.settings, key)

    for name in OPTIMIZERS:
        recorder = Recorder(make_settings(name))
        optimizer(recorder, STEPS)
        assert recorder.read == set(vars(make_settings()))


# Max-norm


def columns(max_norm, steps=STEPS, name="momentum", patterns="bias=0,kernel=1", **changes):
    """The parameters after some steps under the constraint, as float64."""
    hyper = HYPER | {"max_norm": jnp.float32(max_norm)}
    return fit(make_settings(name, **changes), hyper, steps, max_norm=patterns)["hidden_0"]


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_max_norm_projects_each_units_incoming_weights_after_each_update(name):
    """The reference: the same optimizer without the constraint, one step at a time, projected in NumPy."""
    bound, params = 0.6, make_params()
    rule = optimizer(make_settings(name), STEPS)(HYPER)
    state, outside = rule.init(params), 0
    for _ in range(STEPS):
        gradients = jax.grad(loss)(params)
        updates, state = rule.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        kernel = np.float64(params["hidden_0"]["kernel"])
        norms = np.sqrt((kernel**2).sum(axis=0))
        outside += (norms > bound).sum()
        params["hidden_0"]["kernel"] = jnp.float32(kernel * np.minimum(1, bound / norms))
    found = columns(bound, name=name)
    np.testing.assert_allclose(found["kernel"], params["hidden_0"]["kernel"], rtol=2e-5)
    np.testing.assert_allclose(found["bias"], params["hidden_0"]["bias"], rtol=1e-5)
    assert 0 < outside < 3 * STEPS
    assert np.sqrt((np.float64(found["kernel"]) ** 2).sum(axis=0)).max() < bound * (1 + 1e-6)


def test_max_norm_0_is_off_and_a_large_one_changes_no_bit():
    off, large = columns(0.0, name="adam"), columns(1e6, name="adam")
    jax.tree.map(np.testing.assert_array_equal, off, large)
    free = fit(make_settings("adam"), HYPER)["hidden_0"]  # another program, which rounds elsewhere
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5), off, free)


def test_an_optimizer_without_the_constraint_has_none_of_its_operations():
    def program(**options):
        hyper = {**HYPER, "max_norm": jnp.float32(1)}
        rule = optimizer(make_settings("sgd"), STEPS, **options)(hyper)
        params = make_params()
        return str(jax.make_jaxpr(lambda g: rule.update(g, rule.init(params), params))(params))

    assert program() == program(max_norm="") and "cond" not in program() and "cond" in program(max_norm=".*=1")


def test_multipliers_of_max_norm_and_frozen_parameters():
    found = columns(1.0, patterns="bias=0,kernel=0.5")
    np.testing.assert_allclose(np.sqrt((np.float64(found["kernel"]) ** 2).sum(axis=0)), 0.5, rtol=1e-5)
    frozen = columns(0.1, learning_rate_multipliers="kernel=0,bias=1")
    np.testing.assert_array_equal(frozen["kernel"], make_params()["hidden_0"]["kernel"])


def test_the_projection_has_the_gradient_of_finite_differences():
    """d (w + update) / d update, in float64, of units inside and outside the ball, and of a convolution's."""
    from jaxdl.training.optimizers import _projected

    draw = np.random.default_rng(0)
    with jax.enable_x64(True):
        for shape in ((3, 4), (2, 2, 2, 3)):
            params, update, weights = (draw.normal(size=shape) for _ in range(3))
            norms = np.sqrt(((params + update) ** 2).sum(axis=tuple(range(len(shape) - 1))))
            bound = jnp.float64(np.sort(norms)[:2].mean())  # one unit is inside

            @jax.jit
            def value(update, params=params, weights=weights, bound=bound):
                return jnp.sum(weights * _projected({"w": update}, {"w": params}, {"w": 1.0}, bound)["w"])

            gradient, expected = np.asarray(jax.grad(value)(update)), np.zeros(shape)
            for place in np.ndindex(shape):
                step = np.zeros(shape)
                step[place] = 1e-6
                expected[place] = (value(update + step) - value(update - step)) / 2e-6
            np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)
            inside = norms < bound
            np.testing.assert_allclose(gradient[..., inside], weights[..., inside])
            assert inside.sum() == 1 and abs(gradient - weights)[..., ~inside].max() > 0.1


def test_what_max_norm_refuses():
    with pytest.raises(UserError, match=r"lbfgs.*max_norm must be ''"):
        optimizer(make_settings("lbfgs"), STEPS, max_norm="kernel=1,bias=0")
    with pytest.raises(UserError, match="malformed max_norm 'kernel=-1'"):
        optimizer(make_settings(), STEPS, max_norm="kernel=-1")
    with pytest.raises(UserError, match=r"needs hyper\.max_norm"):
        optimizer(make_settings(), STEPS, max_norm=".*=1")(HYPER)
    rule = optimizer(make_settings(), STEPS, max_norm="kernel=1")(HYPER | {"max_norm": 1.0})
    with pytest.raises(UserError, match="max_norm has no pattern for parameter 'hidden_0/bias'"):
        rule.init(make_params())
