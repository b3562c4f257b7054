"""What a person sees who asks for help, for a dry run, or for something that is not possible."""

import re
import subprocess
import sys
import time

import pytest
from launching import QUICK_COMPILATION, ROOT, TINY, launch, launch_anew

from jaxdl.errors import UserError
from jaxdl.study.launch import Asked, check, prepare
from jaxdl.training.stopping import Requests

STUDIES = (
    *("greedy_pretraining", "deep_autoencoder", "vae_reparameterization"),
    *("classifier", "resnet_depth", "invariance", "dropout_ablation", "trainability"),
    *("graph_nodes", "graph_depth", "graph_classify"),
)
GREEDY = "experiments.greedy_pretraining"
SMOKE = "--config=configs/greedy_pretraining.py:smoke"


def complaint(done):
    """The one line on stderr of a launch that ended with status 2."""
    assert (done.code, done.out) == (2, ""), done
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    return line


def assert_complaint(line, bad, nearest):
    assert bad in line
    if nearest:
        assert f"did you mean {nearest!r}?" in line


# What is found before JAX is imported.
@pytest.mark.parametrize(
    ("words", "bad", "nearest"),
    [
        (["experiments.gredy_pretraining"], "'gredy_pretraining'", "greedy_pretraining"),
        ([GREEDY, "--config=configs/greedy_pretraining.py:smok"], "'smok'", "smoke"),
        ([GREEDY, "--config", "configs/greedy_pretraining.py:papper"], "'papper'", "paper"),
        (["experiments.deep_autoencoder", "--config=configs/deep_autoencoder.py:mnits"], "'mnits'", "mnist"),
        ([GREEDY, "--config=configs/gredy_pretraining.py"], "gredy_pretraining.py'", "configs/greedy_pretraining.py"),
        ([GREEDY, "--config.sedes=3"], "'sedes'", "seeds"),
        ([GREEDY, SMOKE, "--config.data.nme=mnist"], "'data.nme'", "data.name"),
        ([GREEDY, SMOKE, "--config.optimizr.name=adam"], "'optimizr.name'", "optimizer.name"),
        ([GREEDY, SMOKE, "--config.hyper.learning_rte=1"], "'hyper.learning_rte'", "hyper.learning_rate"),
        ([GREEDY, SMOKE, "--config.data=mnist"], "'data'", ""),
        ([GREEDY, "--workdr=x"], "'--workdr'", "--workdir"),
        ([GREEDY, "--seed=3"], "'--seed'", "--seeds"),
        ([GREEDY, SMOKE, "--config.seeds=abc"], "--config.seeds=abc", ""),
        ([GREEDY, SMOKE, "--config.steps=1.5"], "--config.steps=1.5", ""),
        ([GREEDY, SMOKE, "--config.average=much"], "--config.average=much", ""),
        ([GREEDY, SMOKE, "--config.runtime.tensorboard=maybe"], "maybe", ""),
        ([GREEDY, SMOKE, "--seeds=2.5"], "--seeds=2.5", ""),
        ([GREEDY, SMOKE, "--list=perhaps"], "perhaps", ""),
        ([GREEDY, SMOKE, "--nolist=3"], "--nolist", ""),
        ([GREEDY, SMOKE, "--config.seeds"], "--config.seeds", ""),
        ([GREEDY, "random"], "'random'", ""),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_word_that_is_not_understood(words, bad, nearest):
    assert_complaint(complaint(launch(*words)), bad, nearest)


# What is found when the study is put together; most of it is in the next test.
@pytest.mark.parametrize(
    ("options", "bad"),
    [(["--device=gpu"], "--device=gpu"), (["--config.tune.learning_rate=fast"], "tune.learning_rate=")],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_value_that_is_not_possible(options, bad, tmp_path):
    done = launch(GREEDY, SMOKE, f"--workdir={tmp_path}/new", *options, CUDA_VISIBLE_DEVICES="")
    assert_complaint(complaint(done), bad, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "bad", "nearest"),
    [
        ({"data.name": "digit"}, "'digit'", "digits"),
        ({"data.order": "sed"}, "'sed'", "seed"),
        ({"optimizer.name": "adan"}, "'adan'", "adam"),
        ({"compare.kinds": ("sprase",)}, "'sprase'", "sparse"),
        ({"batch_size": 0}, "batch_size=0", ""),
        ({"batch_size": 1201}, "batch_size=1201", ""),
        ({"epochs": 1.0}, "steps=60 and epochs=1.0", ""),
        ({"data.train": 1700}, "data.train=1700", ""),
        ({"pretrain.optimizer.name": "rmsprp"}, "'rmsprp'", "rmsprop"),
        ({"pretrain.objective": "square_error"}, "'square_error'", "squared_error"),
        ({"optimizer.schedule": "cosin"}, "'cosin'", "cosine"),
        ({"optimizer.weight_decay": "kernel=1"}, "hidden_0/bias", ""),
        ({"model.unit": "sigmod"}, "'sigmod'", "sigmoid"),
        ({"model.initialisation": "glorot_unifrm"}, "'glorot_unifrm'", "glorot_uniform"),
        ({"compare.kinds": ()}, "no variant", ""),
        ({"compare.depths": (0, 1)}, "compare.depths=(0, 1)", ""),
        ({"compare.labels": (1000,)}, "1000 labels a class", ""),
        ({"measure.sparsity_batches": (0, 8)}, "measure.sparsity_batches=(0, 8)", ""),
        ({"measure.sparsity_batches": (8, 1201)}, "measure.sparsity_batches=(8, 1201)", ""),
        ({"compare.labels": (1,)}, "batch_size=32", ""),
        ({"pretrain.steps": 0}, "pretrain.steps=0 and pretrain.epochs=0.0", ""),
        ({"tune.learning_rate": ()}, "tune.learning_rate=()", ""),
        ({"tune.learning_rate": (0.1, 0.1)}, "tune.learning_rate=(0.1, 0.1)", ""),
        ({"tune.learning_rte": (0.1,)}, "'learning_rte'", "learning_rate"),
        ({"hyper.masking": -0.1}, "masking=-0.1", ""),
        ({"runtime.strategy": "pmat"}, "'pmat'", "pmap"),
        ({"modle": 3}, "'modle'", ""),
        ({"runtime.device": "cpi"}, "'cpi'", "cpu"),
        ({"seeds": 0}, "seeds=0", ""),
        ({"data.name": "mnist", "data.dir": "/nowhere"}, "/nowhere", ""),
        ({"--only": "sparse-1,denoisin-1"}, "'denoisin-1'", "denoising-1"),
    ],
    ids=str,
)
def test_a_config_that_is_not_possible(changes, bad, nearest, tmp_path):
    """In this process, because it is the same path and much faster."""
    from experiments.greedy_pretraining import study
    from jaxdl.study.command_line import load_config

    changes = dict(changes)
    only = changes.pop("--only", "")
    values = load_config(ROOT / "configs" / "greedy_pretraining.py").get_config("smoke").to_dict()
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        place = values
        for part in section.split(".") if section else ():
            place = place[part]
        place[name] = value
    with pytest.raises(UserError) as caught:
        check(prepare(study, Asked(values, tmp_path / "new", only, (), "the command"), Requests()))
    assert "\n" not in str(caught.value)
    assert_complaint(str(caught.value), bad, nearest)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "bad", "nearest"),
    [
        ("config.model.hiden = 3", "'model.hiden'", "model.hidden"),
        ("config.stesp = 3", "'stesp'", "steps"),
        ("config.tune.momentm = (0.1, 0.9)", "'momentm'", "momentum"),
    ],
)
def test_a_key_in_a_config_of_ones_own_that_means_nothing(line, bad, nearest, tmp_path):
    text = (ROOT / "configs" / "greedy_pretraining.py").read_text()
    own = tmp_path / "own.py"
    own.write_text(text.replace("    return config\n", f"    {line}\n    return config\n"))
    done = launch(GREEDY, f"--config={own}:smoke", f"--workdir={tmp_path}/new")
    assert_complaint(complaint(done), bad, nearest)
    assert list(tmp_path.iterdir()) == [own]


