"""Where and how fits execute, and whom they tell."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxdl.errors import UserError
from jaxdl.training import stopping


class Progress(NamedTuple):
    """How far a fit is: told after every program call. `work` and `total` count run-steps of the whole fit.

    measured: runs that were measured at their end, of those that are trained together
    """

    name: str
    runs: int
    step: int
    steps: int
    work: int
    total: int
    loss: float
    examples_per_second: float
    measured: int = 0


@dataclasses.dataclass
class Settings:
    """Where and how fits execute; nothing here changes a number.

    folder: holds the checkpoints of all fits of one program
    memory: bytes that the runs of one program call may take on all devices together, beside the data they share
    runs_at_once: 0 derives it from `memory` and from what the compiled program says it takes
    width: runs side by side on a device; None takes it from the table in `devices` (only tests set it)
    train: whether fits may train; if not, one that is not finished raises UserError
    log: log(fit name, run numbers [M], step, {metric: float64 [M]}) for every row of metrics, restored ones too
    """

    folder: Path
    devices: Sequence[jax.Device]
    strategy: str = "jit"
    checkpoint_seconds: float = 30.0
    memory: float = 0.5e9
    runs_at_once: int = 0
    width: int | None = None
    call_seconds: float = 0.5
    train: bool = True
    requests: stopping.Requests = dataclasses.field(default_factory=stopping.Requests)
    log: Callable[[str, np.ndarray, int, dict[str, np.ndarray]], None] = lambda *_: None
    progress: Callable[[Progress], None] = lambda _: None
    warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr)

    def __post_init__(self) -> None:
        # Orbax looks for its own files with a glob pattern: below such a folder it would save what can't be read.
        magic = sorted(set("*?[\\") & set(str(self.folder.absolute())))
        if magic:
            raise UserError(f"no checkpoint can lie in {self.folder}: name a folder without {' '.join(magic)}")
