"""Look into a trained network: what its layers see of an image, and what its answer rests on.

First-layer filters, feature maps layer by layer, saliency (Simonyan et al. 2013, arXiv 1312.6034), Grad-CAM
(Selvaraju et al. 2016, arXiv 1610.02391), receptive fields in theory and measured, the images that excite a unit most.
"""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments._trained import appearing, free, load
from jaxdl.errors import UserError, unknown
from jaxdl.study import command_line

HELP = """
usage: python -m experiments.look --from=WORKDIR [IMAGE] [options]

  IMAGE                      a JPEG, PNG or WebP; default: the first test image of a few classes
  --from=WORKDIR             where the launch of a study is that trained the network
  --variant=NAME --seed=K    which of its runs; default the study's first one and 0
  --class=NAME               saliency and Grad-CAM of this class; default the predicted one
  --layer=NAME               Grad-CAM at this layer; default the last one with maps
  --unit=LAYER:NUMBER,...    also the 16 test images that excite each of these units most
  --out=DIR                  where to; default WORKDIR/look/VARIANT-seed=K, which is made anew, and
                             is shown in the study's report.html

Maps are those after the activation where a layer's output goes into one and nowhere else, else the
layer's output as it is. A unit is a channel of a layer with maps, else one of its values.
"""
OPTIONS = ("from", "variant", "seed", "class", "layer", "unit", "out")
CLASSES = 4  # of which one test image each is looked at
STRONGEST = 16
BLOCK = 256  # images in one program call
DRAWS = 16  # random images that measure receptive fields


class Seen(NamedTuple):
    """A trained network, and images to look at.

    call: (network, params, model_state), what functions of `tasks.inside` begin with
    layers: its `models.tracing.Layer`s; names: of its outputs
    stored [N, H, W, C]: images as the data have them; image: as the network sees them; shown: as colours in [0, 1]
    titles: what each image is called; said: what the network says of it; label [N]: the output that is explained
    """

    call: tuple[Any, Any, Any]
    layers: list[Any]
    names: tuple[str, ...]
    source: Any
    image: Any
    shown: np.ndarray
    titles: list[str]
    said: list[str]
    label: np.ndarray


def command(words: list[str]) -> None:
    """Do what the command line asks for."""
    from absl import flags

    options = flags.FLAGS
    other = next((name for name in options if options[name].present and name not in (*OPTIONS, "offline")), "")
    if other:
        raise UserError(f"--{other} has no effect: what goes with look is {', '.join(f'--{name}' for name in OPTIONS)}")
    if len(words) > 1:
        raise UserError(f"one image at a time: {' '.join(words)}")
    values = {name: options[name].value for name in OPTIONS}
    workdir, explained = values.pop("from"), values.pop("class")
    if not workdir:
        raise UserError("look needs --from=WORKDIR: the --workdir of a launch that has trained")
    look(Path(workdir), words[0] if words else "", explained, **values)


