"""Classify pictures with a network that a study has trained.

Labels with their probabilities; of a regression, the number that it tells.

A picture's central square is what the network sees, in the size, channels and steps of grey that
it was trained on: a network of colours gets grey pictures as they are, one of grey gets colours
weighed as ITU-R 601 does.
"""

import difflib
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments._trained import load
from jaxdl.errors import UserError
from jaxdl.study import command_line

HELP = """
usage: python -m experiments.classify IMAGE_OR_FOLDER... --from=WORKDIR [options]

  --from=WORKDIR           where the launch of a study is that trained the network
  --variant=NAME --seed=K  which of its runs; default the first row of its table, and 0
  --top=N                  labels shown for each picture; default 3
  --json                   one JSON array on standard output: of each picture the file and its
                           labels (id, label, probability; the likeliest first), its number, or
                           the error
  --picture=FOLDER         also write each picture's central square with its label under it, as
                           FOLDER/NAME.png. Nothing is overwritten
  --invert                 classify the negatives: dark strokes on light paper for a network that
                           was trained on light strokes on black
  --offline                download nothing

JPEG, PNG and WebP. A picture that can't be read is named on standard error and left out, and
the exit status is 1 in the end.
"""
AT_ONCE, PIXELS = 64, 1 << 18  # pictures in one program call, and their pixels: less of larger ones
LINE_SECONDS = 3.0  # between two lines of progress
SIDE, LINE_HEIGHT = 256, 28  # pixels of a picture that is written, and of the text under it
LIGHT, DARK, MOST = 0.75, 0.25, 0.9  # means of a border, and the part of a set that is alike


class Answer(NamedTuple):
    """What the network makes of a picture: probabilities [classes] or a number []; or why it makes nothing of it.

    border: mean of the pixels at its edge, 0 black to 1 white
    """

    path: Path
    output: np.ndarray | None
    border: float = 0.5
    error: str = ""


def command(words: list[str]) -> None:
    """Do what the command line asks for."""
    from absl import flags

    options = flags.FLAGS
    refused = next((name for name in options if name.startswith("config") and options[name].present), "")
    if refused:
        raise UserError(f"--{refused} has no effect: the launch in --from has a recipe of its own")
    if not words:
        raise UserError("no picture is named: python -m experiments.classify IMAGE_OR_FOLDER... --from=WORKDIR")
    if not options["from"].value:
        raise UserError("classify needs --from=WORKDIR: the --workdir of a launch that has trained")
    if options.top < 1:
        raise UserError(f"--top={options.top} is not possible: valid is 1 or more")
    given = options["from"].value, options.variant, options.seed
    if classify(words, *given, options.top, options.json, options.picture, options.invert):
        sys.exit(1)


def classify(
    words: Sequence[str], workdir: str, variant: str = "", seed: int = 0, top: int = 3, as_json: bool = False,
    folder: str = "", invert: bool = False,
) -> int:  # fmt: skip
    """Print what the network makes of the files and folders named, see HELP. Returns how many can't be read."""
    paths = files(words)
    targets = written(paths, folder) if folder else {}
    model = trained(workdir, variant, seed)
    found = list(told(answers(model, paths, invert), len(paths)))
    if as_json:
        content = [plain(model, answer, top) for answer in found]
        print("[" + ",\n ".join(json.dumps(each) for each in content) + "]")
    else:
        print_table(model, found, top)
    contrast(model, found, invert)
    failed = [answer for answer in found if answer.error]
    for answer in failed:
        print(f"error: {answer.error}", file=sys.stderr)
    if failed and len(found) > 1:
        print(f"{len(failed):,} of {len(found):,} pictures left out", file=sys.stderr)
    for answer in found:
        if folder and not answer.error:
            write(targets[answer.path], answer.path, texts(model, answer, 1)[0])
    return len(failed)


def files(words: Sequence[str]) -> list[Path]:
    """The files that are named, and those in the folders that are named, sorted, each once.

    Raises UserError for a name where nothing is, with the nearest match, and for a folder without pictures.
    """
    from jaxdl.data import image_folder

    found: dict[Path, None] = {}
    for word in words:
        path = Path(word).expanduser()
        try:
            if path.is_dir():
                inside = sorted(image_folder.pictures(path, strict=False), key=str)
                if not inside:
                    raise UserError(f"{path} holds no picture; valid: {' '.join(image_folder.PICTURES)}")
                found |= dict.fromkeys(inside)
            elif path.is_file():
                found[path] = None
            elif path.exists():
                raise UserError(f"{path} is no file; valid: pictures, and folders of pictures")
            else:
                raise missing(path)
        except OSError as error:
            raise UserError(f"cannot read {path} ({error.strerror})") from error
    return list(found)


