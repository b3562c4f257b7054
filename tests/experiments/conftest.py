"""The launches that several tests look at, each made once."""

import contextlib
import fcntl
import os
import pickle
import signal

import pytest
from launching import BRIEFLY, EIGHT_DEVICES, EVERY_CALL, QUICK_COMPILATION, TINY, checkpoints, files, interrupt, launch

GREEDY, DEEP = "experiments.greedy_pretraining", "experiments.deep_autoencoder"
SMOKE = "--config=configs/{}.py:smoke"
TWO_LAYERS = "--only=random-2,denoising-2"  # of the greedy study: layers, and the network above them


@pytest.fixture(scope="session")
def png_alone():
    """A context in which PNGs alone are drawn of figures; see PNG_ALONE."""

    @contextlib.contextmanager
    def alone():
        from jaxdl.study import report

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report, "FORMS", ("png",))
            yield

    return alone


def straight(folder):
    """One launch from beginning to end, then repeated, extended by a seed, and with other settings beside."""
    workdir = folder / "straight"
    seen = {}

    def go(name, *options, tiny=TINY):
        done = launch(GREEDY, *tiny, *options, f"--workdir={workdir}", **BRIEFLY)
        times = {path: (workdir / path).stat().st_mtime_ns for path in files(workdir)}
        programs = {str(path.relative_to(workdir)) for path in workdir.glob("programs/*/*/*/*")}
        seen[name] = done, files(workdir), times, programs

    go("first")
    parameters = newest_parameters(workdir)
    go("again")
    go("more", "--seeds=3", "--config.runtime.tensorboard=true")
    others = [option for option in TINY if "tune" not in option]  # given twice, a grid would be extended
    go("report", "--seeds=4", "--report")
    go("beside", "--config.steps=60", "--config.tune.learning_rate=0.3,1e38", "--only=random-*", tiny=others)
    return seen, parameters, workdir


def newest_parameters(workdir):
    """{fit: {name: array}} of each fit's last checkpoint, as Orbax reads it."""
    import orbax.checkpoint

    found = {}
    for fit in ("autoencoder_layer1", "autoencoder_layer2", "depth2"):
        with orbax.checkpoint.PyTreeCheckpointer() as reader:
            found[fit] = reader.restore(checkpoints(workdir, fit)[-1].absolute() / "arrays")
    return found


def fresh(folder):
    """All seeds at once."""
    workdir = folder / "fresh"
    return launch(GREEDY, *TINY, "--seeds=3", f"--workdir={workdir}", **BRIEFLY), files(workdir)


def damage(path, cut):
    """Truncate the largest file of a checkpoint, or flip one of its bits."""
    victim = max((path / "arrays").rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0)
    content = bytearray(victim.read_bytes())
    if cut:
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    victim.write_bytes(content)


def killed(folder):
    """SIGKILL between layers, at the start of fine-tuning, during a save, and during the report; then the end."""
    workdir = folder / "killed"
    command = (GREEDY, *TINY, EVERY_CALL, f"--workdir={workdir}")
    seen = {}

    def begun(fit):
        return any(workdir.glob(f"programs/*/{fit}")) and not checkpoints(workdir, fit)

    def saving():
        steps = [path for path in workdir.glob("programs/*/depth2/*/*") if path.name.isdigit()]
        return any(not (path / "manifest.json").exists() for path in steps) and len(checkpoints(workdir, "depth2")) == 2

    def reporting():
        return any(workdir.glob("figures/*")) and not (workdir / "results.csv").exists()

    moments = {
        "between layers": lambda: begun("autoencoder_layer2"),
        "at the start of fine-tuning": lambda: begun("depth2"),
        "during a save": saving,
    }
    for name, moment in moments.items():
        seen[name] = interrupt(*command, number=signal.SIGKILL, when=moment, **BRIEFLY)
    seen["kept"] = [path.name for path in checkpoints(workdir, "depth2")]
    damage(checkpoints(workdir, "depth2")[-1], cut=True)
    seen["during the report"] = interrupt(*command, number=signal.SIGKILL, when=reporting, **BRIEFLY)
    seen["end"] = launch(*command, **BRIEFLY)
    return seen, files(workdir), newest_parameters(workdir)


def stopped(folder):
    """SIGTERM while a layer trains, a disk that is full, SIGINT in fine-tuning and a flipped bit; then the end."""
    workdir = folder / "stopped"
    command = (GREEDY, *TINY, f"--workdir={workdir}")
    seen = {}

    def training():
        logged = any(path.stat().st_size for path in workdir.glob("*/*/*/metrics.jsonl"))
        return logged and not checkpoints(workdir, "autoencoder_layer1")

    def second_launcher():
        seen["second launcher"] = launch(*command, **BRIEFLY)

    def content(fit):
        return {
            str(path.relative_to(workdir)): path.read_bytes()
            for step in checkpoints(workdir, fit)
            for path in sorted(step.rglob("*"))
            if path.is_file()
        }

    seen["SIGTERM"] = interrupt(
        *command, number=signal.SIGTERM, when=training, meanwhile=second_launcher, **BRIEFLY
    )
    seen["saved"] = [path.name for path in checkpoints(workdir, "autoencoder_layer1")]
    seen["before"] = content("autoencoder_layer1")
    # Room for programs in the compile cache and for rows of metrics, but not for a checkpoint.
    seen["full disk"] = launch(*command, EVERY_CALL, limit=100_000, **BRIEFLY)
    seen["after"] = content("autoencoder_layer1")
    seen["SIGINT"] = interrupt(
        *command,
        EVERY_CALL,
        number=signal.SIGINT,
        when=lambda: len(checkpoints(workdir, "depth2")) == 2,
        **BRIEFLY,
    )
    damage(checkpoints(workdir, "depth2")[-1], cut=False)
    seen["end"] = launch(*command, **BRIEFLY)
    return seen, files(workdir), newest_parameters(workdir)


def smoke(name, *options, **changes):
    def run(folder):
        workdir = folder / "smoke" / name
        done = launch(f"experiments.{name}", SMOKE.format(name), *options, f"--workdir={workdir}", **changes)
        return done, workdir

    return run


JOBS = {
    "straight": straight,
    "killed": killed,
    "stopped": stopped,
    "fresh": fresh,
    "greedy_smoke": smoke("greedy_pretraining", **QUICK_COMPILATION),
    "pmap_smoke": smoke("greedy_pretraining", "--strategy=pmap", TWO_LAYERS, **EIGHT_DEVICES, **QUICK_COMPILATION),
    "deep_smoke": smoke("deep_autoencoder"),
    "vae_smoke": smoke("vae_reparameterization", **QUICK_COMPILATION),
    "classifier_smoke": smoke("classifier"),
    "dropout_smoke": smoke("dropout_ablation", **QUICK_COMPILATION),
}


def result_of(name):
    """The result of a job, made by whichever of the test processes needs it first."""

    @pytest.fixture(scope="session", name=name)
    def result(tmp_path_factory):
        base = tmp_path_factory.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"job-{name}"
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = folder / "result"
            if not kept.exists():
                kept.write_bytes(pickle.dumps(JOBS[name](folder)))
            return pickle.loads(kept.read_bytes())

    return result


for _name in JOBS:
    globals()[_name] = result_of(_name)
