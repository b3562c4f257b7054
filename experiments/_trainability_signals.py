"""What the trainability study measures of a run's layers, before and after training."""

from typing import Any

import numpy as np

import jaxdl


def initial(source: Any, name: str, task: Any) -> Any:
    """run -> (params, model_state) where the fit `name` begins."""
    import jax
    import optax

    shapes = {key: jax.ShapeDtypeStruct(rows.shape, rows.dtype) for key, rows in source.data["train"].items()}
    init = jaxdl.training.make_init(name, task, lambda hyper: optax.identity(), source)
    return lambda run: init(run, shapes).measured


def seen(source: Any, count: int) -> tuple[Any, Any]:
    """The first training images and their labels."""
    train = source.data["train"]
    return source.images(np.asarray(train["image"][:count])), np.asarray(train["label"][:count])


def observed(
    source: Any, name: str, task: Any, runs: dict, fitted: Any, images: int, jacobians: int
) -> dict[str, np.ndarray]:
    """What reaches the layers of each run, [R], at the end, and with the ending _at_0 before training.

    train_log10_gradient: of |dC/dW| of the first layer; train_log10_gradient_ratio: of |dC/ds| of the first over that
    of the last hidden layer; train_saturated: share of saturated units, mean over layers; train_log10_activation: of
    the standard deviation of the last layer's activations over that of the first; train_singular_value: mean singular
    value of ds_{l+1}/ds_l, over layers; train_log10_jacobian and train_log10_condition: of the greatest singular value
    of the Jacobian of the logits in the image, and of that over the least one; means over images.

    images, jacobians: on how many of the first training images signals, and Jacobians, are measured
    """
    import jax
    from jax import numpy as jnp

    signals, net = jaxdl.tasks.signals, task.network
    image, label = seen(source, images)
    few = image[:jacobians]

    @jax.jit
    def look(params: Any, model_state: Any) -> dict[str, Any]:
        layers = signals.statistics(net, signals.passed(net, params, model_state, image, label))
        settled = signals.settled(net, params, model_state, image)
        values = signals.singular_values(signals.jacobian(net, params, settled, few))  # [B, classes]
        each = signals.singular_values(signals.layer_jacobians(net, params, settled, few))
        return {
            "log10_gradient": jnp.log10(layers.weight_gradient[0]),
            "log10_gradient_ratio": jnp.log10(layers.gradient[0] / layers.gradient[-1]),
            "saturated": layers.saturated.mean(),
            "log10_activation": jnp.log10(layers.std[-1] / layers.std[0]),
            "singular_value": each.mean(),
            "log10_jacobian": jnp.log10(values[:, 0]).mean(),
            "log10_condition": jnp.log10(values[:, 0] / values[:, -1]).mean(),
        }

    begin = jax.jit(initial(source, name, task))
    rows = []
    for number in range(len(fitted.diverged)):
        run, *end = jax.tree.map(lambda leaf, n=number: leaf[n], (runs, fitted.params, fitted.model_state))
        row = {}
        for (params, state), ending in ((begin(run), "_at_0"), (end, "")):
            found = look(params, {key: value for key, value in state.items() if key == "batch_stats"})
            row |= {f"train_{metric}{ending}": value for metric, value in found.items()}
        rows.append(jax.device_get(row))
    return {metric: np.array([row[metric] for row in rows], float) for metric in rows[0]}
