"""Sparse matrices that carry values along the edges of a graph: what one layer of a graph network multiplies by.

Row r of a matrix holds the edges that end in node r. Messages go from `senders` to `receivers`, as in jraph.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jax import Array
from jax.experimental import sparse


class Matrix(NamedTuple):
    """A matrix [R, C] by its E entries, sorted by row (CSR), and where they stand in its transpose. Equal ones add up.

    row, column: int32 [E]; value: float32 [E]
    start: int32 [R + 1], the entries of row r are start[r], ..., start[r + 1] - 1
    order: int32 [E], the entries sorted by column; transposed_column: int32 [E], their rows;
    transposed_start: int32 [C + 1], as `start` for columns
    """

    row: Array
    column: Array
    value: Array
    start: Array
    order: Array
    transposed_column: Array
    transposed_start: Array

    @property
    def rows(self) -> int:
        """R."""
        return len(self.start) - 1

    @property
    def columns(self) -> int:
        """C."""
        return len(self.transposed_start) - 1


def matrix(row: Array, column: Array, value: Array, rows: int, columns: int) -> Matrix:
    """The matrix [rows, columns] with `value` [E] at (row, column), int [E], in any order.

    Entries of one row keep their order. Under `jit` too: then the structure may be another one at each call.
    """
    row, column, value = (jnp.asarray(each) for each in (row, column, value))
    sort = jnp.argsort(row, stable=True)
    row, column, value = row[sort].astype(jnp.int32), column[sort].astype(jnp.int32), value[sort]
    order = jnp.argsort(column, stable=True).astype(jnp.int32)
    return Matrix(row, column, value, _starts(row, rows), order, row[order], _starts(column[order], columns))


def _starts(ordered: Array, count: int) -> Array:
    """Where each of the numbers 0, ..., count begins in an ascending array, int32 [count + 1]."""
    return jnp.searchsorted(ordered, jnp.arange(count + 1, dtype=ordered.dtype)).astype(jnp.int32)


class Blocks(NamedTuple):
    """Some graphs of a set, of whose operator they are blocks, padded to a static number of nodes and entries.

    operator: the blocks [nodes, nodes]; what is left over are entries of value 0 from the last node to itself
    node: int32 [nodes], which node of the set; owner: int32 [nodes], which of the B graphs, B for padding
    entry: int32 [entries], which entry of the whole operator; first [B + 1], where each graph's nodes begin
    """

    operator: Matrix
    node: Array
    owner: Array
    entry: Array
    first: Array


def blocks(whole: Matrix, first: Array, graphs: Array, nodes: int, entries: int) -> Blocks:
    """The graphs at the numbers `graphs` [B] of a set, side by side in this order.

    whole: an operator of all graphs, block by block; first: int32 [G + 1], the first node of each graph
    nodes, entries: room for those of all B graphs, and one node more

    Everything is gathered: a graph's entries lie together in either order, so that nothing has to be sorted.
    """
    begin = whole.start[first]  # [G + 1], each graph's first entry: by row and, as blocks are square, by column
    node, owner, node_at = _gathered(first, graphs, nodes)
    entry, of_entry, entry_at = _gathered(begin, graphs, entries)
    count, last = len(graphs), nodes - 1
    shift, shift_entry = node_at[:-1] - first[graphs], entry_at[:-1] - begin[graphs]  # [B], old number -> new
    filling, filling_node = of_entry == count, owner == count
    own, own_node = jnp.minimum(of_entry, count - 1), jnp.minimum(owner, count - 1)

    def moved(places: Array) -> Array:
        return jnp.where(filling, last, places[entry] + shift[own])

    def starts(places: Array) -> Array:
        inside = jnp.where(filling_node, entry_at[-1], places[node] + shift_entry[own_node])
        return jnp.concatenate([inside, jnp.full(1, entries, jnp.int32)])

    order = jnp.where(filling, jnp.arange(entries, dtype=jnp.int32), whole.order[entry] + shift_entry[own])
    operator = Matrix(
        moved(whole.row), moved(whole.column), jnp.where(filling, jnp.float32(0), whole.value[entry]),
        starts(whole.start), order, moved(whole.transposed_column), starts(whole.transposed_start),
    )  # fmt: skip
    return Blocks(operator, node, owner, entry, node_at)


def _gathered(first: Array, chosen: Array, room: int) -> tuple[Array, Array, Array]:
    """first[c] to first[c + 1] for each c of `chosen` [B], one after another, filled up to `room`.

    Returns the numbers, int32 [room] (0 where filled up), which of the B they belong to (B where filled up), and where
    each of the B begins, int32 [B + 1].
    """
    begin = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(first[chosen + 1] - first[chosen], dtype=jnp.int32)])
    slot = jnp.arange(room, dtype=jnp.int32)
    owner = (jnp.searchsorted(begin, slot, side="right") - 1).astype(jnp.int32)  # graphs without any are passed over
    owner = jnp.minimum(owner, len(chosen))
    inside = jnp.minimum(owner, len(chosen) - 1)
    number = first[chosen[inside]] + slot - begin[inside]
    return jnp.where(owner == len(chosen), 0, number), owner, begin


def multiply(by: Matrix, values: Array) -> Array:
    """A x: values [C, K] -> [R, K]. Differentiable in the values and in the entries.

    dx = A' dy, and dA_rc = <dy_r, x_c> at the entries alone. Left to itself, JAX differentiates a gather into a
    scatter, which a CPU does one number after another; the transpose is a product like A x.
    """
    return _multiply(by, values)


@jax.custom_vjp
def _multiply(by: Matrix, values: Array) -> Array:
    return _product(by.value, by.column, by.row, by.start, values)


def _multiply_forward(by: Matrix, values: Array) -> tuple[Array, tuple[Matrix, Array]]:
    return _multiply(by, values), (by, values)


def _multiply_backward(kept: tuple[Matrix, Array], gradient: Array) -> tuple[Matrix, Array]:
    by, values = kept
    to_values = _product(by.value[by.order], by.transposed_column, by.column[by.order], by.transposed_start, gradient)
    to_entries = (gradient[by.row] * values[by.column]).sum(axis=1)  # dropped by the compiler where nothing asks for it
    return _constant(by)._replace(value=to_entries), to_values


_multiply.defvjp(_multiply_forward, _multiply_backward)


@jax.custom_batching.custom_vmap
def _product(value: Array, column: Array, row: Array, start: Array, values: Array) -> Array:
    """sum of value_e x[column_e] over the entries e of each row: [C, K] -> [R, K]."""
    shape = len(start) - 1, len(values)

    def on_cpu(value: Array, column: Array, row: Array, start: Array, values: Array) -> Array:
        # Eigen's product: a loop over rows. XLA's own loops over a scatter.
        return sparse.BCSR((value, column, start), shape=shape) @ values

    def elsewhere(value: Array, column: Array, row: Array, start: Array, values: Array) -> Array:
        return jax.ops.segment_sum(value[:, None] * values[column], row, shape[0], indices_are_sorted=True)

    return jax.lax.platform_dependent(value, column, row, start, values, cpu=on_cpu, default=elsewhere)


@_product.def_vmap
def _products(count: int, batched: list[bool], *arguments: Array) -> tuple[Array, bool]:
    """Many runs on one graph are one product with as many times the channels."""
    *entries, values = arguments
    if any(batched[:-1]):
        looped = [leaf if is_batched else None for leaf, is_batched in zip(arguments, batched, strict=True)]

        def one(each: list[Array | None]) -> Array:
            return _product(*(whole if own is None else own for own, whole in zip(each, arguments, strict=True)))

        return jax.lax.map(one, looped), True
    wide = values.swapaxes(0, 1).reshape(values.shape[1], -1)  # [B, C, K] -> [C, B K]
    found = _product(*entries, wide)
    return found.reshape(-1, count, values.shape[2]).swapaxes(0, 1), True  # [R, B K] -> [B, R, K]


@jax.custom_vjp
def totals(of: Matrix, messages: Array) -> Array:
    """The sum of the messages of each row's entries: [E, K] -> [R, K]."""
    entries = jnp.arange(len(messages), dtype=jnp.int32)
    return _product(jnp.ones(len(messages), messages.dtype), entries, of.row, of.start, messages)


