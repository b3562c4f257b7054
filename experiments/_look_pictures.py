"""Pictures of the inside of a network: one matplotlib figure each, and the page that holds them."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments import look

MOST = 64  # filters or maps on one sheet
ROWS = 16  # layers on the overview, and on the sheet of receptive fields
COLUMNS = 10  # maps of a layer on the overview
HEAT = "inferno"


def filters(seen: look.Seen) -> Figure | None:
    """The kernels of the first layer that sees more than one pixel; of a dense one, the weights of each unit."""
    shape = tuple(seen.image.shape[1:])
    for layer in seen.layers:
        own = seen.call[1]
        for part in layer.name.partition("@")[0].split("/"):
            own = own.get(part, {}) if hasattr(own, "get") else {}
        kernel = own.get("kernel") if hasattr(own, "get") else None
        if kernel is None:
            continue
        kernel = np.asarray(kernel)
        if kernel.ndim == 2 and kernel.shape[0] == math.prod(shape):
            kernel = kernel.reshape(*shape, kernel.shape[1])  # [H W C, F] -> [H, W, C, F]
        if kernel.ndim == 4 and kernel.shape[0] * kernel.shape[1] > 1:
            break
    else:
        return None
    count, channels = kernel.shape[3], kernel.shape[2]
    largest = np.abs(kernel).max() or 1.0
    if channels == 3:
        images, how = [0.5 + kernel[..., each] / (2 * largest) for each in range(count)], "grey is 0"
    else:
        images = [kernel[..., each].sum(axis=2) for each in range(count)]
        how = "blue below 0, red above" + ("" if channels == 1 else f"; sums over {channels} channels")
        largest = max(np.abs(image).max() for image in images) or 1.0
    said = f"{layer.name}: {count} filters of {'x'.join(map(str, kernel.shape[:3]))}, {how}"
    return sheet(images[:MOST], said + shortened(count), "RdBu_r", (-largest, largest))


def saliency(seen: look.Seen) -> Figure:
    """Each image beside the size of the gradient of its class's logit."""
    import jax

    from jaxdl.tasks import inside

    heat = np.asarray(
        jax.jit(lambda *each: inside.saliency(seen.call[0], *each))(*seen.call[1:], seen.image, seen.label)
    )
    return beside(seen, ["saliency"], [heat], "max over channels of |d logit / d pixel|")


def grad_cam(seen: look.Seen, layer: str) -> Figure:
    """Each image, where the maps of a layer speak for its class, and both."""
    import jax

    from jaxdl.tasks import inside

    @jax.jit
    def cam(params: Any, model_state: Any, image: Any, label: Any) -> Any:
        heat = inside.grad_cam(seen.call[0], params, model_state, image, label, layer)
        return heat, jax.image.resize(heat, image.shape[:3], "bilinear")

    small, heat = map(np.asarray, cam(*seen.call[1:], seen.image, seen.label))
    side = "x".join(map(str, small.shape[1:]))
    return beside(seen, ["Grad-CAM", "both"], [heat, heat], f"Grad-CAM at {layer} ({side}), enlarged")


def beside(seen: look.Seen, names: list[str], heats: list[np.ndarray], title: str) -> Figure:
    """One row an image: the image, then heat maps [N, H, W], each on its own scale; "both" is laid over the image."""
    count, columns = len(seen.shown), 1 + len(names)
    width = 2.1 * columns
    figure = Figure(figsize=(max(width, 5.2), 0.7 + 2.4 * count), layout="constrained")
    figure.suptitle(title, fontsize=10)
    grid = figure.subplots(count, columns, squeeze=False)
    for row in range(count):
        grid[row, 0].imshow(seen.shown[row], interpolation="nearest")
        grid[row, 0].set_title(f"{seen.titles[row]}\nsays {seen.said[row]}", fontsize=7)
        for axes, name, heat in zip(grid[row, 1:], names, heats, strict=True):
            if name == "both":
                axes.imshow(seen.shown[row], interpolation="nearest")
            own = heat[row]
            axes.imshow(own, cmap=HEAT, vmin=0, vmax=own.max() or 1, alpha=0.55 if name == "both" else None)
            nothing = "" if own.any() else ", nothing"
            axes.set_title(f"{name}\nof {seen.names[seen.label[row]]}{nothing}", fontsize=7)
    for axes in grid.ravel():
        axes.set_axis_off()
    return figure


def maps(seen: look.Seen) -> dict[str, Figure]:
    """{maps: some maps of each layer; maps_LAYER: up to 64 maps of one} of the first image."""
    import jax

    from jaxdl.tasks import inside

    values = jax.jit(lambda *each: inside.activations(seen.call[0], *each))(*seen.call[1:], seen.image[:1])
    found = {layer: np.asarray(values[layer.name])[0] for layer in seen.layers if layer.has_maps}
    drawn = {"maps": overview(seen, found)}
    for layer, own in found.items():
        title = f"{seen.titles[0]}, {titled(layer)}: {own.shape[2]} maps of {own.shape[0]}x{own.shape[1]}"
        images = [own[..., each] for each in range(min(MOST, own.shape[2]))]
        drawn[f"maps_{look.file_name(layer.name)}"] = sheet(
            images, title + shortened(own.shape[2]), "viridis", scale(own)
        )
    return drawn


