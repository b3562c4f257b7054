"""Preparing TFDS sets without TensorFlow: TFDS's own builders on made-up raw files, read back by jaxdl and by TFDS."""

import gzip
import importlib.util
import io
import os
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdl.data import cache, downloads, planetoid, prepare, tfds
from jaxdl.errors import UserError

pytest.importorskip("array_record", reason="array_record has wheels for Linux only")

import tensorflow_datasets as library
from tensorflow_datasets.core import shuffle
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.image_classification import cifar, mnist

COUNTS = {"train": 24, "test": 12}
REPOSITORY = Path(__file__).parents[2]
IDX = {"train": "train", "test": "t10k"}  # split -> how its files are called


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXDL_OFFLINE", raising=False)
    find = importlib.util.find_spec

    def hide(name, *rest):  # as if TensorFlow were not installed
        return None if name == "tensorflow" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", hide)
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", COUNTS["train"])
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", COUNTS["test"])


@pytest.fixture
def root(tmp_path):
    return tmp_path / "prepared"


@pytest.fixture
def source(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def unpinned(monkeypatch, builder):
    """Let made-up files through: TFDS knows no hash of them."""
    monkeypatch.setattr(builder, "url_infos", {})
    monkeypatch.setattr(checksums, "get_all_url_infos", dict)


def draw(size, seed=0):
    """{split: {"image": ..., "label": ...}}; the images differ."""
    rng = np.random.default_rng(seed)
    return {
        split: {"image": rng.integers(0, 256, (count, *size), dtype=np.uint8), "label": rng.integers(0, 10, count)}
        for split, count in COUNTS.items()
    }


def write_idx(folder, zipped=False, seed=0):
    """Writes four IDX files of 28x28 images; returns what is in them."""
    splits = draw((28, 28, 1), seed)
    for split, values in splits.items():
        image, label = values["image"], values["label"]
        files = {
            f"{IDX[split]}-images-idx3-ubyte": struct.pack(">4I", 0x803, len(image), 28, 28) + image.tobytes(),
            f"{IDX[split]}-labels-idx1-ubyte": struct.pack(">2I", 0x801, len(label)) + bytes(label.tolist()),
        }
        for name, content in files.items():
            (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return splits


def write_cifar10(folder):
    """Writes the archive of CIFAR-10's binary files; returns what is in them."""
    splits = draw((32, 32, 3))
    names = [f"class{number}" for number in range(10)]
    records = {
        split: b"".join(
            bytes([label]) + image.transpose(2, 0, 1).tobytes()
            for image, label in zip(values["image"], values["label"], strict=True)
        )
        for split, values in splits.items()
    }
    parts = np.array_split(np.frombuffer(records["train"], np.uint8).reshape(-1, 3073), 5)
    contents = {f"data_batch_{number}.bin": part.tobytes() for number, part in enumerate(parts, 1)}
    contents |= {"test_batch.bin": records["test"], "batches.meta.txt": "\n".join(names).encode() + b"\n\n"}
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return splits, names


def ordered(values):
    """The examples as a list, ordered by content: TFDS shuffles them."""
    pairs = zip(values["image"], values["label"], strict=True)
    return sorted((np.asarray(image).tobytes(), int(label)) for image, label in pairs)


def assert_prepared(name, root, written):
    """What was written is what jaxdl reads there, and what TFDS reads in the same order."""
    ours = tfds.read(name, str(root))
    theirs = library.builder(name, data_dir=root).as_data_source()
    assert set(ours.splits) == set(theirs) == set(written)
    for split, values in written.items():
        assert ordered(ours.splits[split]) == ordered(values)
        for example, image, label in zip(theirs[split], *ours.splits[split].values(), strict=True):
            pixels, number = (image, label) if image.ndim == 3 else (label, image)
            np.testing.assert_array_equal(example["image"], pixels)
            assert example["label"] == number
    return ours


def contents(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_idx_files_become_tfds_own_mnist(source, root, capfd):
    written = write_idx(source)
    folder, new = prepare.prepare("mnist", str(source), str(root))
    assert new and folder == root / "mnist" / "3.0.1"
    assert capfd.readouterr() == ("", f"preparing mnist/3.0.1 in {root}\n")
    assert assert_prepared("mnist", root, written).names == tuple("0123456789")
    # Nothing else stays, not even what was unpacked.
    assert contents(root) == [
        "downloads/mnist.lock",
        "mnist/3.0.1/dataset_info.json",
        "mnist/3.0.1/features.json",
        "mnist/3.0.1/mnist-test.array_record-00000-of-00001",
        "mnist/3.0.1/mnist-train.array_record-00000-of-00001",
    ]
    assert prepare.prepare("mnist", str(source), str(root)) == (folder, False)


def test_gzipped_files_with_the_same_names_are_not_confused(source, root, tmp_path, monkeypatch):
    unpinned(monkeypatch, mnist.MNIST)
    unpinned(monkeypatch, mnist.FashionMNIST)
    digits = write_idx(source, zipped=True)
    (tmp_path / "fashion").mkdir()
    clothing = write_idx(tmp_path / "fashion", zipped=True, seed=1)
    prepare.prepare("mnist", str(source), str(root))
    prepare.prepare("fashion_mnist", str(tmp_path / "fashion"), str(root))
    assert_prepared("mnist", root, digits)
    assert assert_prepared("fashion_mnist", root, clothing).names[9] == "Ankle boot"


def test_the_archive_of_cifar10(source, root, monkeypatch):
    unpinned(monkeypatch, cifar.Cifar10)
    written, names = write_cifar10(source)
    prepare.prepare("cifar10", str(source), str(root))
    assert assert_prepared("cifar10", root, written).names == tuple(names)
    found = library.builder("cifar10", data_dir=root).as_data_source("test")
    assert sorted(example["id"] for example in found) == [b"test_%05d" % number for number in range(12)]


def test_without_from_the_downloads_are_used(source, root, monkeypatch):
    written = write_idx(source)
    monkeypatch.setattr(downloads, "fetch", lambda name: {"mnist": source}[name])
    prepare.prepare("mnist", directory=str(root))
    assert_prepared("mnist", root, written)


def test_tfds_pins_the_same_hashes():
    for name in downloads.FILES.keys() - planetoid.KNOWN.keys():
        files = downloads.FILES[name]
        pinned = library.builder_cls(name).url_infos
        assert {(info.filename, int(info.size), info.checksum) for info in pinned.values()} == {
            (file.name, file.size, file.sha256) for file in files
        }


# Builders of our own, as TFDS registers those of anyone. What they do is chosen by the tests.


class JaxdlTiny(library.core.GeneratorBasedBuilder):
    """Colour images of one size."""

    VERSION = library.core.Version("1.0.0")
    FEATURES = staticmethod(lambda: {"image": library.features.Image(shape=(6, 5, 3))})

    def _info(self):
        features = {"label": library.features.ClassLabel(num_classes=10), **self.FEATURES()}
        return library.core.DatasetInfo(builder=self, features=library.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(values) for split, values in draw((6, 5, 3)).items()}

    def _generate_examples(self, values):
        for row, (image, label) in enumerate(zip(values["image"], values["label"], strict=True)):
            yield row, {"image": image, "label": label}


def test_any_builder_that_yields_arrays(root):
    prepare.prepare("jaxdl_tiny", directory=str(root))
    assert_prepared("jaxdl_tiny", root, draw((6, 5, 3)))


def test_a_set_too_large_to_be_shuffled_in_memory(root, monkeypatch):
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 500)  # bytes
    prepare.prepare("jaxdl_tiny", directory=str(root))
    assert_prepared("jaxdl_tiny", root, draw((6, 5, 3)))


def test_a_builder_that_wants_jpeg_gets_jpeg(root, monkeypatch):
    image = library.features.Image(shape=(6, 5, 3), encoding_format="jpeg")
    monkeypatch.setattr(JaxdlTiny, "FEATURES", staticmethod(lambda: {"image": image}))
    prepare.prepare("jaxdl_tiny", directory=str(root))
    files = [io.BytesIO() for _ in range(COUNTS["test"])]
    for file, pixels in zip(files, draw((6, 5, 3))["test"]["image"], strict=True):
        Image.fromarray(pixels).save(file, format="JPEG", quality=95, subsampling="4:2:0")
    expected = sorted(np.asarray(Image.open(file)).tobytes() for file in files)
    assert sorted(map(np.ndarray.tobytes, tfds.read("jaxdl_tiny", str(root)).splits["test"]["image"])) == expected


@pytest.mark.parametrize("what", ["image.decode_jpeg", "io.decode_raw", "io.gfile.copy", "Tensor"])
def test_a_builder_that_needs_tensorflow_says_so(root, monkeypatch, what, capfd):
    from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow

    def generate(*_):
        value = tensorflow
        for part in what.split("."):
            value = getattr(value, part)
        yield 0, value

    monkeypatch.setattr(JaxdlTiny, "_generate_examples", generate)
    with pytest.raises(UserError) as caught:
        prepare.prepare("jaxdl_tiny", directory=str(root))
    reason = "tf.image" if what.startswith("image") else f"tf.{what}"
    assert str(caught.value) == f"jaxdl_tiny's builder needs TensorFlow ({reason}): pip install 'jaxdl[prepare]'"
    assert capfd.readouterr().out == "" and tfds.prepared(str(root)) == {}


def test_sixteen_bits_need_tensorflow(root, monkeypatch):
    image = library.features.Image(shape=(6, 5, 3), dtype=np.uint16)
    monkeypatch.setattr(JaxdlTiny, "FEATURES", staticmethod(lambda: {"image": image}))
    examples = [(0, {"image": np.zeros((6, 5, 3), np.uint16), "label": 0})]
    monkeypatch.setattr(JaxdlTiny, "_generate_examples", lambda self, values: examples)
    with pytest.raises(UserError, match=r"needs TensorFlow \(to encode uint16 images\)"):
        prepare.prepare("jaxdl_tiny", directory=str(root))


def test_tfds_is_left_as_it_was(source, root):
    from tensorflow_datasets.core.download.download_manager import DownloadManager
    from tensorflow_datasets.core.features import image_feature
    from tensorflow_datasets.core.utils import lazy_imports_utils

    def state():
        lazy = vars(lazy_imports_utils.tensorflow)
        return image_feature._ImageEncoder._encode_image, DownloadManager._download_or_get_cache, "_module" in lazy

    before = state()
    write_idx(source)
    prepare.prepare("mnist", str(source), str(root))
    assert state() == before


def test_a_set_that_studies_cannot_read_is_prepared_all_the_same(root, monkeypatch, capsys):
    box = library.features.Tensor(shape=(6, 5, 3), dtype=np.uint8)
    monkeypatch.setattr(JaxdlTiny, "FEATURES", staticmethod(lambda: {"image": box}))
    command(monkeypatch, "jaxdl_tiny", f"--dir={root}")
    made, note = capsys.readouterr().out.splitlines()
    assert made.startswith("prepared in ") and f"{root}/jaxdl_tiny/1.0.0 (24 train, 12 test examples;" in made
    assert note.startswith("TFDS can read it, but jaxdl's studies can't:") and "'image' and 'label'" in note


def test_a_set_that_is_there_in_another_form_is_left_alone(root, monkeypatch, capsys):
    folder, _ = prepare.prepare("jaxdl_tiny", directory=str(root))
    about = folder / "dataset_info.json"
    about.write_text(about.read_text().replace('"array_record"', '"tfrecord"'))
    command(monkeypatch, "jaxdl_tiny", f"--dir={root}")
    found, note = capsys.readouterr().out.splitlines()
    assert found.startswith(f"already prepared: {folder}")
    assert "jaxdl's studies can't" in note and "tfrecord" in note


# What goes wrong.


def command(monkeypatch, *words):
    """The command line, within this process."""
    monkeypatch.setattr(sys, "argv", ["prepare", *words])
    prepare.main()


def nothing(source, root):
    pass


def cut(source, root):
    write_idx(source)
    path = source / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])


