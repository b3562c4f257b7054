"""What the layers of plain and residual networks do: their responses, and the gradients that arrive in them."""

from typing import Any

import numpy as np

import jaxdl


def layers(depth: int) -> list[tuple[tuple[str, ...], str]]:
    """The 3x3 layers in network order: (where the kernel is, where the batch norm after it is) as names in params.

    The projections of option B are none of them.
    """
    blocks = [f"conv{stage}_{number}" for stage in (2, 3, 4) for number in range(1, (depth - 2) // 6 + 1)]
    inner = [((block, f"convolution_{k}"), (block, f"batch_norm_{k}")) for block in blocks for k in (1, 2)]
    return [(("conv1",), ("batch_norm",)), *inner]


def responses(network: Any, params: Any, model_state: Any, image: Any) -> Any:
    """Standard deviation of each 3x3 layer's output after batch norm, before ReLU and addition (fig. 7): [layers].

    Over images [N, H, W, C], pixels and maps, with the running statistics of batch norm.
    """
    from flax import linen as nn
    from jax import numpy as jnp

    _, kept = network.apply(
        {"params": params, **model_state}, image, train=False,
        capture_intermediates=lambda module, _: isinstance(module, nn.BatchNorm), mutable=["intermediates"],
    )  # fmt: skip
    return jnp.stack(
        [at(kept["intermediates"], norm)["__call__"][0].std() for _, norm in layers(network.depth)]
    )  # [layers]


def gradient_norms(task: Any, params: Any, model_state: Any, batch: dict[str, Any]) -> Any:
    """Euclidean norm of the loss's gradient for each 3x3 layer's kernel, on one batch in training mode: [layers]."""
    import jax
    from jax import numpy as jnp

    gradient = jax.grad(lambda p: task.loss(p, model_state, batch, {}, None)[0])(params)
    kernels = [at(gradient, kernel)["kernel"] for kernel, _ in layers(task.network.depth)]
    return jnp.stack([jnp.sqrt((kernel**2).sum()) for kernel in kernels])  # [layers]


def observed(
    name: str, task: Any, source: Any, group: Any, params: Any, model_state: Any, images: int
) -> dict[str, np.ndarray]:
    """Responses on the test split, and gradients on the first `images` of the training split before and after training.

    params, model_state: [R, ...] of the runs of `group` that the fit `name` ended with

    Returns, for each run, [R]: test_response_layer_K and their mean test_response; train_gradient_layer_K and
    train_log10_gradient_ratio = log10 |gradient of the first kernel| / |that of the last|, both also with the ending
    _at_0, where the same run began.
    """
    import jax
    import optax

    train, test = source.data["train"], source.data["test"]
    shapes = {key: jax.ShapeDtypeStruct(rows.shape, rows.dtype) for key, rows in train.items()}
    init = jaxdl.training.make_init(name, task, lambda hyper: optax.identity(), source)
    start = jax.jit(lambda run: init(run, shapes).measured)
    batch = {"image": source.images(np.asarray(train["image"][:images])), "label": np.asarray(train["label"][:images])}
    norms = jax.jit(lambda params, state: gradient_norms(task, params, state, batch))
    respond = jax.jit(lambda params, state, image: responses(task.network, params, state, image))
    seen, rows = source.images(np.asarray(test["image"])), []
    for number in range(len(group)):
        run, *end = jax.tree.map(lambda leaf, number=number: leaf[number], (group.arrays(), params, model_state))
        found = {f"test_response_layer_{k + 1}": value for k, value in enumerate(np.asarray(respond(*end, seen)))}
        found["test_response"] = np.mean(list(found.values()))
        for moment, ending in ((start(run), "_at_0"), (end, "")):
            each = np.asarray(norms(*moment), np.float64)
            found |= {f"train_gradient_layer_{k + 1}{ending}": value for k, value in enumerate(each)}
            with np.errstate(divide="ignore", invalid="ignore"):  # of what diverged
                found[f"train_log10_gradient_ratio{ending}"] = np.log10(each[0] / each[-1])
        rows.append(found)
    return {metric: np.array([found[metric] for found in rows], float) for metric in rows[0]}


def at(tree: Any, path: tuple[str, ...]) -> Any:
    """What lies in a nested dict at a path of names."""
    for name in path:
        tree = tree[name]
    return tree
