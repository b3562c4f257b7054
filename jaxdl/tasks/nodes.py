"""Classification of the nodes of one graph, all of which is read at every step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl.models.graph import Features, GraphNoise, NodeNetwork
from jaxdl.models.propagation import Matrix
from jaxdl.tasks.classification import per_example
from jaxdl.tasks.task import Batch, Metrics, Run, Task

RATES = ("input_dropout", "hidden_dropout", "attention_dropout")


def classify_nodes(network: NodeNetwork, features: Features, operator: Any) -> Task:
    """Minimise the mean of -log softmax(logits)[label] over a batch's nodes; measure `loss` (nats) and `error`.

    features: of all nodes, [N, F], dense or sparse; operator: `network.operator(graph)`
    A batch: {"node": int32 [B], places in the graph, "label": int32 [B]}. Predicts the probabilities of the classes,
    [B, classes], of node numbers [B]. Rates of dropout are `run["hyper"]`'s "input_dropout", "hidden_dropout" and
    "attention_dropout"; the noise of a node depends on its number in the graph, not on its place in a batch.
    """
    position = jnp.arange(features.rows if isinstance(features, Matrix) else len(features), dtype=jnp.uint32)

    def logits(params: Any, node: Array, noise: GraphNoise | None) -> Array:
        return network.apply({"params": params}, features, operator, noise)[node]

    def init(run: Run, key: Array) -> tuple[Any, Any]:
        return network.init(key, features, operator)["params"], {}

    def loss(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> tuple[Array, tuple[Any, Metrics]]:
        noise = GraphNoise(key, position, *(run["hyper"][name] for name in RATES))
        values = per_example(logits(params, batch["node"], noise), batch)
        return values["loss"].mean(), (model_state, {"error": values["error"].mean()})

    def evaluate(params: Any, model_state: Any, batch: Batch, run: Run, key: Array) -> Metrics:
        return per_example(logits(params, batch["node"], None), batch)

    def predict(params: Any, model_state: Any, node: Array, run: Run) -> Array:
        return jax.nn.softmax(logits(params, node, None))

    return Task(init, loss, evaluate, predict=predict)