def all_but_one(source, root):
    write_idx(source)
    (source / "t10k-labels-idx1-ubyte").unlink()


def file_in_the_way(source, root):
    write_idx(source)
    root.touch()


WRONG = {
    "no name": (nothing, [], ["which data set?", "NAME"]),
    "wrong name": (nothing, ["mnits"], ["unknown data set 'mnits'", "did you mean 'mnist'"]),
    "no configurations": (nothing, ["mnist/x"], ["mnist has no configurations"]),
    "wrong configuration": (nothing, ["emnist/leters"], ["did you mean 'letters'"]),
    "unknown option": (nothing, ["mnist", "--form=x"], ["'--form'", "did you mean '--from'"]),
    "no value": (nothing, ["mnist", "--from"], ["--from", "expected one argument"]),
    "two names": (nothing, ["mnist", "cifar10"], ["one data set at a time: mnist cifar10"]),
    "no folder": (nothing, ["mnist", "--from=/nowhere"], ["there is no folder /nowhere"]),
    "no files": (
        nothing,
        ["mnist", "--from={source}"],
        ["{source} lacks", *(f"{name}-images-idx3-ubyte.gz" for name in IDX.values()), "train-labels-idx1-ubyte.gz"],
    ),
    "one file missing": (
        all_but_one,
        ["mnist", "--from={source}"],
        ["{source} lacks t10k-labels-idx1-ubyte.gz: put"],
    ),
    "no archive": (nothing, ["cifar10", "--from={source}"], ["{source} lacks cifar-10-binary.tar.gz: put"]),
    "another file": (
        lambda source, root: write_idx(source, zipped=True),
        ["mnist", "--from={source}"],
        ["{source}/t10k-images-idx3-ubyte.gz is not the file", "expected 1,648,877 bytes", "8d422c7b0a1c1c79", "found"],
    ),
    "cut file": (cut, ["mnist", "--from={source}"], ["TFDS cannot prepare mnist in {root}", "cannot reshape"]),
    "no place": (file_in_the_way, ["mnist", "--from={source}"], ["cannot prepare", "{root}", "--dir"]),
}


