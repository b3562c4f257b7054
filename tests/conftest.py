"""All tests run on 8 fake CPU devices, with strict dtype promotion, and with rank promotion raising."""

import contextlib
import gc
import os
import signal

# LLVM's first level: most of the time is compilation, which takes three quarters as long then.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1"
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest

from jaxdl import training

# A shell that starts tests in the background has them ignore Ctrl-C; what the tests start must not inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
training.devices.start("cpu")
gc.set_threshold(50_000, 20, 100)  # tracing makes many objects that live: looking through them took 7 % of the time
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def forgets_programs():
    """A file's programs are forgotten after it: a worker that keeps those of all files grows to gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def compiling_quickly():
    """A context in which programs are compiled in half the time, and run slower: most take longer to compile."""

    @contextlib.contextmanager
    def quickly():
        before = jax.config.values["jax_disable_most_optimizations"]
        jax.config.update("jax_disable_most_optimizations", True)
        try:
            yield
        finally:
            jax.config.update("jax_disable_most_optimizations", before)

    return quickly


@pytest.fixture
def quick_compilation(compiling_quickly):
    """The test compiles so: for those that check formulas within a tolerance, not bits and not speed."""
    with compiling_quickly():
        yield


CACHE = os.environ.get("JAXDL_CACHE_DIR")


@pytest.fixture(scope="session")
def lasting_cache():
    """A context with the cache of data that users have: for whole sets whose decoding is not what is tested."""

    @contextlib.contextmanager
    def lasting():
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("JAXDL_CACHE_DIR", raising=False)
            if CACHE is not None:
                patch.setenv("JAXDL_CACHE_DIR", CACHE)
            yield

    return lasting


@pytest.fixture(scope="session")
def tfds_dir():
    """The folder with prepared TFDS sets (MNIST); tests that need it skip where there is none."""
    folder = os.environ.get("TFDS_DATA_DIR", "")
    if not os.path.isdir(os.path.join(folder, "mnist")):
        pytest.skip("real MNIST is not here: set TFDS_DATA_DIR to a folder with TFDS's mnist/3.0.1")
    return folder


@pytest.fixture(scope="session")
def planetoid_dir():
    """The folder with Planetoid's files (Cora); tests that need it skip where there is none."""
    folder = os.environ.get("PLANETOID_DATA_DIR", "")
    if not os.path.isfile(os.path.join(folder, "ind.cora.x")):
        pytest.skip("real Cora is not here: set PLANETOID_DATA_DIR to a folder with Planetoid's ind.cora.*")
    return folder