def missing(path: Path) -> UserError:
    """The error for a path where nothing is: it names the nearest one beside it."""
    beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f"did you mean {str(path.parent / near[0])!r}? " if near else ""
    return UserError(f"there is no {str(path)!r}; {hint}valid: pictures, and folders of pictures")


def written(paths: list[Path], folder: str) -> dict[Path, Path]:
    """{picture: the file that it is written to}: its place below what all pictures have in common, and .png."""
    common = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    targets = {path: Path(folder) / f"{path.absolute().relative_to(common)}.png" for path in paths}
    there = next((target for target in targets.values() if os.path.lexists(target)), None)
    if there:
        raise UserError(f"{there} is there already, and stays: name another folder with --picture")
    return targets


def trained(workdir: str, variant: str, seed: int) -> Any:
    """The network of a launch of whichever study. UserError where there is none, or it does not classify pictures."""
    finished = load(workdir)
    model = finished.model(variant, seed)
    check(model, finished.launch.study.name)
    return model


def check(model: Any, name: str) -> None:
    """UserError where a network does not tell classes, or a number, of pictures, or diverged."""
    import jax

    from jaxdl.data import images

    source = model.group.source
    images.side(source)
    output = model.apply(np.zeros(block(source), source.data["train"]["image"].dtype))
    if output.shape[1:] not in ((), (source.classes,)):
        values = int(np.prod(output.shape[1:]))
        raise UserError(f"the network of {name} does not classify: it makes {values} values of an image")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.params)):
        raise UserError("the network diverged: name another --seed or --variant")