@jax.custom_vjp
def at_rows(of: Matrix, values: Array) -> Array:
    """The value of the row, the receiver, of each entry: [R, K] -> [E, K]."""
    return values[of.row]


@jax.custom_vjp
def at_columns(of: Matrix, values: Array) -> Array:
    """The value of the column, the sender, of each entry: [C, K] -> [E, K]."""
    return values[of.column]


# Gradients: a sum is spread over what was summed, and what was spread is summed.
totals.defvjp(
    lambda of, messages: (totals(of, messages), of), lambda of, gradient: (_constant(of), at_rows(of, gradient))
)
at_rows.defvjp(lambda of, values: (at_rows(of, values), of), lambda of, gradient: (_constant(of), totals(of, gradient)))


def _at_columns_backward(of: Matrix, gradient: Array) -> tuple[Matrix, Array]:
    ones = jnp.ones(len(gradient), gradient.dtype)
    return _constant(of), _product(ones, of.order, of.column[of.order], of.transposed_start, gradient)


at_columns.defvjp(lambda of, values: (at_columns(of, values), of), _at_columns_backward)


def _constant(of: Matrix) -> Matrix:
    """The gradient of a matrix of which only the places are read."""
    none = [np.zeros(leaf.shape, jax.dtypes.float0) for leaf in of]
    return Matrix(*none)._replace(value=jnp.zeros_like(of.value))