def overview(seen: look.Seen, found: dict[Any, np.ndarray]) -> Figure:
    """One row a layer: its maps with the largest spread over the first image."""
    rows = some(list(found))
    figure = Figure(figsize=(1 + 0.75 * COLUMNS, 0.5 + 0.95 * (len(rows) + 1)), layout="constrained")
    few = f" ({len(rows)} of {len(found)} layers)" if len(rows) < len(found) else ""
    figure.suptitle(f"{seen.titles[0]}, layer by layer: the maps that vary most{few}", fontsize=10)
    first, *lines = figure.subplots(len(rows) + 1, 1)
    tiles(first, [seen.shown[0]], [""], COLUMNS)
    for axes, layer in zip(lines, rows, strict=True):
        own = found[layer]
        best = np.sort(np.argsort(-own.std(axis=(0, 1)), kind="stable")[:COLUMNS])
        tiles(axes, [own[..., number] for number in best], best, COLUMNS, "viridis", scale(own))
        axes.set_title(f"{titled(layer)}, {'x'.join(map(str, own.shape))}", fontsize=7, loc="left", pad=0)
    return figure


def receptive_fields(seen: look.Seen, fields: dict[str, Any]) -> Figure:
    """What reaches the central unit of each layer, with the box of theory and the measured one."""
    from jaxdl.tasks import inside

    known = [layer for layer in seen.layers if layer.name in fields]
    chosen = some([layer for layer in known if layer.has_maps] or known)
    columns = min(4, len(chosen))
    lines = math.ceil(len(chosen) / columns)
    figure = Figure(figsize=(max(2.3 * columns, 5.2), 0.8 + 2.5 * lines), layout="constrained")
    figure.suptitle(
        "what reaches the central unit: root of the |gradient|, over random images\n"
        "white: in theory, padding too; dashed: measured",
        fontsize=9,
    )
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.ravel()[len(chosen) :]:
        axes.set_axis_off()
    for axes, layer in zip(grid.ravel(), chosen, strict=False):
        field, reached = fields[layer.name]
        axes.set_facecolor("0.6")
        axes.imshow(np.sqrt(reached / (reached.max() or 1)), cmap=HEAT, vmin=0, vmax=1, interpolation="nearest")
        ends = [
            (side.low + side.stride * place, side.high + side.stride * place)
            for axis, side in enumerate(field)
            for place in [layer.shape[1 + axis] // 2 if layer.has_maps else 0]
        ]
        outline(axes, ends, "white", "-")
        found = inside.box(reached)
        if found:
            outline(axes, found, "deepskyblue", "--")
        (top, bottom), (left, right) = ends
        height, width = reached.shape
        axes.set(
            xlim=(min(left, 0) - 1.5, max(right, width - 1) + 1.5),
            ylim=(max(bottom, height - 1) + 1.5, min(top, 0) - 1.5),
        )
        axes.tick_params(labelsize=6)
        axes.set_title(f"{layer.name}\n{field[0].size}x{field[1].size}", fontsize=7)
    return figure


def strongest(seen: look.Seen, fields: dict[str, Any], layer: str, number: int) -> Figure:
    """The test images that excite a unit most, with what it sees of each where it is strongest."""
    import jax

    from jaxdl.tasks import inside

    own = next(each for each in seen.layers if each.name == layer)
    split = "test" if len(seen.source.data["test"]["label"]) else "validation"
    images = seen.source.data[split]["image"]

    @jax.jit
    def excited(params: Any, model_state: Any, stored: Any) -> Any:  # -> [B], [B]
        image = seen.source.images(stored)
        values = inside.activations(seen.call[0], params, model_state, image)[layer][..., number]
        flat = values.reshape(values.shape[0], -1)  # [B, h, w] -> [B, h w]
        return flat.max(axis=1), flat.argmax(axis=1)

    blocks = []
    for first in range(0, len(images), look.BLOCK):
        block = np.asarray(images[first : first + look.BLOCK])
        filled = np.concatenate([block, np.repeat(block[:1], look.BLOCK - len(block), axis=0)])  # one program
        blocks.append([np.asarray(each)[: len(block)] for each in excited(*seen.call[1:], filled)])
    value, place = (np.concatenate(each) for each in zip(*blocks, strict=True))
    best = np.argsort(-value, kind="stable")[: look.STRONGEST]
    shown = look.colours(np.asarray(images[best]), seen.source)
    labels = np.asarray(seen.source.data[split]["label"])[best]
    figure = Figure(figsize=(6.4, 7.2), layout="constrained")
    figure.suptitle(
        f"unit {number} of {titled(own)}: the {len(best)} strongest of {len(images):,} {split} images", fontsize=9
    )
    grid = figure.subplots(math.ceil(len(best) / 4), 4, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, image, label, which in zip(grid.ravel(), shown, labels, best, strict=False):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(f"{seen.source.names[label]}, {value[which]:.3g}", fontsize=7)
        if layer in fields and own.has_maps:
            spot = divmod(int(place[which]), own.shape[2])
            pairs = zip(fields[layer][0], spot, image.shape[:2], strict=True)
            outline(axes, [side.seen(at, length) for side, at, length in pairs], "red", "-")
    return figure


def outline(axes: Any, ends: Any, colour: str, style: str) -> None:
    """The box ((top, bottom), (left, right)), pixels included."""
    (top, bottom), (left, right) = ends
    corner, size = (left - 0.5, top - 0.5), (right - left + 1, bottom - top + 1)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linestyle=style, linewidth=1.4))


