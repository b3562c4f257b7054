"""Optimizers: one function from settings and traced hyperparameters to an optax transformation."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxdl.errors import UserError, unknown
from jaxdl.training import schedules

OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "lbfgs")

Tree = Any  # a parameter tree (nested dicts of arrays), or one of its shape


class OptimizerState(NamedTuple):
    """What an optimizer keeps: the updates done so far, int32 [], and the update rule's own state."""

    step: Array
    rule: optax.OptState


def optimizer(
    settings: Any, steps: int, *, max_norm: str = ""
) -> Callable[[dict[str, Array]], optax.GradientTransformationExtraArgs]:
    """An optimizer from its static settings; call it with the traced hyperparameters inside the step.

    One update of a parameter w with gradient g, decay multiplier d, learning-rate multiplier r and norm multiplier c:

        g <- 0 where r = 0                                    frozen
        g <- g min(1, clip_norm / |g|)                        norm over all parameters; clip_norm 0: off
        g <- g + weight_decay d w                             L2, except adamw
        u <- rule(g)
        u <- u + weight_decay d w                             adamw only: decoupled (1711.05101)
        w <- w - learning_rate schedule(step) r u             exactly w where r = 0
        w_j <- w_j min(1, c max_norm / |w_j|)                 w_j: the weights into unit j, [..., j]; max_norm 0: off

    The rules, with mu = momentum (every moment starts at 0):

        sgd        u = g
        momentum   m <- mu m + g;  u = m                      the learning rate is outside m, as in PyTorch
        nesterov   m <- mu m + g;  u = g + mu m               Sutskever et al. 2013, in PyTorch's form
        rmsprop    v <- 0.9 v + 0.1 g^2;  u = g / (sqrt(v) + 1e-8)          Hinton 2012, lecture 6
        adam(w)    m <- 0.9 m + 0.1 g;  v <- 0.999 v + 0.001 g^2            Kingma & Ba 2014, 1412.6980
                   u = m / (1 - 0.9^t) / (sqrt(v / (1 - 0.999^t)) + 1e-8),  t = 1, 2, ...
        lbfgs      Nocedal & Wright 7.4, memory 10, zoom line search of at most 20 steps that starts at
                   learning_rate (optax.lbfgs). The search sees the objective with its penalty,
                   value + weight_decay / 2 sum d |w|^2.

    adamw's decay follows the whole learning rate, as in PyTorch and optax; the paper scales it by the
    schedule alone: its lambda is learning_rate weight_decay here. The projection is Srivastava et al. 2014 (JMLR 15),
    section 5.1.

    Args:
        settings: static values, all of them always read: `name`; `schedule`, `warmup`, `milestones` and
            `decay` (see `schedules.multiplier`); `clip_norm`; `weight_decay` and
            `learning_rate_multipliers`, each "regex=multiplier,...": the first regex found (`re.search`) in
            a parameter's '/'-joined name, such as "hidden_0/kernel", gives its multiplier. A regex holds no
            comma.
        steps: all steps of the fit, for the schedule.
        max_norm: "regex=multiplier,..." as well, such as "output=0,kernel=1,bias=0": c, where 0 leaves a parameter
            free. "" for no projection at all, whatever hyper holds

    Returns:
        A function of {"learning_rate", "weight_decay", "momentum" where the rule has one, "max_norm" where it is asked
        for}, float32 [] each, traced or not. What it returns is called as
        `update(gradients, state, params, value=, grad=, value_fn=)`. Only lbfgs looks at `value` (the loss
        at `params`) and `value_fn` (params -> loss); `grad` is `gradients` again, as optax wants it. The
        state keeps its dtypes, so it can be a loop's carry.

    Raises:
        UserError: an unknown name, a malformed setting, or lbfgs with what breaks its line search (a
            schedule or warm-up, clipping, learning-rate multipliers other than 0 and 1, max_norm); when called with
            hyper, a missing hyperparameter; at init and update, a parameter that no regex covers.
    """
    name, clip_norm = settings.name, settings.clip_norm
    decay_text, rate_text = settings.weight_decay, settings.learning_rate_multipliers
    schedule = schedules.multiplier(settings, steps)
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    if not 0 <= clip_norm < math.inf:
        raise UserError(f"clip_norm is {clip_norm!r}; valid: a positive number, or 0 for no clipping")
    decay_patterns = _parse("weight_decay", decay_text)
    rate_patterns = _parse("learning_rate_multipliers", rate_text)
    norm_patterns = _parse("max_norm", max_norm) if max_norm else []
    if name == "lbfgs":
        if settings.schedule != "constant" or settings.warmup:
            raise UserError(
                f"lbfgs searches its own step size: schedule must be 'constant' and warmup 0, "
                f"not {settings.schedule!r} and {settings.warmup!r}"
            )
        if clip_norm:
            raise UserError(f"lbfgs needs the true gradient: clip_norm must be 0, not {clip_norm!r}")
        if any(multiplier not in (0, 1) for _, multiplier in rate_patterns):
            raise UserError(f"lbfgs takes learning_rate_multipliers of 0 and 1 only, not {rate_text!r}")
        if norm_patterns:
            raise UserError(f"lbfgs searches along a line, no projection: max_norm must be '', not {max_norm!r}")

    def of_hyper(hyper: dict[str, Array]) -> optax.GradientTransformationExtraArgs:
        needed = ["learning_rate", "weight_decay"]
        if name in ("momentum", "nesterov"):
            needed.append("momentum")
        for key in [*needed, *(["max_norm"] if norm_patterns else [])]:
            if key not in hyper:
                raise UserError(f"optimizer {name!r} needs hyper.{key}; given: {', '.join(hyper)}")
        learning_rate, strength, *momentum = (jnp.asarray(hyper[key], jnp.float32) for key in needed)
        rule = optax.with_extra_args_support(_rule(name, learning_rate, *momentum))

        def init(params: Tree) -> OptimizerState:
            _multipliers("learning_rate_multipliers", rate_patterns, params)  # a bad setting shows at once,
            _multipliers("weight_decay", decay_patterns, params)  # not at the first update
            if norm_patterns:
                _multipliers("max_norm", norm_patterns, params)
            return OptimizerState(jnp.zeros((), jnp.int32), rule.init(params))

        def update(gradients: Tree, state: OptimizerState, params: Tree, **extra: Any) -> tuple[Tree, OptimizerState]:
            rates = _multipliers("learning_rate_multipliers", rate_patterns, params)
            decays = _multipliers("weight_decay", decay_patterns, params)
            # Static, so that nothing of a frozen parameter is computed: not its gradient, norm or penalty.
            decays = jax.tree.map(lambda decay, rate: decay if rate else 0.0, decays, rates)

            def penalty(params: Tree) -> Array:
                """0.5 weight_decay sum d |w|^2, float32 []."""
                terms = jax.tree.map(lambda w, decay: decay * jnp.sum(w**2) if decay else 0.0, params, decays)
                return 0.5 * strength * sum(jax.tree.leaves(terms))

            def add_decay(tree: Tree) -> Tree:
                """The tree plus the gradient of the penalty."""
                return jax.tree.map(lambda g, w, d: g + strength * d * w if d else g, tree, params, decays)

            def penalised(params: Tree) -> Array:
                """What lbfgs minimises: frozen parameters are constants."""
                free = jax.tree.map(lambda w, rate: w if rate else jax.lax.stop_gradient(w), params, rates)
                return extra["value_fn"](free) + penalty(free)

            gradients = jax.tree.map(lambda g, rate: g if rate else jnp.zeros_like(g), gradients, rates)
            if clip_norm:
                gradients, _ = optax.clip_by_global_norm(clip_norm).update(gradients, optax.EmptyState())
            if name != "adamw":
                gradients = add_decay(gradients)
            searched = {}
            if name == "lbfgs":
                value = extra["value"] + penalty(params)
                searched = {"value": value, "grad": gradients, "value_fn": penalised}
            updates, rule_state = rule.update(gradients, state.rule, params, **searched)
            if name == "adamw":
                updates = add_decay(updates)
            if name != "lbfgs":  # its rule has applied the learning rate and the sign
                scale = -learning_rate * schedule(state.step)
                updates = jax.tree.map(lambda u, rate: scale * rate * u, updates, rates)
            # w + -0.0 is w, bit for bit; w + 0.0 would turn -0.0 into 0.0.
            updates = jax.tree.map(lambda u, rate: u if rate else jnp.full_like(u, -0.0), updates, rates)
            if norm_patterns:
                bounds = _multipliers("max_norm", norm_patterns, params)
                bounds = jax.tree.map(lambda bound, rate: bound if rate else 0.0, bounds, rates)
                updates = _projected(updates, params, bounds, jnp.asarray(hyper["max_norm"], jnp.float32))
            return updates, OptimizerState(state.step + 1, rule_state)

        return _standard_promotion(init, update)

    return of_hyper