def look(
    workdir: Path,
    picture: str = "",
    explained: str = "",
    variant: str = "",
    seed: int = 0,
    layer: str = "",
    unit: str = "",
    out: str = "",
) -> None:
    """Write the pictures and look.html, and print the table of receptive fields. See HELP for what is asked for.

    explained: the class, "" for the predicted one; unit: LAYER:NUMBER,...
    """
    from experiments import _look_pictures as pictures
    from jaxdl.study import run
    from jaxdl.tasks import inside

    finished = load(workdir)
    variant = variant or finished.launch.study.default_variant or finished.report.results.rows[0].variant
    place = free(out) if out else workdir / "look" / f"{variant}-seed={seed}"
    seen = looked_at(finished, variant, seed, picture, explained)
    units = [unit_of(seen.layers, text) for text in unit.split(",") if text]
    maps = any(each.has_maps for each in seen.layers)
    if layer or maps:
        layer = inside.layer_with_maps(seen.layers, layer)

    drawn = {"filters": pictures.filters(seen), "saliency": pictures.saliency(seen)}
    if maps:
        drawn |= {"grad_cam": pictures.grad_cam(seen, layer)} | pictures.maps(seen)
    fields = receptive(seen)
    drawn["receptive_fields"] = pictures.receptive_fields(seen, fields)
    for own, number in units:
        drawn[f"unit_{file_name(own)}_{number}"] = pictures.strongest(seen, fields, own, number)
    left_out = [] if drawn["filters"] else ["filters: no layer has weights that are images"]
    left_out += [] if maps else ["feature maps and Grad-CAM: no layer of this network has maps"]
    drawn = {name: figure for name, figure in drawn.items() if figure is not None}

    header, rows = field_table(seen, fields)
    about = [f"{title}: {said}." for title, said in zip(seen.titles, seen.said, strict=True)]
    with appearing(place) as draft:
        draft.mkdir()
        for file, figure in drawn.items():
            figure.savefig(draft / f"{file}.png", dpi=110)
        title = f"A look into {variant}, seed {seed}"
        html = pictures.page(title, about, left_out, header, rows, draft, drawn, asked())
        (draft / "look.html").write_text(html, encoding="utf-8")
        if not out:  # derived: this look takes the place of the last one
            shutil.rmtree(place, ignore_errors=True)
    print_table(header, rows)
    print("\n" + "\n".join([*about, *(f"left out: {line}" for line in left_out)]))
    print(f"pictures  {place}: {', '.join(drawn)}")
    print(f"page      {place}/look.html")
    if not out:
        run.reread(finished.launch)
        print(f"report    {workdir}/report.html shows them, too")


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as their cells."""
    widths = [max(map(len, cells)) for cells in zip(header, *rows, strict=True)]
    for row in [header, *rows]:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def looked_at(finished: Any, variant: str, seed: int, picture: str, explained: str) -> Seen:
    """The network of a run and what it says of the images. UserError where there is nothing to look into."""
    import jax

    from jaxdl import models

    model = finished.model(variant, seed)
    source, network = model.group.source, model.network
    if network is None:
        raise UserError(f"the variant {variant!r} is no network that answers for an image: name another --variant")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((model.params, model.model_state))):
        raise UserError(f"the variant {variant!r} diverged with seed {seed}: name another --seed or --variant")
    shape = source.data["train"]["image"].shape[1:]
    if source.prepare is not None or len(shape) != 3 or shape[-1] not in (1, 3):
        kind = "features of other layers" if source.prepare is not None else f"values of shape {shape}"
        raise UserError(f"the variant {variant!r} sees no grey or colour images but {kind}: name another --variant")
    stored, titles = (model.read(picture)[None], [Path(picture).name]) if picture else chosen(source)
    image = source.images(stored)
    call = (network, model.params, model.model_state)
    found = models.tracing.trace(*call, image).layers
    logits = np.asarray(
        jax.jit(lambda call, image: models.forward(network, *call, image, train=False)[0])(call[1:], image)
    )
    outputs = logits.shape[1]
    classes = outputs == source.classes and outputs > 1
    names = source.names if classes else tuple(f"output {number}" for number in range(outputs))
    if explained and explained not in names:
        raise unknown("class", explained, names)
    label = np.full(len(stored), names.index(explained)) if explained else logits.argmax(axis=1)
    answers = model.apply(stored)
    if classes:
        said = [f"{names[row.argmax()]} ({row.max():.1%})" for row in answers]
        if explained:
            said = [
                f"{text}, {explained} ({row[names.index(explained)]:.1%})"
                for text, row in zip(said, answers, strict=True)
            ]
    else:
        said = [f"{np.ravel(row)[0]:.4g}" for row in answers]
    return Seen(call, found, names, source, image, colours(stored, source), titles, said, label)


def chosen(source: Any) -> tuple[np.ndarray, list[str]]:
    """The first test image of each of a few classes; of the validation split where there is no test split."""
    split = "test" if len(source.data["test"]["label"]) else "validation"
    labels = np.asarray(source.data[split]["label"])
    first = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:CLASSES]]
    stored = np.asarray(source.data[split]["image"][np.array(first)])
    return stored, [f"{split.capitalize()} image {place}, class {source.names[labels[place]]}" for place in first]


def unit_of(layers: list[Any], text: str) -> tuple[str, int]:
    """LAYER:NUMBER as it is. UserError where there is no such layer or unit."""
    name, _, number = text.rpartition(":")
    layer = next((layer for layer in layers if layer.name == name), None)
    if layer is None:
        if not name:
            raise UserError(f"--unit={text} names no unit: write --unit=LAYER:NUMBER, as {layers[0].name}:0")
        raise unknown("layer", name, [layer.name for layer in layers])
    if not number.isdecimal() or int(number) >= layer.shape[-1]:
        raise UserError(f"--unit={text} is not possible: units of {name} are 0 to {layer.shape[-1] - 1}")
    return name, int(number)


def receptive(seen: Seen) -> dict[str, tuple[Any, np.ndarray]]:
    """{layer: (its field in theory, what reaches its central unit, [H, W])}."""
    from jaxdl import models
    from jaxdl.tasks import inside

    shape = seen.shown.shape[1:3] + seen.image.shape[3:]
    theory = models.receptive_fields(*seen.call, shape)
    noise = np.random.default_rng(0).normal(size=(DRAWS, *shape)).astype(np.float32)
    measured = inside.centre_gradients(*seen.call, noise)
    return {name: (field, measured[name]) for name, field in theory.items()}


def field_table(seen: Seen, fields: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: of each layer its output, its field in theory, and what its central unit sees, measured."""
    from jaxdl.tasks import inside

    def by(pair: Any) -> str:
        return f"{pair[0]}" if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"

    header = ["layer", "kind", "after", "output", "field", "stride", "begins", "centre sees", "measured"]
    rows = []
    for layer in seen.layers:
        if layer.name not in fields:
            continue
        field, reached = fields[layer.name]
        expected = central(layer, field, reached.shape)
        found = inside.box(reached)
        rows.append(
            [
                layer.name, layer.kind, layer.activation or "-", "x".join(map(str, layer.shape[1:])),
                f"{field[0].size}x{field[1].size}", by([side.stride or "-" for side in field]),
                by([side.low for side in field]), spelled(expected),
                "nothing" if found is None else "the same" if found == expected else spelled(found),
            ]
        )  # fmt: skip
    return header, rows


