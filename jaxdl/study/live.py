"""report.html while runs train: what there is so far, again and again.

It takes the place of the report of an earlier launch, of which it has all but the pictures; in the end the ordinary
report takes its place. Verdicts wait for that: claims are judged once, by all runs. A launch that is stopped leaves
what there was then, and no longer loading again.
"""

import contextlib
import time

from jaxdl.study import finished, page
from jaxdl.study.launch import Launch

FIRST_SECONDS = 5.0  # from the beginning of a launch; a shorter one has its report soon enough
SHARE = 0.02  # of the time, at most


class LiveReport:
    """Writes report.html in between. What it can't write stops nothing."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.due = time.monotonic() + FIRST_SECONDS
        self.written, self.complained = False, False

    def __enter__(self) -> "LiveReport":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind and self.written:
            self.complained = True  # about what ends the launch enough is said
            self._write("stopped", 0, "; repeat the command to go on")

    def update(self) -> None:
        """Write it where that is due; then nothing is for so long that all writing has no more than its share."""
        started = time.monotonic()
        if started < self.due:
            return
        self._write("training", page.REFRESH, time.strftime(", on %Y-%m-%d at %H:%M:%S"))
        ended = time.monotonic()
        self.due = ended + max(page.REFRESH, (ended - started) / SHARE)

    def _write(self, what: str, refresh: int, further: str) -> None:
        path = self.launch.asked.workdir / "report.html"
        try:
            content = finished.look(self.launch).report._replace(findings=[])
            counts = [record["status"] in ("done", "diverged", "failed") for record in content.results.records]
            page.write(path, content, f"{what}: {sum(counts)} of {len(counts)} runs have ended{further}", refresh)
            self.written = True
        except Exception as error:  # a full disk, or a study whose notes are of complete results alone
            with contextlib.suppress(OSError):
                path.with_name(path.name + ".draft").unlink(missing_ok=True)
            if not self.complained:
                self.launch.groups[0].settings.warn(f"note: no report while runs train, because {error!r}")
            self.complained = True