def _rule(name: str, learning_rate: Array, momentum: Array | None = None) -> optax.GradientTransformation:
    """The update rule of a name, before learning rate and sign (lbfgs: after both)."""
    if name == "sgd":
        return optax.identity()
    if name in ("momentum", "nesterov"):
        return optax.trace(momentum, nesterov=name == "nesterov")
    if name == "rmsprop":
        return optax.scale_by_rms(decay=0.9, eps=1e-8, eps_in_sqrt=False)
    if name == "lbfgs":
        return optax.lbfgs(learning_rate, memory_size=10)
    return optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)


def _projected(updates: Tree, params: Tree, bounds: Tree, max_norm: Array) -> Tree:
    """The updates after which no unit's incoming weights are longer than its bound times max_norm; 0: unchanged."""

    def project(updates: Tree) -> Tree:
        def one(update: Array, w: Array, bound: float) -> Array:
            if not bound:
                return update
            moved = w + update  # [..., units]
            norm = jnp.sqrt(jnp.sum(moved**2, axis=tuple(range(w.ndim - 1)), keepdims=True))
            longest = bound * max_norm
            scale = longest / jnp.maximum(norm, longest)
            # What is short enough keeps its update, bit for bit.
            return jnp.where(norm > longest, scale * moved - w, update)

        return jax.tree.map(one, updates, params, bounds)

    return jax.lax.cond(max_norm > 0, project, lambda updates: updates, updates)


