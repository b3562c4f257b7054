"""Data sets: what there is, and what one contains.

Counts by split and class, shapes, value range, mean and standard deviation, examples that are there
twice, a contact sheet, and one image as a matrix of numbers.
"""

import json
import shlex
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl.errors import UserError
from jaxdl.study import command_line

HELP = """
usage: python -m experiments.data                  lists the sets, and which are here
       python -m experiments.data NAME [options]   what is in one

  --config.data.dir=DIR                 where it lies: a folder of TFDS sets, the authors' files,
                                        your folder of pictures, your .npz or .csv file
  --config.data.train=N                 training examples; 0: all that the other splits leave
  --config.data.validation=N            validation examples; 0: as the set has them, or a sixth
  --config.data.normalise=KIND          unit, pixel_mean, channel or binarised
  --config.data.pictures.size=N     pixels a side;  --config.data.pictures.colour=True
  --config.data.csv.label=COLUMN        the column that holds the class
  --baselines                           also the test accuracy of two simple methods of scikit-learn
  --workdir=DIR                         where pictures go; default runs/data/NAME
  --offline                             download nothing
"""
LISTED = 20  # classes in the terminal and on the contact sheet
COLUMNS = 12  # images of each class on the contact sheet
LARGEST = 10_000  # examples of a split that the baselines look at
HIGHEST = 20  # inches of a picture


def command(words: list[str]) -> None:
    """Do what the command line asks for."""
    from absl import flags

    options = flags.FLAGS
    settings = options.config.data
    if len(words) > 1 or (words and settings.name):
        raise UserError(f"one data set at a time: {' '.join([*words, settings.name]).strip()}")
    name = words[0] if words else settings.name
    if not name:
        list_sets(settings.dir)
        return
    with settings.unlocked():
        settings.name = name
    show(settings, Path(options.workdir or f"runs/data/{name}"), options.baselines)


def list_sets(folder: str) -> None:
    """Every name that `data.name` may have, and where that set comes from."""
    from jaxdl import data

    rows = {name: (each.where(name, folder), each.line) for name, each in data.SETS.items()}
    sets = data.graph_sets
    graphs = {name: (each.where, each.line) for name, each in (sets.NODE_SETS | sets.GRAPH_SETS).items()}
    root = data.tfds.root(folder)
    others = sorted(set(data.tfds.prepared(folder)) - set(rows))
    rows |= {name: ("TFDS folder", "") for name in others}
    for name, (where, line) in rows.items():
        print(f"{name:<17} {where:<20} {line}".rstrip())
    print("\ngraphs, for the studies of graphs")
    for name, (where, line) in graphs.items():
        print(f"{name:<17} {where:<20} {line}".rstrip())
    print(f"\nTFDS folder: {root}")
    print("any other set that TFDS knows, into it: python -m jaxdl.data.prepare NAME")
    print("what is in one: python -m experiments.data NAME")