def largest(of: Matrix, messages: Array) -> Array:
    """The largest of the messages of each row's entries, [E, K] -> [R, K]; 0 for a row without entries."""
    chosen = (messages == at_rows(of, _largest(of, messages))).astype(messages.dtype)
    # All that are equally large share the gradient.
    return totals(of, messages * chosen / at_rows(of, totals(of, chosen)))


def softmax(of: Matrix, logits: Array) -> Array:
    """Softmax over the entries of each row that are not 0, [E, H] -> [E, H]; the others get 0."""
    there = of.value[:, None] != 0
    logits = jnp.where(there, logits, jnp.float32(-jnp.inf))
    shifted = logits - at_rows(of, _largest(of, logits))
    weight = jnp.exp(shifted)
    return weight / at_rows(of, totals(of, weight))


def _largest(of: Matrix, messages: Array) -> Array:
    """As `largest`, without a gradient; -inf for a row without entries."""
    return jax.ops.segment_max(jax.lax.stop_gradient(messages), of.row, of.rows, indices_are_sorted=True)


def adjacency(graph: jraph.GraphsTuple) -> Matrix:
    """A: the number of edges from c to r at (r, c), [N, N]. What GIN and GraphSAGE's pooling read."""
    nodes = size(graph)
    return matrix(graph.receivers, graph.senders, jnp.ones(len(graph.senders), jnp.float32), nodes, nodes)


def averaging(graph: jraph.GraphsTuple) -> Matrix:
    """A divided by its rows' sums, [N, N]: the mean over neighbours, 0 for a node without any."""
    sums = adjacency(graph)
    degree = jnp.diff(sums.start).astype(jnp.float32)
    return sums._replace(value=sums.value / degree[sums.row])


