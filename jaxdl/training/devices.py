"""Where runs execute: which devices, how many runs side by side on one, and the two ways to use several.

`jit`: the runs are spread over the devices; on each, `lax.map` takes them `width` at a time.
`pmap`: the runs go one after another, and each one's batch is split over the devices.
"""

import contextlib
import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl import batch as batches
from jaxdl.errors import UserError, unknown

STRATEGIES = ("jit", "pmap")
KINDS = ("cpu", "gpu", "tpu")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_memory() -> None:
    """Have glibc keep freed memory for the next allocation, instead of giving it back to the system page by page.

    Programs free their temporaries after each operation; taking them anew costs up to a quarter of the time on virtual
    machines, whose page faults are slow. Other C libraries, and what MALLOC_... variables set, stay as they are.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for option, value in _KEPT.items():
            mallopt(option, value)


# M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD and M_ARENA_MAX of malloc.h: further arenas have no blocks over 64 MB.
_KEPT = {-1: 2**31 - 1, -2: 64 << 20, -3: 2**31 - 1, -8: 1}


def start(kind: str = "") -> None:
    """Choose the backend and, on CPU, make one host device per visible core. Before any array is made.

    kind: "cpu", "gpu", "tpu" or "" for the best there is. A count of host devices that XLA_FLAGS sets is kept.
    """
    if kind and kind not in KINDS:
        raise unknown("device", kind, KINDS)
    keep_memory()
    if kind:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(kind, kind))
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # in a notebook jax may run already: with the devices that it has
            jax.config.update("jax_num_cpu_devices", cores())
    # Programs of a second start come from disk. Small ones too: a study has many, and they add up.
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.path.expanduser("~/.cache/jaxdl/programs")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    try:
        found = jax.devices()[0].platform
        if kind and found != kind:
            raise UserError(f"--device={kind} is not possible: this process runs on {found} already")
    except (RuntimeError, AssertionError) as error:  # jax asserts where a platform's plugin is not installed
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
        raise UserError(f"--device={kind} is not possible: JAX finds no such device here{reason}") from None


def width(platform: str, function: Callable, *arguments: Any) -> int:
    """How many runs go side by side in one `lax.map` step.

    A fixed table over (device, primitives of the loss), never a stopwatch and never the number of runs: between
    widths the last bits differ. On CPU vmap buys nothing for dense models, and 8 lanes share the cost of a
    scatter. The 8 for accelerators has not been measured yet.
    """
    if platform != "cpu":
        return 8
    jaxpr = jax.make_jaxpr(function)(*arguments)
    return 8 if any(name.startswith("scatter") for name in _primitives(jaxpr)) else 1


def _primitives(jaxpr: Any) -> set[str]:
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for inner in jax.tree.leaves(list(equation.params.values())):
            if hasattr(inner, "eqns"):  # closed in most primitives, open in that of jax.checkpoint
                names |= _primitives(inner)
    return names


class Spread:
    """How functions of one run become programs of many, on given devices.

    slots: the number of runs is padded to a multiple of this, so that all devices hold whole steps of `width`
    """

    def __init__(self, devices: Sequence[jax.Device], strategy: str, width: int) -> None:
        if strategy not in STRATEGIES:
            raise unknown("strategy", strategy, STRATEGIES)
        self.strategy, self.width, self.devices = strategy, width, tuple(devices)
        # Under pmap, pmap's own: what goes into a program then is of the same kind as what comes out of one.
        self.mesh = Mesh(np.array(devices), ("runs" if strategy == "jit" else batches.AXIS,))
        self.slots = width * (len(devices) if strategy == "jit" else 1)

    def check_batch(self, batch_size: int) -> None:
        """UserError when a batch can't be split evenly over the devices."""
        if self.strategy == "pmap" and batch_size % len(self.devices):
            raise UserError(
                f"--strategy=pmap splits a batch over {len(self.devices)} devices: batch_size={batch_size} "
                f"is no multiple of {len(self.devices)}"
            )

    def program(self, function: Callable, *, donate: bool = False, once: bool = False) -> "Mapped":
        """function(*per_run, shared) of one run -> the compiled program(per_run, shared) of many.

        per_run: a tuple of pytrees whose leaves have a leading axis [R]; shared: a pytree that all runs read.
        donate: the first of per_run is overwritten by the result.
        once: called once a run. On CPU LLVM's first level then: a random array compiles in a sixth of the time, to the
            same bits.
        """

        def many(per_run: tuple, shared: Any) -> Any:
            side_by_side = {"batch_size": self.width} if self.width > 1 else {}
            return jax.lax.map(lambda one: function(*one, shared), per_run, **side_by_side)

        if self.strategy == "pmap":

            def split(_: Any, per_run: tuple, shared: Any) -> Any:
                return many(per_run, shared)

            compiled = jax.pmap(
                named(split, function.__name__),
                axis_name=batches.AXIS,
                in_axes=(0, None, None),
                out_axes=None,
                devices=self.devices,
            )
            numbers = np.arange(len(self.devices))  # pmap wants a mapped argument; all else is on every device
            return Mapped(compiled, lambda per_run, shared: (numbers, per_run, shared))
        runs, everywhere = PartitionSpec("runs"), PartitionSpec()

        def spread(first: Any, rest: tuple, shared: Any) -> Any:
            return jax.shard_map(many, mesh=self.mesh, in_specs=(runs, everywhere), out_specs=runs, check_vma=False)(
                (first, *rest), shared
            )

        options = {"xla_backend_optimization_level": 1} if once and self.devices[0].platform == "cpu" else None
        compiled = jax.jit(
            named(spread, function.__name__), donate_argnums=(0,) if donate else (), compiler_options=options
        )
        return Mapped(compiled, lambda per_run, shared: (per_run[0], per_run[1:], shared))

    def place(self, tree: Any) -> Any:
        """Host arrays [R, ...] onto the devices that train the runs."""
        return jax.device_put(tree, self._placed())

    def share(self, tree: Any) -> Any:
        """Host arrays onto all devices."""
        return jax.device_put(tree, self._shared())

    def placed_shapes(self, tree: Any, runs: int) -> Any:
        """Shapes of one run -> those of what `place` returns for so many runs."""

        def many(leaf: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((runs, *leaf.shape), leaf.dtype, sharding=self._placed())

        return jax.tree.map(many, tree)

    def shared_shapes(self, tree: Any) -> Any:
        """Shapes of host arrays -> those of what `share` returns for them."""
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._shared()), tree)

    def _placed(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec("runs" if self.strategy == "jit" else None))

    def _shared(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())


class Mapped:
    """program(per_run, shared) of many runs; compiled for the shapes it is called with, or before that by `compile`."""

    def __init__(self, compiled: Any, arrange: Callable[[tuple, Any], tuple]) -> None:
        self._compiled, self._arrange = compiled, arrange

    def __call__(self, per_run: tuple, shared: Any) -> Any:
        return self._compiled(*self._arrange(per_run, shared))

    def compile(self, per_run: tuple, shared: Any) -> int | None:
        """Compile for shapes (`placed_shapes`, `shared_shapes`); calls with such arrays then compile nothing anew.

        Returns the bytes that a call takes on each device beside its arguments: temporaries, and results that
        overwrite no argument. None where the backend does not tell.
        """
        figure = self._compiled.lower(*self._arrange(per_run, shared)).compile().memory_analysis()
        if figure is None:
            return None
        return figure.temp_size_in_bytes + figure.output_size_in_bytes - figure.alias_size_in_bytes


def named(function: Callable, name: str) -> Callable:
    """The function under another name: the one that compile logs and profiles show."""
    function.__name__ = function.__qualname__ = name
    return function
