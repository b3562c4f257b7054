"""Networks on graphs: of nodes, and of whole graphs.

A network of nodes has two parts, so that what depends on the graph alone is computed once, before training:

    operator = network.operator(graph)                    # graph: jraph.GraphsTuple -> arrays
    logits = network.apply(variables, features, operator)  # features: float32 [N, F], or a sparse `Matrix` [N, F]

Messages go from senders to receivers; an undirected edge is two. Nodes have no order: outputs permute with them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
from flax import linen as nn
from jax import Array

from jaxdl.errors import unknown
from jaxdl.models import dropout, propagation
from jaxdl.models.initialisers import initialiser
from jaxdl.models.mlp import MLP
from jaxdl.models.propagation import Matrix
from jaxdl.models.units import unit

Features = Array | Matrix


class GraphNoise(NamedTuple):
    """Dropout in training with traced rates, float32 []; the noise of a node depends on (key, its position) only.

    position: uint32 [N], the nodes' numbers. Of sparse features, bits are drawn for the nonzeros, in their order;
    of attention, for the edges, in the order of `Matrix`.
    """

    key: Array
    position: Array
    input: Array
    hidden: Array
    attention: Array

    def on_input(self, features: Features) -> Features:
        """The features with a share `input` of them dropped."""
        key = jax.random.fold_in(self.key, 0)
        if not isinstance(features, Matrix):
            return dropout.dropout(features, self.input, key, self.position)
        # One stream for all nonzeros [1, E]: streams of one byte each would waste 7 of 8.
        value = dropout.dropout(features.value[None], self.input, key, jnp.zeros(1, jnp.uint32))[0]
        return features._replace(value=value)

    def on_hidden(self, values: Array, layer: int) -> Array:
        """The units [N, ...] that layer number `layer` reads."""
        return dropout.dropout(values, self.hidden, jax.random.fold_in(self.key, 2 * layer + 1), self.position)

    def on_attention(self, weights: Array, layer: int) -> Array:
        """Weights of edges, [E, H]."""
        edge = jnp.arange(len(weights), dtype=jnp.uint32)
        return dropout.dropout(weights, self.attention, jax.random.fold_in(self.key, 2 * layer + 2), edge)


class Linear(nn.Module):
    """x W (+ b) of dense or sparse features: [N, F] -> [N, width]."""

    width: int
    bias: bool = True
    initialisation: str = "glorot_uniform"

    @nn.compact
    def __call__(self, values: Features) -> Array:
        """values [N, F] -> [N, width]."""
        channels = values.columns if isinstance(values, Matrix) else values.shape[-1]
        kernel = self.param("kernel", initialiser(self.initialisation), (channels, self.width))
        found = propagation.multiply(values, kernel) if isinstance(values, Matrix) else jnp.asarray(values) @ kernel
        if not self.bias:
            return found
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        return found + bias[None]


def pair_norm(values: Array) -> Array:
    """Nodes [N, C] around 0 at a mean square distance of 1 from it: Zhao & Akoglu 2020, arXiv 1909.12223, eq. 10-11."""
    values = values - values.mean(axis=0, keepdims=True)
    return values * jax.lax.rsqrt(jnp.float32(1e-6) + (values**2).sum(axis=1).mean())


class NodeNetwork(nn.Module):
    """What all networks of nodes share: h_0 = features, h_i = unit(layer_i(h_{i-1})), logits = layer_n(h_{n-1}).

    widths: units of each hidden layer; classes: linear units of the last. A family gives `layer` and `operator`.
    residual: h_i = unit(layer_i(h_{i-1})) + h_{i-1} where the widths agree (Kipf & Welling 2017, eq. 14)
    normalised: `pair_norm` of what a hidden layer computes, before its unit
    """

    widths: tuple[int, ...]
    classes: int
    unit: str = "relu"
    initialisation: str = "glorot_uniform"
    residual: bool = False
    normalised: bool = False

    @staticmethod
    def operator(graph: jraph.GraphsTuple) -> Any:
        """What the network reads of a graph's structure: a pytree of arrays."""
        raise NotImplementedError

    def layer(self, values: Features, operator: Any, width: int, number: int, noise: GraphNoise | None) -> Array:
        """Layer `number` of len(widths) + 1: values [N, C] -> [N, width]."""
        raise NotImplementedError

    def __call__(self, features: Features, operator: Any, noise: GraphNoise | None = None) -> Array:
        """features [N, F] -> logits [N, classes]; noise: dropout, None for none."""
        return self.layers(features, operator, noise)[-1]

    @nn.compact
    def layers(self, features: Features, operator: Any, noise: GraphNoise | None = None) -> list[Array]:
        """features [N, F] -> h_1, h_2, ... [N, width], before dropout, and the logits [N, classes]."""
        values, found = features if noise is None else noise.on_input(features), []
        for number, width in enumerate(self.widths):
            hidden = self.layer(values, operator, width, number, noise)
            hidden = unit(self.unit)(pair_norm(hidden) if self.normalised else hidden)
            if self.residual and found and found[-1].shape == hidden.shape:
                hidden = hidden + found[-1]
            found.append(hidden)
            values = hidden if noise is None else noise.on_hidden(hidden, number)
        return [*found, self.layer(values, operator, self.classes, len(self.widths), noise)]

    def name_of(self, number: int) -> str:
        """hidden_0, hidden_1, ..., output."""
        return f"hidden_{number}" if number < len(self.widths) else "output"

    def linear(self, width: int, number: int, suffix: str = "", bias: bool = True) -> Linear:
        """A linear map of layer `number`."""
        return Linear(width, bias, self.initialisation, name=self.name_of(number) + suffix)


