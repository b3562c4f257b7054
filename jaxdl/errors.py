"""Errors for the person who made the mistake: one line, what is valid, the nearest match."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user asked for. Entry points print it on one line and exit with status 2."""


SHOWN = 24  # valid names in one message


def unknown(what: str, value: object, valid: Iterable[object], near: Iterable[object] = ()) -> UserError:
    """The error for a name that is not one of `valid`, with the nearest match when there is one.

    near: where else the nearest match may lie, beyond the names that are listed as valid.
    """
    names = [str(name) for name in valid]
    nearest = difflib.get_close_matches(str(value), [*names, *map(str, near)], n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    listed = ", ".join(names[:SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > SHOWN else "")
    return UserError(f"unknown {what} {str(value)!r}; {hint}valid: {listed}")