def test_a_workdir_that_cannot_be_written(tmp_path):
    """The tests may run as root, whom no permission stops: a file is in the way."""
    (tmp_path / "file").write_text("mine")
    line = complaint(launch(GREEDY, *TINY, f"--workdir={tmp_path}/file/below"))
    assert f"--workdir={tmp_path}/file/below can't be written" in line
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_is_full_before_anything_is_saved(tmp_path):
    no_cache = {"JAX_ENABLE_COMPILATION_CACHE": "false"}  # or it would hold half a program for ever after
    line = complaint(launch(GREEDY, *TINY, f"--workdir={tmp_path}", limit=1000, **no_cache, **QUICK_COMPILATION))
    assert str(tmp_path) in line and "Make room and repeat the command" in line


def test_a_dry_run_trains_nothing_and_makes_no_folder(tmp_path):
    done = launch(GREEDY, f"--workdir={tmp_path}/new", "--list")
    assert (done.code, done.err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 100
    # 3 kinds at 4 depths and with 2 numbers of labels, the top of 2 kinds; 4 learning rates, 10 seeds
    assert f"{20 * 4 * 10} runs of 20 variants" in lines[0]
    rows = {row[0]: row[1:] for row in map(str.split, lines) if len(row) == 8 and row[-1] == "-"}
    assert rows["autoencoder_layer1"][:4] == ["20", "1,500", f"{2 * 64 * 64 + 128:,}", "1"]
    assert rows["depth4"][:4] == ["120", "3,000", f"{4 * (64 * 64 + 64) + 650:,}", "1"]
    assert len(rows) == 4 + 4 + 1 + 2


def test_a_dry_run_of_a_subset(tmp_path):
    done = launch("experiments.deep_autoencoder", "--only=random*", "--list", "--seeds=7", f"--workdir={tmp_path}/new")
    assert (done.code, done.err) == (0, "")
    assert "random" in done.out and "pretrained" not in done.out and "layer1" not in done.out
    assert " 7 seeds " in done.out.splitlines()[0]


def quick(*words):
    """(output, seconds) of `python -m WORDS...`, which must not import JAX."""
    command = [sys.executable, "-X", "importtime", "-m", *words]
    since = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - since
    modules = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "experiments" in modules
    assert not {module.split(".")[0] for module in modules} & {"jax", "flax", "optax", "matplotlib", "orbax", "sklearn"}
    if seconds < 1:  # though it lists its imports
        return done.stdout, seconds
    return done.stdout, min(launch_anew(*words).seconds for _ in range(2))  # what else the machine does may slow one


def test_the_list_of_studies_needs_no_jax_and_less_than_a_second():
    out, seconds = quick("experiments")
    assert seconds < 1
    assert max(map(len, out.splitlines())) <= 100
    for name in STUDIES:
        assert f"python -m experiments.{name}" in out
        assert (ROOT / "experiments" / f"{name}.py").is_file()
    listed = dict(re.findall(r"^(\w+)   (.*)$", out, re.MULTILINE))
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "experiments").glob("[!_]*.py"))
    assert sorted(name for name, text in listed.items() if re.match(r"Minutes: \d+", text)) == sorted(STUDIES)