class NodeMLP(NodeNetwork):
    """The baseline that sees no edge: layer(h) = h W + b."""

    @staticmethod
    def operator(graph: jraph.GraphsTuple) -> None:
        """Nothing."""

    def layer(self, values: Features, operator: None, width: int, number: int, noise: GraphNoise | None) -> Array:
        """h W + b."""
        return self.linear(width, number)(values)


class GCN(NodeNetwork):
    """layer(h) = A^ h W + b, A^ = D^-1/2 (A + I) D^-1/2. Kipf & Welling 2017, arXiv 1609.02907, eq. 2."""

    @staticmethod
    def operator(graph: jraph.GraphsTuple) -> Matrix:
        """A^."""
        return propagation.renormalised(graph)

    def layer(self, values: Features, operator: Matrix, width: int, number: int, noise: GraphNoise | None) -> Array:
        """A^ (h W) + b: multiplied by W first, which leaves fewer channels to carry along the edges."""
        found = propagation.multiply(operator, self.linear(width, number, bias=False)(values))
        return found + self.param(f"{self.name_of(number)}_bias", nn.initializers.zeros, (width,))[None]


class Chebyshev(NodeNetwork):
    """layer(h) = sum_k T_k(L~) h W_k + b, k = 0 ... degree, L~ = 2 L / lambda_max - I.

    Defferrard et al. 2016, arXiv 1606.09375, eq. 5, and Kipf & Welling 2017, eq. 5, whose K is the degree.
    """

    degree: int = 2

    @staticmethod
    def operator(graph: jraph.GraphsTuple) -> Matrix:
        """L~."""
        return propagation.rescaled_laplacian(graph)

    def layer(self, values: Features, operator: Matrix, width: int, number: int, noise: GraphNoise | None) -> Array:
        """By Clenshaw's recurrence b_k = h W_k + 2 L~ b_{k+1} - b_{k+2}; the layer is h W_0 + L~ b_1 - b_2.

        T_k(L~) commutes with W_k, so that `width` channels are carried along the edges, not those of the features.
        """
        terms = [self.linear(width, number, f"_{k}", bias=k == 0)(values) for k in range(self.degree + 1)]
        after, last = jnp.zeros_like(terms[0]), jnp.zeros_like(terms[0])
        for term in reversed(terms[1:]):
            step = 2 * propagation.multiply(operator, last) if term is not terms[-1] else jnp.zeros_like(term)
            after, last = last, term + step - after
        return terms[0] + (propagation.multiply(operator, last) if self.degree else last) - after


