"""README's "Add your own study": exactly the files that it shows, run by exactly the commands that it shows."""

import re
import shlex
import shutil

import pytest
from launching import BRIEFLY, ROOT, launch

README = (ROOT / "README.md").read_text()
SECTION = re.search(r"^## Add your own study\n(.*?)^## ", README, re.M | re.S)[1]
# Each block of code, under the name of the file that is mentioned last before it.
BLOCKS = re.finditer(r"```python\n(.*?)```", SECTION, re.S)
FILES = [(re.findall(r"`([\w/]+\.py)`", SECTION[: block.start()])[-1], block[1]) for block in BLOCKS]
COMMANDS = re.findall(r"^    \.venv/bin/python -m (.*)$", SECTION, re.M)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout without jaxdl itself, which is installed, with README's files in it; and what its commands say."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("experiments", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in FILES:
        assert not (folder / name).exists()
        (folder / name).write_text(content)
    first, *others = (shlex.split(command) for command in COMMANDS)
    sooner = [[*words, "--config.steps=50"] for words in others]  # how far they get is not looked at
    return folder, [launch(*words, cwd=folder, **BRIEFLY) for words in (first, *sooner)]


def test_the_section_is_short_and_shows_what_it_says():
    assert [name for name, _ in FILES] == ["configs/weight_decay.py", "experiments/weight_decay.py", "my_net.py"]
    study = SECTION[: SECTION.index("Your own network")]
    assert len(study.splitlines()) < 80
    assert len(COMMANDS) == 3


def test_every_command_ends_well_with_a_table_and_a_verdict(checkout):
    folder, done = checkout
    for each in done:
        assert each.code == 0, each.err
        for said in ("Weight decay. Krogh & Hertz 1992", "decay", "test error", "Weight decay lowers the test error"):
            assert said in each.out
        assert max(map(len, each.out.splitlines())) <= 100
    assert (folder / "runs/weight_decay/report.html").stat().st_size > 10_000
    assert (folder / "runs/weight_decay/figures/learning_curves.png").exists()


def test_the_sweep_is_the_one_that_the_recipe_names(checkout):
    _, (_, swept, _) = checkout
    assert "trials, ranked by validation error" in swept.out
    widths = {line.split()[1] for line in swept.out.splitlines() if line.startswith("model.widths=")}
    assert len(widths) == 3 or sum(line.startswith("model.widths=") for line in swept.out.splitlines()) == 3


def test_the_users_model_is_another_set_of_runs(checkout):
    folder, (first, _, own) = checkout
    trained = re.compile(r"(\d+) runs trained, (\d+) already there")
    assert trained.search(first.out).groups() == trained.search(own.out).groups() == ("60", "0")
    assert len(list((folder / "runs/weight_decay/none").iterdir())) == 6  # three learning rates of each network