@pytest.mark.parametrize(("arrange", "words", "says"), WRONG.values(), ids=WRONG)
def test_mistakes_are_one_line_and_status_2(source, root, monkeypatch, capfd, arrange, words, says):
    arrange(source, root)
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, *(word.format(source=source) for word in words), f"--dir={root}")
    output, errors = capfd.readouterr()
    *progress, message = errors.splitlines()
    assert caught.value.code == 2 and output == "" and message.startswith("error: ")
    assert len(progress) <= 1 and all(line.startswith("preparing ") for line in progress)
    for part in says:
        assert part.format(source=source, root=root) in message
    assert not root.is_dir() or tfds.prepared(str(root)) == {}


def test_offline(root, source, monkeypatch):
    monkeypatch.setenv("JAXDL_OFFLINE", "1")
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_builder", None)  # not reached
        with pytest.raises(UserError, match="kmnist would be downloaded, and JAXDL_OFFLINE forbids"):
            prepare.prepare("kmnist", directory=str(root))
    with pytest.raises(UserError, match="mnist is not here and JAXDL_OFFLINE"):
        prepare.prepare("mnist", directory=str(root))
    written = write_idx(source)
    prepare.prepare("kmnist", str(source), str(root))
    assert_prepared("kmnist", root, written)


def test_interrupted_and_repeated(root, monkeypatch, capsys):
    def interrupted(self, values):
        assert list(root.glob("jaxdl_tiny/*1.0.0*"))  # it is under way
        raise KeyboardInterrupt
        yield

    with monkeypatch.context() as patch:
        patch.setattr(JaxdlTiny, "_generate_examples", interrupted)
        with pytest.raises(SystemExit) as caught:
            command(monkeypatch, "jaxdl_tiny", f"--dir={root}")
    assert caught.value.code == 130 and "interrupted: " in capsys.readouterr().err
    assert tfds.prepared(str(root)) == {}
    for name in ("1.0.0.incompleteABCDEF", "incomplete.ABCDEF_1.0.0"):  # what it leaves where it is killed
        (root / "jaxdl_tiny" / name).mkdir()
        (root / "jaxdl_tiny" / name / "dataset_info.json").write_text("{}")
    assert prepare.prepare("jaxdl_tiny", directory=str(root))[1]
    assert_prepared("jaxdl_tiny", root, draw((6, 5, 3)))