def test_words_choose_among_the_studies():
    done = launch("experiments", "Hinton", "principal")
    assert done.code == 0 and "deep_autoencoder" in done.out and "greedy_pretraining" not in done.out
    done = launch("experiments", "perpetuum")
    assert (done.code, done.out) == (2, "") and "perpetuum" in done.err and len(done.err.splitlines()) == 1


@pytest.mark.parametrize("name", STUDIES)
def test_help_needs_no_jax_and_less_than_a_second(name):
    out, seconds = quick(f"experiments.{name}", "--help")
    assert seconds < 1
    assert max(map(len, out.splitlines())) <= 100
    options = ("--config", "--workdir", "--seeds", "--only", "--strategy", "--device", "--list", "--sweep", "--workers")
    for option in options:
        assert f"  {option}" in out
    for preset in ("default", "smoke"):
        assert re.search(rf"presets.*\b{preset}\b", out)


@pytest.mark.parametrize("option", ["--help", "--list"])
def test_a_reader_that_goes_away_is_no_error(option):
    command = [sys.executable, "-m", GREEDY, SMOKE, option]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_only_recipes_are_offered_as_configs():
    from jaxdl.study.command_line import load_config

    with pytest.raises(UserError) as caught:
        load_config(ROOT / "configs" / "nope.py")
    valid = str(caught.value).split("valid: ")[1].split(", ")
    assert valid == [f"configs/{name}.py" for name in sorted(("data", *STUDIES))]
