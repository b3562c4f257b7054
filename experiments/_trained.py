"""What commands for trained networks share: the launch of whichever study, and new files that appear whole."""

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxdl.errors import UserError, unknown


def load(workdir: str | Path) -> Any:
    """What the launch in a workdir found, of whichever study. UserError where there is none."""
    from jaxdl.study import folders

    place = Path(workdir).expanduser()
    asked = folders.read_asked(place)
    if asked is None:
        raise UserError(f"--from={workdir} holds no launch: name the --workdir of a study that has trained")
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if asked["study"] not in names:
        raise unknown(f"study in {workdir}", asked["study"], names)
    study = getattr(importlib.import_module(f"experiments.{asked['study']}"), "study", None)
    if study is None:
        raise UserError(f"{asked['study']} is no study: name the --workdir of one that has trained")
    return study.load(place)


def free(path: str | Path) -> Path:
    """The path. UserError where something is there, which would be overwritten."""
    if os.path.lexists(path):
        raise UserError(f"{path} is there already, and stays: name another place with --out")
    return Path(path)


@contextlib.contextmanager
def appearing(place: Path) -> Iterator[Path]:
    """Where to write what then appears at `place` whole or not at all. UserError where that can't be written."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".draft-", dir=place.parent) as folder:
            draft = Path(folder) / place.name
            yield draft
            draft.rename(place)
    except OSError as error:
        raise UserError(f"{place} can't be written ({error.strerror}): name another place with --out") from error