def central(layer: Any, field: Any, shape: tuple[int, int]) -> Any:
    """((top, bottom), (left, right)) of what the central unit of a layer sees of an image [H, W]."""
    return tuple(
        side.seen(layer.shape[1 + axis] // 2 if layer.has_maps else 0, shape[axis]) for axis, side in enumerate(field)
    )


def spelled(box: Any) -> str:
    """A box as its size."""
    return "x".join(str(last - first + 1) for first, last in box)


def colours(stored: np.ndarray, source: Any) -> np.ndarray:
    """Stored images as colours in [0, 1], [N, H, W, 3]."""
    values = np.asarray(stored, np.float64) * source.normalisation.scale
    if not np.issubdtype(np.asarray(stored).dtype, np.integer):
        values = (values - values.min()) / max(values.max() - values.min(), 1e-9)
    return np.clip(np.broadcast_to(values, (*values.shape[:3], 3)), 0, 1)


def file_name(layer: str) -> str:
    """The name of a layer as part of a file's name."""
    return layer.replace("/", ".")


def asked() -> str:
    """The command that makes all of it again."""
    return f"python -m experiments.look {shlex.join(sys.argv[1:])}"


def define() -> list[str]:
    """Flags of this command alone."""
    from absl import flags

    for name in OPTIONS:
        if name == "seed":
            flags.DEFINE_integer(name, 0, "")
        else:
            flags.DEFINE_string(name, "", "")
    return list(OPTIONS)


if __name__ == "__main__":
    command_line.main(command_line.recipe(__name__, "data"), lambda: __doc__.strip() + "\n" + HELP, define, command)