def sheet(images: list[np.ndarray], title: str, colours: str, ends: tuple[float, float]) -> Figure:
    """Images [h, w] or [h, w, 3] side by side, numbered, on one scale of colours."""
    columns = min(8, len(images))
    lines = math.ceil(len(images) / columns)
    height, width = images[0].shape[:2]
    figure = Figure(figsize=(max(0.95 * columns + 0.9, 5.2), 0.6 + 1.1 * lines * height / width), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots()
    drawn = tiles(axes, images, range(len(images)), columns, colours, ends)
    if images[0].ndim == 2:
        figure.colorbar(drawn, ax=axes, fraction=0.03).ax.tick_params(labelsize=6)
    return figure


def tiles(
    axes: Any, images: list[np.ndarray], names: Any, columns: int, colours: str = "gray", ends: Any = (0, 1)
) -> Any:
    """Images in rows, each under its name, all in one axes, because layout takes long with an axes each."""
    ratio, head = images[0].shape[0] / images[0].shape[1], 0.22
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        line, column = divmod(number, columns)
        top = line * (ratio + head) + head
        place = (column, column + 0.92, top + 0.92 * ratio, top)  # left, right, bottom, top
        drawn = axes.imshow(image, cmap=colours, vmin=ends[0], vmax=ends[1], extent=place, interpolation="nearest")
        axes.text(column + 0.46, top - 0.03, f"{name}", ha="center", va="bottom", fontsize=6)
    lines = math.ceil(len(images) / columns)
    axes.set(xlim=(0, columns), ylim=(lines * (ratio + head), 0), aspect="equal")
    axes.set_axis_off()
    return drawn


def page(
    title: str, about: list[str], left_out: list[str], header: list[str], rows: list[list[str]], folder: Path,
    drawn: dict[str, Any], command: str,
) -> str:  # fmt: skip
    """All of it as one HTML file, laid out as a study's report."""
    from jaxdl.study import charts, page, report

    cells = [[report.Cell(text) for text in row] for row in rows]
    return page.render(
        page.Page(
            title=title,
            subtitle="",
            paragraphs=[look.HELP.strip().split("\n\n")[-1].replace("\n", " ")],
            sentences=about,
            dots=charts.dots("", [], []),
            table=report.Table(header, cells),
            caption="Receptive fields in pixels, rows x columns: in theory, and of the central unit measured.",
            table_notes=NOTES,
            curves=charts.curves("", {}, [], False),
            claims=[],
            command=command,
            pictures=[page.picture(name, (folder / f"{name}.png").read_bytes()) for name in drawn],
            notes=[f"Left out: {line}." for line in left_out],
        )
    )


NOTES = [
    "field: what a unit can see, padding included; stride: pixels between the fields of neighbours; begins: the first "
    "pixel of the first unit's field, below 0 in the padding. All units of a layer without maps see the same.",
    "centre sees: the part of the central unit's field that lies in the image; measured: the box of all pixels with a "
    f"gradient over {look.DRAWS} random images.",
]


def titled(layer: Any) -> str:
    """The name of a layer, with its activation."""
    return layer.name + (f" + {layer.activation}" if layer.activation else "")


def scale(values: np.ndarray) -> tuple[float, float]:
    """Ends of a scale of colours: all of what is there."""
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1


def shortened(count: int) -> str:
    """What a title says where not all fit."""
    return f" (the first {MOST})" if count > MOST else ""


def some(layers: list[Any]) -> list[Any]:
    """At most ROWS of them, evenly spaced, the first and the last among them."""
    places = np.unique(np.linspace(0, len(layers) - 1, ROWS).round().astype(int)) if len(layers) > ROWS else None
    return layers if places is None else [layers[place] for place in places]
