"""What the runs of a launch found: the report, and the same for Python and notebooks."""

import contextlib
import dataclasses
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdl.errors import UserError, unknown
from jaxdl.study import claims, folders, page, report, styles, sweep
from jaxdl.study.config import Config
from jaxdl.study.launch import Group, Launch, fitter
from jaxdl.study.results import Results
from jaxdl.study.runs import Runs


class Model(NamedTuple):
    """A trained network.

    params: its parameters, a pytree; model_state: whatever else it keeps
    apply: images as the data set stores them [B, ...] -> what it makes of them, see the `predict` of its task: the
        classes' probabilities [B, classes], a reconstruction [B, inputs]
    group: has the config and the source that it was trained with
    network: the module, see `models.forward`; None where it is not one that maps images to its output
    """

    params: Any
    model_state: Any
    apply: Callable[[Any], np.ndarray]
    group: Group
    network: Any

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called: a place in it is that of a probability in what `apply` returns."""
        return self.group.source.names

    def read(self, path: str | Path) -> np.ndarray:
        """A picture file as `apply` takes it: [size, size, channels], see `images.stored`.

        UserError, which names the file, for one that can't be read or is no picture, and where the network was
        trained on something else than square pictures.
        """
        from jaxdl.data import images

        try:
            content = Path(path).expanduser().read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path} ({error.strerror})") from error
        return images.stored(content, str(path), self.group.source)


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a launch found, as far as its runs are there. In a notebook it shows itself as table and claims."""

    launch: Launch
    report: report.Report

    def table(self) -> "Shown":
        """One row a variant at its best trial, as in the report."""
        content = self.report
        return Shown(
            report.main_table(content.results, content.columns, content.published),
            report.notes(content.results, content.columns, content.published, content.notes),
        )

    def claims(self) -> "Shown":
        """What the papers claim, and what the runs say about it; `.findings` has it as data."""
        return Shown(report.claims_table(self.report.findings), [], self.report.findings)

    def frame(self) -> Any:
        """Every metric of every run as a pandas DataFrame: results.csv, with the point of its trial. Needs pandas."""
        try:
            import pandas
        except ImportError:
            raise UserError("frame() needs pandas: pip install pandas") from None
        results = self.report.results
        rows = [
            {"variant": run.variant, "seed": run.seed, "hash": run.hash}
            | run.point
            | {"metric": metric, "value": value}
            for run, record in zip(results.runs, results.records, strict=True)
            for metric, value in sorted(record["metrics"].items())
        ]
        return pandas.DataFrame(rows)

    def plot(self, name: str = "", style: str = "") -> Any:
        """One of the study's figures as a matplotlib Figure; the first one without a name.

        Raises UserError for an unknown name.
        """
        results = self.report.results
        with styles.styled(style):
            figures = draw(self.launch, pictured(self.launch, results), may_train=False)
        if (name and name not in figures) or not figures:
            raise unknown("figure", name, figures)
        return styles.sized(figures[name or next(iter(figures))], style)

    def model(self, variant: str = "", seed: int = 0) -> Model:
        """The network that a variant ended with, at its best trial; the first one's without a name.

        Raises UserError where there is none.
        """
        results = self.report.results
        row = results.row(variant) if variant else results.rows[0]
        if row is None:
            raise unknown("variant", variant, [row.variant for row in results.rows])
        run = next((run for run in row.runs if run.seed == seed), None)
        if run is None:
            raise unknown("seed", seed, [run.seed for run in row.runs])
        status = results.record(run)["status"]
        if status not in ("done", "diverged"):
            raise UserError(f"the run of {row.variant} with seed {seed} is not trained ({status}): repeat its launch")
        group = next(group for group in self.launch.groups if run in group.runs.rows)
        return trained(self.launch, group, Runs([run], [[]]))

    def _repr_html_(self) -> str:
        from markupsafe import escape

        return f"<h3>{escape(self.report.title)}</h3>" + self.table()._repr_html_() + self.claims()._repr_html_()

    def __repr__(self) -> str:
        return "\n".join([self.report.title, repr(self.table()), repr(self.claims())])


