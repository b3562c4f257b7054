"""Layers on graphs are torch_geometric's with the same weights: values and gradients."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from jaxdl.models import graph as graphs

torch = pytest.importorskip("torch", reason="PyTorch is not here: pip install torch")
geometric = pytest.importorskip("torch_geometric", reason="torch_geometric is not here: pip install torch_geometric")

from torch import nn  # noqa: E402
from torch_geometric.nn import ChebConv, GATConv, GCNConv, GINConv, SAGEConv  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("quick_compilation"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

NODES, CHANNELS, CLASSES = 12, 5, 4


def edges(kind):
    """int64 [2, E], senders and receivers; the last two nodes are isolated."""
    random = np.random.default_rng(0)
    one_way = random.integers(0, NODES - 2, (2, 20))
    one_way = one_way[:, one_way[0] != one_way[1]]
    undirected = np.concatenate([one_way, one_way[::-1]], axis=1)
    undirected = np.unique(undirected, axis=1)[:, random.permutation(np.unique(undirected, axis=1).shape[1])]
    loops = np.array([[0, 3], [0, 3]])
    return {
        "undirected": undirected,
        "directed, self-loops, duplicates": np.concatenate([loops, one_way, one_way[:, 3:9]], axis=1),
        "no edges": undirected[:, :0],
    }[kind]


KINDS = ("undirected", "directed, self-loops, duplicates", "no edges")

# (network of one layer, torch_geometric's layer, {our parameter: theirs})
LAYERS = {
    "GCN": (
        graphs.GCN((), CLASSES),
        lambda: GCNConv(CHANNELS, CLASSES),
        {"output/kernel": "lin.weight", "output_bias": "bias"},
    ),
    **{
        f"Chebyshev {degree}": (
            graphs.Chebyshev((), CLASSES, degree=degree),
            lambda degree=degree: ChebConv(CHANNELS, CLASSES, degree + 1),
            {"output_0/bias": "bias"} | {f"output_{k}/kernel": f"lins.{k}.weight" for k in range(degree + 1)},
        )
        for degree in (0, 1, 2, 3)
    },
    "GAT": (
        graphs.GAT((), CLASSES, heads=(3,)),
        lambda: GATConv(CHANNELS, CLASSES, heads=3, concat=False),
        {
            "output/kernel": "lin.weight",
            "output_bias": "bias",
            "output_sender": "att_src",
            "output_receiver": "att_dst",
        },
    ),
    "GraphSAGE mean": (
        graphs.GraphSAGE((), CLASSES),
        lambda: SAGEConv(CHANNELS, CLASSES),
        {"output/kernel": "lin_r.weight", "output/bias": "lin_l.bias", "output_neighbours/kernel": "lin_l.weight"},
    ),
    "GraphSAGE max": (  # its pool has as many units as the layer, torch_geometric's as there are features
        graphs.GraphSAGE((), CHANNELS, aggregator="max"),
        lambda: SAGEConv(CHANNELS, CHANNELS, "max", project=True),
        {
            "output/kernel": "lin_r.weight",
            "output/bias": "lin_l.bias",
            "output_neighbours/kernel": "lin_l.weight",
            "output_pool/kernel": "lin.weight",
            "output_pool/bias": "lin.bias",
        },
    ),
    "GIN": (
        graphs.GIN((), CLASSES),
        lambda: GINConv(
            nn.Sequential(nn.Linear(CHANNELS, CLASSES), nn.ReLU(), nn.Linear(CLASSES, CLASSES)), train_eps=True
        ),
        {
            "output_epsilon": "eps",
            "output_inner/kernel": "nn.0.weight",
            "output_inner_bias": "nn.0.bias",
            "output/kernel": "nn.2.weight",
            "output/bias": "nn.2.bias",
        },
    ),
}


def as_torch(value, like):
    """A parameter as torch keeps it: kernels [in, out] -> [out, in]."""
    value = np.asarray(value)
    return torch.tensor((value.T if value.ndim == 2 and like.ndim == 2 else value).reshape(like.shape).copy())


@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_gradients_are_torch_geometrics(name):
    network, make, partners = LAYERS[name]
    random = np.random.default_rng(1)
    features = random.normal(size=(NODES, CHANNELS)).astype(np.float32)
    weight = random.normal(size=(NODES, network.classes)).astype(np.float32)
    theirs = make()
    named = dict(theirs.named_parameters())
    for kind in KINDS:
        senders, receivers = edges(kind)
        graph = jraph.GraphsTuple(features, None, receivers, senders, None, np.array([NODES]), np.array([len(senders)]))
        operator = network.operator(graph)
        shapes = jax.eval_shape(network.init, jax.random.key(0), features, operator)["params"]
        params = jax.tree.map(lambda leaf: random.normal(0, 0.7, leaf.shape).astype(np.float32), shapes)
        flat = {"/".join(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
        assert set(flat) == set(partners) and set(partners.values()) == set(named)
        with torch.no_grad():
            for ours, partner in partners.items():
                named[partner].copy_(as_torch(flat[ours], named[partner]))
        theirs.zero_grad()
        inputs = torch.tensor(features, requires_grad=True)
        wanted = theirs(inputs, torch.tensor(np.stack([senders, receivers])))
        (wanted * torch.tensor(weight)).sum().backward()

        def loss(params, features, operator=operator):
            found = network.apply({"params": params}, features, operator)
            return (jnp.asarray(weight) * found).sum(), found

        (_, found), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, features)
        near(found, wanted.detach(), (kind, "values"))
        near(gradients[1], inputs.grad, (kind, "gradient of the features"))
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients[0]):
            own = "/".join(key.key for key in path)
            partner = named[partners[own]]
            near(as_torch(leaf, partner), partner.grad, (kind, own))


def near(found, wanted, what):
    """Equal to 1e-5 of the largest value, or of 1 where all are small."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()), err_msg=str(what))
