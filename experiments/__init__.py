"""The studies: one entry point each, `python -m experiments.NAME`; `python -m experiments` lists them."""

import sys
from pathlib import Path

# `python -m experiments.NAME` imports this package first: the moment to tell a misspelt name from a missing module.
if "-m" in sys.orig_argv[:-1]:
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if module.startswith("experiments.") and module.removeprefix("experiments.") not in (*names, "__main__"):
        from jaxdl.errors import unknown

        print(f"error: {unknown('study', module.removeprefix('experiments.'), names)}", file=sys.stderr)
        sys.exit(2)