def show(settings: Any, workdir: Path, baselines: bool) -> None:
    """Print what a set contains, and write pictures, pixels.csv and contents.json into `workdir`."""
    from jaxdl import data

    arrays = data.loading.read(settings)
    splits = data.splits.split(settings.name, arrays, settings.train, settings.validation)
    splits = {name: values for name, values in splits.items() if len(values["label"])}
    if baselines and "test" not in splits:
        raise UserError("--baselines need a test split, and no example is left for one: ask for fewer in the others")
    train = splits["train"]
    found = data.contents.describe(splits, len(arrays.names), arrays.scale)
    twice = data.contents.duplicates(splits)
    normalise = data.normalisation.fit(settings.normalise, train["image"], arrays.scale)
    shape, stored = train["image"].shape[1:], train["image"].dtype
    further = [key for key in train if key not in ("image", "label")]
    official = ", ".join(split for split in splits if split in arrays.splits)

    print(f"{settings.name}: {len(arrays.names)} classes, {'x'.join(map(str, shape))} values of {stored}", end="")
    print(f", with {' and '.join(further)}" if further else "")
    print(f"fingerprint {arrays.fingerprint[:16]}; splits that come with it: {official}\n")
    print(f"{'split':<12}{'examples':>12}" + "".join(f"{name:>12}" for name in ("min", "max", "mean", "std")))
    for split, each in found.items():
        numbers = (each.minimum, each.maximum, float(np.mean(each.mean)), overall_std(each))
        print(f"{split:<12}{sum(each.by_class):>12,}" + "".join(f"{number:>12.4g}" for number in numbers))
    if 1 < shape[-1] <= 4:
        print("mean ± std by channel")
        for split, each in found.items():
            channels = [f"{mean:>10.4g} ± {std:<9.4g}" for mean, std in zip(each.mean, each.std, strict=True)]
            print(f"{split:<12}{''.join(channels)}".rstrip())
    if arrays.scale != 1:
        print(f"(minimum and maximum as stored; mean and standard deviation of value / {round(1 / arrays.scale)})")
    print_classes(arrays.names, found)
    print_duplicates(twice)
    accuracies = simple_methods(splits, normalise) if baselines else {}
    for method, accuracy in accuracies.items():
        print(f"{method}: {100 * accuracy:.2f} % of the test examples right")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={workdir} can't be written ({error.strerror}): name another folder") from None
    summary = {
        "name": settings.name,
        "fingerprint": arrays.fingerprint,
        "classes": arrays.names,
        "shape": shape,
        "splits": {split: each._asdict() for split, each in found.items()},
        "duplicates": {
            "within": twice.within,
            "across": {" in ".join(reversed(pair)): count for pair, count in twice.across.items()},
            "relabelled": twice.relabelled,
        },
        "normalisation": normalise.plain(),
        "baselines": accuracies,
        "command": f"python -m experiments.data {shlex.join(sys.argv[1:])}",
    }
    (workdir / "contents.json").write_text(json.dumps(summary, indent=1) + "\n")
    written = ["contents.json"]
    if len(shape) == 3:
        written += draw(arrays.names, train, normalise, workdir)
    print(f"\nwritten to {workdir}: {', '.join(written)}")


def overall_std(each: Any) -> float:
    """Of all values, from the mean and standard deviation of equally large channels."""
    mean, std = np.array(each.mean), np.array(each.std)
    return float(np.sqrt((std**2).mean() + mean.var()))


def print_classes(names: tuple[str, ...], found: dict[str, Any]) -> None:
    """Examples of each class in each split."""
    width = min(32, max(len("class"), *(len(name) for name in names[:LISTED]))) + 2
    print("\n" + f"{'class':<{width}}" + "".join(f"{split:>12}" for split in found))
    for label, name in enumerate(names[:LISTED]):
        counts = "".join(f"{each.by_class[label]:>12,}" for each in found.values())
        print(f"{name[: width - 2]:<{width}}{counts}")
    if len(names) > LISTED:
        print(f"and {len(names) - LISTED} more, in contents.json")


def print_duplicates(twice: Any) -> None:
    """How many examples are there twice, and where."""
    lines = [f"{count:,} within {split}" for split, count in twice.within.items() if count]
    lines += [f"{count:,} of {later} also in {earlier}" for (earlier, later), count in twice.across.items() if count]
    text = "duplicates (the same values in every pixel): " + ("; ".join(lines) or "none")
    print("\n" + textwrap.fill(text, 100, subsequent_indent="  "))
    if twice.relabelled:
        print(f"{twice.relabelled:,} of them have another label there")