# The real command line.


def start(folder, *words):
    """A process of its own, for which MNIST is as small as here."""
    (folder / "sitecustomize.py").write_text(
        "from tensorflow_datasets.image_classification import mnist\n"
        f"mnist._TRAIN_EXAMPLES, mnist._TEST_EXAMPLES = {COUNTS['train']}, {COUNTS['test']}\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{REPOSITORY}"}
    return subprocess.Popen(
        [sys.executable, "-m", "jaxdl.data.prepare", *words],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_at_once(source, root, tmp_path):
    written = write_idx(source)
    with cache.locked(root / "downloads" / "mnist.lock"):
        both = [start(tmp_path, "mnist", f"--from={source}", f"--dir={root}") for _ in range(2)]
        for process in both:
            assert process.stderr.readline() == "waiting for another process that prepares mnist\n"
    results = sorted((*process.communicate(timeout=60), process.returncode) for process in both)
    (there, quiet, status), (made, progress, other) = results
    assert (status, other, quiet, progress) == (0, 0, "", f"preparing mnist/3.0.1 in {root}\n")
    about = f"{root}/mnist/3.0.1 (24 train, 12 test examples; "
    use = f"use it with --config.data.name=mnist --config.data.dir={root}"
    assert there.startswith(f"already prepared: {about}") and there.splitlines()[1:] == [use]
    assert made.startswith("prepared in ") and about in made and made.splitlines()[1:] == [use]
    assert_prepared("mnist", root, written)


def test_the_command_line_says_what_is_wrong(tmp_path):
    process = start(tmp_path, "mnits")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("error: unknown data set 'mnits'; did you mean 'mnist'?")


def test_help_is_at_once():
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "jaxdl.data.prepare", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.perf_counter() - begin < 1  # measured: 0.1
    assert "NAME [--from=FOLDER] [--dir=TFDS_FOLDER]" in done.stdout and done.stderr == ""
