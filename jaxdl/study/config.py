"""A resolved config: plain values by attribute, and a record of which were read."""

import hashlib
import json
from typing import Any

from jaxdl.errors import unknown

# Where the data lie, how a run executes and which runs a command asks for say nothing about what one run is; what
# the readers of folders and tables are told is in the data's fingerprint.
NOT_HASHED = ("seeds", "data.dir", "data.pictures", "data.csv", "runtime", "tune", "sweeps", "compare")


class Config:
    """`config.model.units` reads a value and remembers that it was read; values can't be set.

    A key that no code reads is a mistake in the config (a typo, or a setting without effect): see `unread`.
    """

    def __init__(self, values: dict[str, Any], path: str = "", read: set[str] | None = None) -> None:
        self._values, self._path = values, path
        self._read: set[str] = set() if read is None else read

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._values:
            raise unknown("config key", self._path + name, [self._path + key for key in self._values])
        value = self._values[name]
        if isinstance(value, dict):
            return Config(value, f"{self._path}{name}.", self._read)
        self._read.add(self._path + name)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"{self._path}{name} can't be set: a resolved config is what its runs were made of")
        super().__setattr__(name, value)

    def content(self) -> dict[str, Any]:
        """All values, nested, for what handles a config as a whole; does not count as reading them."""
        return self._values

    def as_dict(self) -> dict[str, Any]:
        """All values, nested; counts as reading each."""
        self._read.update(self._path + key for key in flatten(self._values))
        return self._values

    def unread(self) -> list[str]:
        """Dotted keys that no code has read so far."""
        return sorted(set(flatten(self._values)) - self._read)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def content_hash(values: dict[str, Any]) -> str:
    """A short hash of the dotted values that define what a run is; NOT_HASHED keys do not enter."""
    kept = {key: value for key, value in flatten(values).items() if not any(_within(key, out) for out in NOT_HASHED)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:10]


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(section + ".")
