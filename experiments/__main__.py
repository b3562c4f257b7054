"""List the studies from their docstrings; nothing is imported."""

import ast
import sys
import textwrap
from pathlib import Path


def main() -> None:
    """Print each study's name, paper, one line and minutes; with words, only those that mention all of them."""
    words = [word.lower() for word in sys.argv[1:]]
    found = 0
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        if not all(word in f"{path.stem} {doc}".lower() for word in words):
            continue
        found += 1
        first, _, rest = doc.partition("\n\n")
        line = rest.split("\n\n")[0].replace("\n", " ")
        minutes = next((line for line in doc.splitlines() if line.startswith("Minutes:")), "(no study)")
        print(f"{path.stem}   {minutes}")
        for text in (first.replace("\n", " "), line):
            print(textwrap.fill(text, 98, initial_indent="  ", subsequent_indent="  "))
        print(f"  python -m experiments.{path.stem}\n")
    if not found:
        print(f"no study mentions {' '.join(words)}: python -m experiments lists all", file=sys.stderr)
        sys.exit(2)


main()