class GAT(NodeNetwork):
    """layer(h)_i = sum_j a_ij h_j W + b, a_ij = softmax_j LeakyReLU(u h_i W + v h_j W), of several heads.

    Velickovic et al. 2018, arXiv 1710.10903, eq. 1-6; j are i's neighbours and i. Heads are put side by side, those of
    the last layer averaged. widths: units of a head. Weights a and what they weigh are dropped at random (section 3.3).
    """

    unit: str = "elu"
    heads: tuple[int, ...] = (8, 1)  # of each layer, the last included

    @staticmethod
    def operator(graph: jraph.GraphsTuple) -> Matrix:
        """A with a diagonal of ones."""
        return propagation.with_loops(graph)

    def layer(self, values: Features, operator: Matrix, width: int, number: int, noise: GraphNoise | None) -> Array:
        """The heads of a hidden layer side by side, [N, heads width]; their mean in the last, [N, width]."""
        heads, name = self.heads[number], self.name_of(number)
        sent = self.linear(heads * width, number, bias=False)(values).reshape(-1, heads, width)  # [N, H, C]
        weights = self.attention(sent, operator, name)
        if noise is not None:
            weights = noise.on_attention(weights, number)
        received = [
            propagation.multiply(operator._replace(value=weights[:, head]), sent[:, head]) for head in range(heads)
        ]
        found = sum(received) / heads if number == len(self.widths) else jnp.concatenate(received, axis=1)
        return found + self.param(f"{name}_bias", nn.initializers.zeros, found.shape[1:])[None]

    def attention(self, sent: Array, operator: Matrix, name: str) -> Array:
        """a, [E, H], of sent = h W [N, H, C]; kept as "attention" in the collection "intermediates"."""
        init = initialiser(self.initialisation)
        of_receiver, of_sender = (
            (sent * self.param(f"{name}_{end}", init, sent.shape[1:])[None]).sum(axis=2)  # [N, H]
            for end in ("receiver", "sender")
        )
        logits = propagation.at_rows(operator, of_receiver) + propagation.at_columns(operator, of_sender)
        weights = propagation.softmax(operator, jax.nn.leaky_relu(logits, 0.2))
        self.sow("intermediates", f"{name}_attention", weights)
        return weights