class Shown(NamedTuple):
    """A table and its notes, as text or in a notebook. findings: of the claims, where they are what is shown."""

    table: report.Table
    notes: list[str]
    findings: Sequence[claims.Finding] = ()

    def __repr__(self) -> str:
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            report.print_table(self.table, self.notes)
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        from markupsafe import escape

        def line(cells: list[Any], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        rows = "".join(line([cell.text for cell in row], "td") for row in self.table.rows)
        text = f"<table><thead>{line(self.table.header, 'th')}</thead><tbody>{rows}</tbody></table>"
        return text + "".join(f"<p>{escape(note)}</p>" for note in self.notes)


def look(launch: Launch) -> Finished:
    """What the run folders hold; nothing is written or drawn."""
    study, config = launch.study, launch.config
    results = Results(launch.asked.workdir, launch.rows, launch.grid, study.select)
    # What papers say of a row depends on the trial that it shows.
    configs = {row.variant: Config(sweep.at(config.content(), row.point)) for row in results.rows}
    published = [each for name, own in configs.items() for each in study.published(own) if each.variant == name]
    differs = dict.fromkeys(said for own in configs.values() for said in study.differs(own))
    notes = study.notes(config, results)
    if launch.groups[0].source.order == "shared":
        notes.append("All runs saw the training examples in the same order.")
    if len(launch.groups) > 1:
        point = sweep.named(pictured(launch, results).point)
        notes.append(f"Pictures: of {point}, where most variants have their best trial.")
    content = report.Report(
        title=study.doc.strip().splitlines()[0],
        doc=study.doc,
        results=results,
        columns=study.columns,
        published=published,
        findings=claims.judge(study.claims(config), results),
        notes=notes,
        differs=list(differs),
        figures=[],
        command=launch.asked.command,
        opening=launch.opening,
    )
    return Finished(launch, content)


def conclude(launch: Launch, may_train: bool) -> Finished:
    """Write results.csv, claims.json, figures and the report from the run folders.

    may_train: whether the figures may train anew what has lost its checkpoints
    """
    content, workdir = look(launch).report, launch.asked.workdir
    group = pictured(launch, content.results)
    try:
        figures = draw(launch, group, may_train)
    except UserError as error:
        group.settings.warn(f"note: no pictures, because {error}")
        figures = {}
    # The sheets of single layers are for the page of the look itself.
    looked = [path for path in sorted(workdir.glob("look/*/*.png")) if not path.name.startswith("maps_")]
    content = content._replace(figures=report.save_figures(workdir / "figures", figures), looked=looked)
    folders.write_text(workdir / "results.csv", content.results.csv(launch.study.name))
    claims.write(workdir / "claims.json", content.findings)
    folders.write_text(workdir / "report.md", report.markdown(content))
    page.write(workdir / "report.html", content)
    return Finished(launch, content)


def pictured(launch: Launch, results: Results) -> Group:
    """The group of which the figures are: that of most variants' best trials."""
    best = Counter(row.runs[0].hash for row in results.rows)
    return max(launch.groups, key=lambda group: sum(best[each] for each in {run.hash for run in group.runs.rows}))


def draw(launch: Launch, group: Group, may_train: bool) -> dict[str, Any]:
    """{name: matplotlib Figure} of a group. UserError where what they show is not there and may not be trained."""
    results = Results(launch.asked.workdir, group.runs.rows, launch.grid, launch.study.select)
    return launch.study.figures(group.config, group.source, results, fitter(group.stored(may_train)))


def write_figure(launch: Launch, name: str, form: str, style: str) -> Path:
    """Write one figure alone as figures/NAME-STYLE.FORM; returns its path. UserError for an unknown name or form."""
    if form not in report.FORMS:
        raise unknown("--format", form, report.FORMS)
    results = Results(launch.asked.workdir, launch.rows, launch.grid, launch.study.select)
    with styles.styled(style):
        figures = draw(launch, pictured(launch, results), may_train=False)
        if name not in figures:
            raise unknown("figure", name, figures)
        path = launch.asked.workdir / "figures" / f"{name}-{style}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        styles.sized(figures[name], style).savefig(path, dpi=300)
    return path


def trained(launch: Launch, group: Group, one: Runs) -> Model:
    """The network of one run: that of the last fit that the study makes for it, read back from its checkpoint."""
    stored = fitter(group.stored(may_train=False))
    last: list[Any] = []

    def fit(
        name: str, task: Any, optimizer: Callable, source: Any, runs: Runs, extra: Any = None, **options: Any
    ) -> Any:
        fitted = stored(name, task, optimizer, source, runs, extra, **options)
        if "train" in options.get("measured", ("train",)):  # another one only looks at networks, and ends no run
            last[:] = [task, source, runs.arrays() | (extra or {}), fitted]
        return fitted

    finished: Iterator[Any] = launch.study.train(group.config, group.source, one, fit)
    for _ in finished:
        pass
    if not last or last[0].predict is None:
        raise UserError(f"the variant {one.rows[0].variant!r} has no trained network to predict with")
    task, source, runs, fitted = last
    first = jax.tree.map(lambda leaf: leaf[0], (runs, fitted.params, fitted.model_state))

    @jax.jit
    def predict(first: Any, images: Any) -> Any:
        run, params, model_state = first
        return task.predict(params, model_state, source.seen(run, images), run)

    return Model(first[1], first[2], lambda images: np.asarray(predict(first, np.asarray(images))), group, task.network)