def with_loops(graph: jraph.GraphsTuple) -> Matrix:
    """A with ones on its diagonal, whatever was there, [N, N]: entries that were there keep a place, of value 0.

    So a graph with padding and one with loops have as many entries as any other of its size.
    """
    nodes = size(graph)
    node = jnp.arange(nodes, dtype=jnp.int32)
    senders, receivers = jnp.asarray(graph.senders, jnp.int32), jnp.asarray(graph.receivers, jnp.int32)
    value = jnp.concatenate([(senders != receivers).astype(jnp.float32), jnp.ones(nodes, jnp.float32)])
    return matrix(jnp.concatenate([receivers, node]), jnp.concatenate([senders, node]), value, nodes, nodes)


def renormalised(graph: jraph.GraphsTuple) -> Matrix:
    """D^-1/2 (A + I) D^-1/2 with D the rows' sums of A + I, [N, N]: Kipf & Welling 2017, arXiv 1609.02907, eq. 2."""
    return _symmetric(with_loops(graph), by_receiver=True)


def rescaled_laplacian(graph: jraph.GraphsTuple) -> Matrix:
    """2 L / lambda_max - I of L = I - D^-1/2 A D^-1/2 without self-loops, [N, N], with lambda_max = 2 for all graphs.

    Which leaves -D^-1/2 A D^-1/2. Defferrard et al. 2016, arXiv 1606.09375, section 2.1; lambda_max <= 2 is attained
    by bipartite graphs, and Kipf & Welling 2017 take it too (section 2.2). D counts the edges that leave a node.
    """
    loops = adjacency(graph)
    plain = loops._replace(value=(loops.row != loops.column).astype(jnp.float32))
    return (found := _symmetric(plain, by_receiver=False))._replace(value=-found.value)


def _symmetric(plain: Matrix, by_receiver: bool) -> Matrix:
    """A -> D^-1/2 A D^-1/2 with the degrees D of receivers (rows) or of senders; 0 for a degree of 0."""
    ends = plain.row if by_receiver else plain.column
    degree = jax.ops.segment_sum(plain.value, ends, plain.rows)
    scale = jnp.where(degree > 0, jax.lax.rsqrt(jnp.maximum(degree, jnp.float32(1))), jnp.float32(0))
    return plain._replace(value=scale[plain.row] * plain.value * scale[plain.column])


def spectrum(graph: jraph.GraphsTuple) -> tuple[Array, Array]:
    """Eigenvalues [N], ascending in [0, 2], and eigenvectors [N, N] of L = I - D^-1/2 A D^-1/2: O(N^3) time.

    Edges are taken in both directions, each with half its weight, because only a symmetric L has an eigenbasis.
    """
    scaled = rescaled_laplacian(graph)
    laplacian = np.eye(scaled.rows)
    np.add.at(laplacian, (np.asarray(scaled.row), np.asarray(scaled.column)), np.asarray(scaled.value, np.float64))
    values, vectors = np.linalg.eigh((laplacian + laplacian.T) / 2)
    return jnp.asarray(values, jnp.float32), jnp.asarray(vectors, jnp.float32)


def neighbour_lists(graph: jraph.GraphsTuple) -> tuple[Array, Array]:
    """The senders of the edges into each node in the order of the edges, int32 [N, D], and which are no padding.

    D is the largest number of edges into a node: this reads the graph, and is for outside `jit`.
    """
    into = adjacency(graph)
    degree = np.diff(np.asarray(into.start))
    place = np.arange(max(int(degree.max(initial=0)), 1))
    there = place[None, :] < degree[:, None]  # [N, D]
    entry = np.where(there, np.asarray(into.start)[:-1, None] + place[None, :], 0)
    column = np.asarray(into.column) if len(into.column) else np.zeros(1, np.int32)
    return jnp.asarray(column[entry]), jnp.asarray(there)


def size(graph: jraph.GraphsTuple) -> int:
    """The number of nodes, padding included: that of the rows of the features."""
    return len(jax.tree.leaves(graph.nodes)[0]) if not isinstance(graph.nodes, Matrix) else graph.nodes.rows