def simple_methods(splits: dict[str, Any], normalise: Any) -> dict[str, float]:
    """A floor for what is trained: test accuracy of nearest neighbours and of a linear model on the pixels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    def part(split: str, most: int) -> tuple[np.ndarray, np.ndarray]:
        images = np.asarray(normalise(splits[split]["image"][:most]))
        return images.reshape(len(images), -1), np.asarray(splits[split]["label"])[:most]

    images, labels = part("train", LARGEST)
    tests, expected = part("test", LARGEST)
    some = f", first {len(images):,} training examples" if len(images) < len(splits["train"]["label"]) else ""
    methods = {
        f"3 nearest neighbours{some}": KNeighborsClassifier(3),
        f"logistic regression{some}": LogisticRegression(max_iter=1000),
    }
    return {name: float(method.fit(images, labels).score(tests, expected)) for name, method in methods.items()}


def draw(names: tuple[str, ...], train: Any, normalise: Any, workdir: Path) -> list[str]:
    """The contact sheet, and one image as numbers: printed, as pixels.csv, and as a picture with its numbers."""
    from matplotlib.figure import Figure

    labels = np.asarray(train["label"])
    present = [label for label in range(len(names)) if (labels == label).any()][:LISTED]
    sheet = [np.asarray(train["image"][np.flatnonzero(labels == label)[:COLUMNS]]) for label in present]
    height, width, channels = sheet[0].shape[1:]
    figure = Figure(figsize=(9, min(0.3 + 0.68 * len(sheet) * height / width, HIGHEST)), layout="constrained")
    axes = figure.subplots()
    canvas = np.ones((len(sheet) * (height + 2), COLUMNS * (width + 2), 3))
    for row, images in enumerate(sheet):
        for column, image in enumerate(images):
            place = np.s_[row * (height + 2) + 1 :, column * (width + 2) + 1 :]
            canvas[place][:height, :width] = np.clip(shown_as(image, normalise), 0, 1)
    axes.imshow(canvas, interpolation="nearest")
    # Fonts lack the letters of many scripts: the number tells such classes apart.
    called = [names[label][:24] if names[label].isascii() else f"{label} {names[label][:24]}" for label in present]
    axes.set_yticks([(row + 0.5) * (height + 2) for row in range(len(sheet))], called)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(left=False)
    save(figure, workdir / "contact_sheet.png", 160)

    image = np.asarray(train["image"][0])
    matrix = image[..., 0]
    np.savetxt(workdir / "pixels.csv", image.reshape(height, -1), fmt="%g", delimiter=",")  # [h, w, c] -> [h, w c]
    what = f"the first training image, class {names[labels[0]][:24]}" + (", its red channel" if channels == 3 else "")
    print_matrix(matrix, what)
    side = max(3.0, 0.3 * width)
    figure = Figure(figsize=(min(side, 24), min(min(side, 24) * height / width + 0.3, HIGHEST)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix, cmap="gray", interpolation="nearest")
    if max(matrix.shape) <= 64:
        middle = (float(matrix.min()) + float(matrix.max())) / 2
        for (line, column), value in np.ndenumerate(matrix):
            colour = "black" if value > middle else "white"
            axes.text(column, line, f"{value:g}"[:4], ha="center", va="center", fontsize=7, color=colour)
    axes.set_title(what, fontsize=10)
    axes.set_axis_off()
    save(figure, workdir / "pixels.png", 120)
    return ["contact_sheet.png", "pixels.png", "pixels.csv"]


def save(figure: Any, path: Path, dpi: int) -> None:
    """Write a picture, without matplotlib's warnings of letters that its fonts lack."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(path, dpi=dpi)


def shown_as(image: np.ndarray, normalise: Any) -> np.ndarray:
    """A stored image as colours [height, width, 3] in [0, 1]."""
    values = image.astype(np.float64) * normalise.scale
    if not np.issubdtype(image.dtype, np.integer):
        values = (values - values.min()) / max(values.max() - values.min(), 1e-9)
    return np.repeat(values[..., :1], 3, axis=-1) if image.shape[-1] != 3 else values


def print_matrix(matrix: np.ndarray, what: str) -> None:
    """As much of the middle of a matrix as fits in 96 columns."""
    texts = [[f"{value:.4g}" for value in line] for line in matrix]
    cell = max(len(text) for line in texts for text in line) + 1
    columns = min(matrix.shape[1], 96 // cell)
    lines = min(matrix.shape[0], 28)
    left, top = (matrix.shape[1] - columns) // 2, (matrix.shape[0] - lines) // 2
    whole = (lines, columns) == matrix.shape
    print(f"\n{what}" + ("" if whole else f": rows {top}-{top + lines - 1}, columns {left}-{left + columns - 1}"))
    for line in texts[top : top + lines]:
        print("".join(f"{text:>{cell}}" for text in line[left : left + columns]))


def define() -> list[str]:
    """Flags of this command alone."""
    from absl import flags

    flags.DEFINE_string("workdir", "", "")
    flags.DEFINE_bool("baselines", False, "")
    return ["workdir", "baselines"]


if __name__ == "__main__":
    command_line.main(command_line.recipe(__name__, "data"), lambda: __doc__.strip() + "\n" + HELP, define, command)