def block(source: Any) -> tuple[int, ...]:
    """The shape of the images in a program call. All calls have one: no picture's numbers depend on its company."""
    height, width, channels = source.data["train"]["image"].shape[1:]
    return min(AT_ONCE, max(1, PIXELS // (height * width))), height, width, channels


def answers(model: Any, paths: list[Path], invert: bool) -> Iterator[list[Answer]]:
    """What the network makes of pictures, block by block, in their order.

    Two threads decode the next block while the device computes.
    """
    source = model.group.source
    shape, scale = block(source), source.normalisation.scale
    like = source.data["train"]["image"].dtype
    blocks = [paths[start : start + shape[0]] for start in range(0, len(paths), shape[0])]

    def read(path: Path) -> np.ndarray | UserError:
        try:
            image = model.read(path)
        except UserError as error:
            return error
        return (round(1 / scale) - image).astype(like) if invert else image

    with ThreadPoolExecutor(2) as pool:
        begun = [pool.submit(read, path) for path in blocks[0]]
        for own, following in zip(blocks, [*blocks[1:], []], strict=True):
            decoded = [future.result() for future in begun]
            begun = [pool.submit(read, path) for path in following]
            images = np.zeros(shape, like)  # zeros where a picture is missing, too
            for number, image in enumerate(decoded):
                if not isinstance(image, UserError):
                    images[number] = image
            outputs, edges = model.apply(images)[: len(own)], borders(images, scale)[: len(own)]
            yield [
                Answer(path, None, error=str(image)) if isinstance(image, UserError) else Answer(path, output, border)
                for path, image, output, border in zip(own, decoded, outputs, edges, strict=True)
            ]


def borders(images: np.ndarray, scale: float) -> np.ndarray:
    """The mean of the pixels at the edge of stored images [N, h, w, c]: float [N], 0 black to 1 white."""
    inner = np.zeros(images.shape[1:3], bool)
    inner[1:-1, 1:-1] = True
    return images[:, ~inner].mean(axis=(1, 2)) * scale  # [N, pixels of the edge, c] -> [N]


def told(blocks: Iterator[list[Answer]], total: int) -> Iterator[Answer]:
    """The answers one by one, while standard error shows how far they are: a bar on a terminal, else lines."""
    from jaxdl.study.progress import duration

    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
            task = bar.add_task(f"{total:,} pictures", total=total)
            for answered in blocks:
                bar.advance(task, len(answered))
                yield from answered
        return
    started = said = time.monotonic()
    done = 0
    for answered in blocks:
        done, now = done + len(answered), time.monotonic()
        if now - said > LINE_SECONDS and done < total:
            said, left = now, duration((now - started) / done * (total - done))
            share = f"[{done / total:4.0%}] {done:,} of {total:,} pictures"
            print(f"{share}, about {left} left", file=sys.stderr, flush=True)
        yield from answered


def labels(model: Any, answer: Answer, top: int) -> list[tuple[int, str, float]]:
    """The `top` likeliest classes: (number, name, probability); of equal ones the lower number comes first."""
    order = np.argsort(-answer.output, kind="stable")[:top]
    return [(int(label), model.names[label], float(answer.output[label])) for label in order]


def target(model: Any) -> str:
    """What the number is called that a regression tells."""
    return model.group.config.content().get("target", "number")


def plain(model: Any, answer: Answer, top: int) -> dict[str, Any]:
    """An answer as JSON has it."""
    file = {"file": str(answer.path)}
    if answer.output is None:
        return file | {"error": answer.error}
    if not answer.output.ndim:
        return file | {target(model): float(answer.output)}
    keys = ("id", "label", "probability")
    return file | {"labels": [dict(zip(keys, each, strict=True)) for each in labels(model, answer, top)]}


def texts(model: Any, answer: Answer, top: int) -> list[str]:
    """An answer in words: each label with its probability, or the number."""
    if not answer.output.ndim:
        return [f"{target(model)} {answer.output:.1f}"]
    return [f"{name} {100 * probability:.1f} %" for _, name, probability in labels(model, answer, top)]


def print_table(model: Any, found: list[Answer], top: int) -> None:
    """One line a picture that could be read."""
    rows = [[printable(each.path), *texts(model, each, top)] for each in found if each.output is not None]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def printable(path: Path) -> str:
    """A path as one line of text, whatever is in its name."""
    return str(path) if str(path).isprintable() else ascii(str(path))


def contrast(model: Any, found: list[Answer], inverted: bool) -> None:
    """A note where pictures have light borders and nearly all of those in training dark ones, or the reverse."""
    source = model.group.source
    known = borders(np.asarray(source.data["train"]["image"][:500]), source.normalisation.scale)
    seen = np.array([each.border for each in found if each.output is not None])
    sides = {"light": (seen > LIGHT, known < DARK, "dark"), "dark": (seen < DARK, known > LIGHT, "light")}
    for here, (contrary, alike, there) in sides.items():
        if contrary.any() and alike.mean() > MOST:
            count = f"{contrary.sum():,} of {len(seen):,} pictures {'has' if contrary.sum() == 1 else 'have'}"
            advice = "leave out --invert" if inverted else "--invert classifies the negatives"
            trained_on = f"those of {source.name}, which it was trained on, {there} ones"
            print(f"note: {count} a {here} border, {trained_on}: {advice}", file=sys.stderr)


def write(target: Path, path: Path, text: str) -> None:
    """A picture's central square, and under it a text, as a PNG file that is not there yet."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    from jaxdl.data import images

    sheet = Image.new("RGB", (SIDE, SIDE + LINE_HEIGHT), "white")
    sheet.paste(Image.fromarray(images.decode(path.read_bytes(), str(path), SIDE, 3)))
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", 16)
    draw = ImageDraw.Draw(sheet)
    size = 16 * min(1.0, (SIDE - 8) / max(1.0, draw.textlength(text, font)))  # a long name in smaller letters
    draw.text((4, SIDE + LINE_HEIGHT / 2), text, "black", font.font_variant(size=max(6, int(size))), anchor="lm")
    content = io.BytesIO()
    sheet.save(content, "PNG")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(content.getvalue())
    except OSError as error:
        raise UserError(f"{target} can't be written ({error.strerror}): name another folder with --picture") from error


def define() -> list[str]:
    """Flags of this command alone."""
    from absl import flags

    flags.DEFINE_string("from", "", "")
    flags.DEFINE_string("variant", "", "")
    flags.DEFINE_integer("seed", 0, "")
    flags.DEFINE_integer("top", 3, "")
    flags.DEFINE_bool("json", False, "")
    flags.DEFINE_string("picture", "", "")
    flags.DEFINE_bool("invert", False, "")
    return ["from", "variant", "seed", "top", "json", "picture", "invert"]


if __name__ == "__main__":
    recipe = command_line.recipe(__name__, "classifier")
    command_line.main(recipe, lambda: f"{__doc__.strip()}\n{HELP}", define, command)