class GraphSAGE(NodeNetwork):
    """layer(h)_i = h_i W + aggregate_j(h_j) V + b over i's neighbours j.

    Hamilton et al. 2017, arXiv 1706.02216, algorithm 1.

    aggregator: "mean"; "max" of relu(h_j P + p) (eq. 3); "lstm", an LSTM's last state (section 3.3). These two have as
    many units as the layer. The LSTM reads edges in their order, which permuting the nodes leaves as it is; for another
    random order at each reading permute the edges.
    """

    aggregator: str = "mean"

    def operator(self, graph: jraph.GraphsTuple) -> Any:
        """A with rows that sum to 1; A; lists of neighbours."""
        operators = {
            "mean": propagation.averaging, "max": propagation.adjacency, "lstm": propagation.neighbour_lists,
        }  # fmt: skip
        if self.aggregator not in operators:
            raise unknown("aggregator", self.aggregator, operators)
        return operators[self.aggregator](graph)

    def layer(self, values: Features, operator: Any, width: int, number: int, noise: GraphNoise | None) -> Array:
        """h W + b + aggregate(h) V."""
        own = self.linear(width, number)(values)
        to_width = self.linear(width, number, "_neighbours", bias=False)
        if self.aggregator == "mean":  # a mean commutes with V, which leaves fewer channels to carry along the edges
            return own + propagation.multiply(operator, to_width(values))
        if self.aggregator == "max":
            pooled = jax.nn.relu(self.linear(width, number, "_pool")(values))
            return own + to_width(propagation.largest(operator, propagation.at_columns(operator, pooled)))
        return own + to_width(self.last_state(values, operator, width, number))

    def last_state(self, values: Features, lists: tuple[Array, Array], width: int, number: int) -> Array:
        """The last state of an LSTM over each node's neighbours, [N, width], 0 without any.

        Gates i, f, g, o in this order: c = sigma(f) c + sigma(i) tanh(g), h = sigma(o) tanh(c).
        """
        neighbour, there = lists
        gates = self.linear(4 * width, number, "_lstm")(values)  # [N, 4 width], once a node and not once an edge
        kernel = self.param(f"{self.name_of(number)}_lstm_state", initialiser("orthogonal"), (width, 4 * width))

        def step(state: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
            (cell, hidden), (sender, there) = state, at
            i, f, g, o = jnp.split(gates[sender] + hidden @ kernel, 4, axis=1)
            new_cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            new_hidden = jax.nn.sigmoid(o) * jnp.tanh(new_cell)
            keep = there[:, None]
            return (jnp.where(keep, new_cell, cell), jnp.where(keep, new_hidden, hidden)), None

        zeros = jnp.zeros((len(neighbour), width), gates.dtype)
        return jax.lax.scan(step, (zeros, zeros), (neighbour.T, there.T))[0][1]


class GIN(NodeNetwork):
    """layer(h)_i = W_2 relu(W_1 ((1 + e) h_i + sum_j h_j) + b_1) + b_2, with e learned from 0.

    Xu et al. 2019, arXiv 1810.00826, eq. 4.1.
    """

    @staticmethod
    def operator(graph: jraph.GraphsTuple) -> Matrix:
        """A."""
        return propagation.adjacency(graph)

    def layer(self, values: Features, operator: Matrix, width: int, number: int, noise: GraphNoise | None) -> Array:
        """A sum commutes with W_1, which leaves fewer channels to carry along the edges."""
        name = self.name_of(number)
        epsilon = self.param(f"{name}_epsilon", nn.initializers.zeros, ())
        mapped = self.linear(width, number, "_inner", bias=False)(values)
        inner = (1 + epsilon) * mapped + propagation.multiply(operator, mapped)
        inner = inner + self.param(f"{name}_inner_bias", nn.initializers.zeros, (width,))[None]
        return self.linear(width, number)(jax.nn.relu(inner))


class SpectralNetwork(NodeNetwork):
    """layer(h) = sum_q U diag(B_q(l)) U' h W_q + b, of L = U diag(l) U'. Bruna et al. 2014, arXiv 1312.6203, eq. 3.

    Multipliers are smooth (section 5.2): cubic B-splines B_q with `splines` knots over l in [0, 2]. They are functions
    of the eigenvalue and not, as there, of its number, because equal eigenvalues have no order. O(N^2) a layer.
    """

    splines: int = 8

    @staticmethod
    def operator(graph: jraph.GraphsTuple) -> tuple[Array, Array]:
        """l, [N], and U, [N, N]: O(N^3)."""
        return propagation.spectrum(graph)

    def layer(self, values: Features, operator: Any, width: int, number: int, noise: GraphNoise | None) -> Array:
        """U sum_q B_q(l) U' (h W_q) + b."""
        eigenvalues, eigenvectors = operator
        mapped = self.linear(self.splines * width, number, bias=False)(values)  # [N, splines width]
        spectral = (eigenvectors.T @ mapped).reshape(-1, self.splines, width)  # [N frequencies, splines, width]
        found = eigenvectors @ (spectral * self.multipliers(eigenvalues)[:, :, None]).sum(axis=1)
        return found + self.param(f"{self.name_of(number)}_bias", nn.initializers.zeros, (width,))[None]

    def multipliers(self, eigenvalues: Array) -> Array:
        """B_q(l), [N, splines]: the cardinal cubic B-spline around each knot; they sum to 1 between the outer knots."""
        knots = jnp.arange(self.splines, dtype=jnp.float32)
        # One knot lies beyond each end, so that the sum is 1 everywhere on [0, 2].
        distance = jnp.abs(eigenvalues[:, None] * jnp.float32((self.splines - 3) / 2) + 1 - knots[None])
        inside = 2 / 3 - distance**2 + distance**3 / 2
        return jnp.where(distance < 1, inside, jnp.maximum(2 - distance, 0) ** 3 / 6)


class GraphNetwork(nn.Module):
    """Message passing with features of edges, nodes and graphs. Battaglia et al. 2018, arXiv 1806.01261, algorithm 1.

    e' = f(e, v_sender, v_receiver, u), v' = f(v, sum e' in, sum e' out, u), u' = f(u, sum v', sum e'), `steps` times;
    every f is an MLP with a hidden layer. width: units of edges, nodes and graphs after each step, and hidden ones.
    of_graph: what u' reads of all nodes and edges, their "sum" or their "mean" (section 4.2)
    """

    width: int
    steps: int = 2
    of_graph: str = "sum"

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
        """nodes [N, F], edges [E, D], globals [G, K] -> the same with `width` channels each. Sizes may be padded."""
        if self.of_graph not in OF_GRAPH:
            raise unknown("of_graph", self.of_graph, OF_GRAPH)
        reduced = {f"aggregate_{of}_for_globals_fn": OF_GRAPH[self.of_graph] for of in ("nodes", "edges")}
        for step in range(self.steps):
            functions = {
                name: jraph.concatenated_args(MLP((self.width,), self.width, "relu", name=f"{name}_{step}"))
                for name in ("edge", "node", "global")
            }
            block = jraph.GraphNetwork(functions["edge"], functions["node"], functions["global"], **reduced)
            graph = block(graph)
        return graph


OF_GRAPH = {"sum": jraph.segment_sum, "mean": jraph.segment_mean}


class OfEdges(nn.Module):
    """A head for pairs of nodes: linear units of both ends' features and their product, which has no order."""

    classes: int

    @nn.compact
    def __call__(self, nodes: Array, senders: Array, receivers: Array) -> Array:
        """nodes [N, C], senders and receivers int32 [P] -> [P, classes]."""
        sent, received = nodes[senders], nodes[receivers]
        return nn.Dense(self.classes, name="output")(jnp.concatenate([sent, received, sent * received], axis=1))


class OfGraphs(nn.Module):
    """A head for whole graphs: linear units of each layer's nodes, pooled. Xu et al. 2019, arXiv 1810.00826, eq. 4.2.

    pooling: "sum", "mean" or "max" over a graph's nodes.
    """

    classes: int
    pooling: str = "sum"

    @nn.compact
    def __call__(self, layers: list[Array], nodes_of: Array) -> Array:
        """layers: [N, C] each; nodes_of: int32 [G], jraph's n_node -> [G, classes]. No nodes pool to 0."""
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)
        nodes = len(layers[0])
        end = jnp.cumsum(nodes_of)
        graph = jnp.searchsorted(end, jnp.arange(nodes, dtype=end.dtype), side="right").astype(jnp.int32)
        members = propagation.matrix(graph, jnp.arange(nodes), jnp.ones(nodes, jnp.float32), len(nodes_of), nodes)
        found = [POOLINGS[self.pooling](members, values) for values in layers]
        return sum(nn.Dense(self.classes, name=f"output_{number}")(pooled) for number, pooled in enumerate(found))


POOLINGS = {
    "sum": propagation.totals,
    "mean": lambda of, values: (
        propagation.totals(of, values) / jnp.maximum(jnp.diff(of.start), 1).astype(values.dtype)[:, None]
    ),
    "max": propagation.largest,
}


def propagate_labels(operator: Matrix, label: Array, known: Array, classes: int, steps: int) -> Array:
    """Probabilities of the classes, [N, classes]: Y <- the mean over neighbours of Y, known labels kept, `steps` times.

    operator: `propagation.averaging`; label: int32 [N]; known: bool [N]. Nodes that no known one reaches stay uniform.
    Zhu & Ghahramani 2002, "Learning from labeled and unlabeled data with label propagation", section 2.2.
    """
    given = jax.nn.one_hot(label, classes, dtype=jnp.float32)
    start = jnp.where(known[:, None], given, jnp.float32(1 / classes))
    alone = jnp.diff(operator.start)[:, None] == 0

    def step(_: Array, found: Array) -> Array:
        found = jnp.where(alone, found, propagation.multiply(operator, found))
        return jnp.where(known[:, None], given, found)

    return jax.lax.fori_loop(0, steps, step, start)