def _standard_promotion(
    init: Callable[..., OptimizerState], update: Callable[..., tuple[Tree, OptimizerState]]
) -> optax.GradientTransformationExtraArgs:
    """The one way into optax: its rules raise under strict dtype promotion, so they run under standard.

    What promotion widens is cast back (updates as params, state as it was): a state stays a loop's carry.
    """

    def standard_init(params: Tree) -> OptimizerState:
        with jax.numpy_dtype_promotion("standard"):
            # Copied: optax.lbfgs holds one buffer twice, which cannot be donated, and weakly typed counters,
            # which would compile the second step anew.
            return jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype, copy=True), init(params))

    def standard_update(
        gradients: Tree, state: OptimizerState, params: Tree, **extra: Any
    ) -> tuple[Tree, OptimizerState]:
        with jax.numpy_dtype_promotion("standard"):
            updates, new_state = update(gradients, state, params, **extra)
            return optax.tree.cast_like(updates, params), optax.tree.cast_like(new_state, state)

    return optax.GradientTransformationExtraArgs(standard_init, standard_update)


def _parse(key: str, text: str) -> list[tuple[re.Pattern[str], float]]:
    """[(regex, multiplier)] of "kernel=1,bias=0", in order."""
    patterns = []
    for part in text.split(","):
        pattern, _, number = part.strip().rpartition("=")
        try:
            regex, multiplier = re.compile(pattern), float(number)
        except (re.error, ValueError):
            regex, multiplier = re.compile(""), math.nan
        if not regex.pattern or not 0 <= multiplier < math.inf:
            raise UserError(
                f"malformed {key} {text!r} at {part!r}; valid: comma separated regex=multiplier, each "
                f"multiplier 0 or more, such as 'kernel=1,bias=0'"
            )
        patterns.append((regex, multiplier))
    return patterns


def _multipliers(key: str, patterns: list[tuple[re.Pattern[str], float]], params: Tree) -> Tree:
    """The multiplier of each parameter, Python floats in a tree of params' shape: the first match wins."""

    def of_path(path: tuple[Any, ...], _: Array) -> float:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for regex, multiplier in patterns:
            if regex.search(name):
                return multiplier
        searched = ", ".join(repr(regex.pattern) for regex, _ in patterns)
        raise UserError(f"{key} has no pattern for parameter {name!r}; patterns: {searched}")

    return jax.tree_util.tree_map_with_path(of_path, params)
