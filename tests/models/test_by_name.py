"""Models by name, jaxdl's own and a user's file, and what can be wrong with the latter."""

import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdl
from jaxdl.errors import UserError
from jaxdl.study.config import Config

pytestmark = pytest.mark.usefixtures("quick_compilation")

NET = """
    from __future__ import annotations  # dataclasses then look the module up

    from flax import linen as nn

    class Net(nn.Module):
        classes: int

        @nn.compact
        def __call__(self, images):
            return nn.Dense(self.classes)(images.reshape(len(images), -1))

    class Wide(Net):
        @nn.compact
        def __call__(self, images):
            return nn.Dense(self.classes + 1)(images.reshape(len(images), -1))

    class Normalised(Net):
        @nn.compact
        def __call__(self, images):
            return nn.Dense(self.classes)(nn.BatchNorm(False)(images.reshape(len(images), -1)))

    class Needy(Net):
        def __call__(self, images):
            raise ValueError("no such depth\\nat all")

    class NotAModule:
        pass
"""
IMAGE = (8, 8, 1)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").write_text(textwrap.dedent(NET))
    (tmp_path / "broken.py").write_text("import no_such_thing")
    return tmp_path


def named(name, **settings):
    return jaxdl.models.named(Config({"name": name} | settings), 10, IMAGE)


def test_the_mlp_reads_its_settings():
    network = named("mlp", widths=(4,), unit="relu", initialisation="he_normal")
    params = network.init(jax.random.key(0), jnp.zeros((1, *IMAGE)))["params"]
    assert jax.tree.map(jnp.shape, params) == {
        "hidden_0": {"kernel": (64, 4), "bias": (4,)},
        "output": {"kernel": (4, 10), "bias": (10,)},
    }


@pytest.mark.parametrize("name", ["my_net:Net", "my_net.py:Net"])
def test_a_users_model_is_its_own_class(here, name):
    network = named(name)
    variables = network.init(jax.random.key(1), jnp.zeros((1, *IMAGE)))
    images = np.random.default_rng(0).random((3, *IMAGE), np.float32)
    layer = variables["params"]["Dense_0"]
    wanted = images.reshape(3, 64) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])[None, :]
    np.testing.assert_allclose(network.apply(variables, images), wanted, rtol=1e-5)


def test_settings_that_a_users_model_does_not_read_are_no_mistake(here):
    config = Config({"name": "my_net:Net", "widths": (4,)})
    jaxdl.models.named(config, 10, IMAGE)
    assert config.unread() == []


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mpl", ["unknown model 'mpl'", "did you mean 'mlp'?", "FILE:CLASS"]),
        ("my_nte:Net", ["unknown model file 'my_nte.py'", "did you mean 'my_net.py'?"]),
        ("my_net:Nett", ["'Nett'", "did you mean 'Net'?"]),
        ("my_net:NotAModule", ["'NotAModule'"]),
        ("my_net:nn", ["'nn'"]),
        ("my_net:Wide", ["(2, 11)", "(2, 10)"]),
        ("my_net:Normalised", ["batch_stats"]),
        ("my_net:Needy", ["my_net:Needy", "no such depth"]),
        ("broken:Net", ["broken.py", "no_such_thing"]),
        ("nowhere/my_net:Net", ["nowhere/my_net.py"]),
        (":Net", ["model file"]),
    ],
)
def test_what_is_wrong_is_said_on_one_line(here, name, parts):
    with pytest.raises(UserError) as caught:
        named(name)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_fingerprint_is_that_of_the_file(here):
    before = jaxdl.models.by_name.fingerprint("my_net:Net")
    assert before and jaxdl.models.by_name.fingerprint("mlp") == ""
    (here / "my_net.py").write_text(textwrap.dedent(NET) + "\n# another")
    assert jaxdl.models.by_name.fingerprint("my_net:Net") not in ("", before)
