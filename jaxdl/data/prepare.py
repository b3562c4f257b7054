"""Prepare a TensorFlow Datasets (TFDS) set for jaxdl and for TFDS itself, as array_record.

    python -m jaxdl.data.prepare NAME [--from=FOLDER] [--dir=TFDS_FOLDER]

TFDS's own builder of that name does it, so version, features, splits and files are TFDS's. Most builders need
TensorFlow for nothing but opening files and encoding images; where it is not installed, `_tensorflow` does that.
"""

import argparse
import contextlib
import glob
import importlib.util
import io
import itertools
import logging
import os
import resource
import shlex
import signal
import sys
import tempfile
import time
import types
import urllib.parse
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from jaxdl.errors import UserError, unknown

HELP = """Prepare a TensorFlow Datasets (TFDS) set as array_record, for --config.data.name=NAME and for TFDS itself.

    python -m jaxdl.data.prepare NAME [--from=FOLDER] [--dir=TFDS_FOLDER]

NAME          as TFDS spells it: mnist, fashion_mnist, cifar10, cifar100, kmnist, emnist/letters, ...
--from        the folder where the raw files already lie, under the names they are published by; no network
              (the set's own .gz files may also lie there unpacked, without .gz)
--dir         the folder of prepared sets; default: $TFDS_DATA_DIR, else ~/tensorflow_datasets

JAXDL_OFFLINE=1 in the environment forbids the network. A builder that can't do without TensorFlow says so:
pip install 'jaxdl[prepare]'."""

_OPTIONS = ("--from", "--dir", "--help")


def main() -> None:
    """The command line. A UserError ends the process with status 2 and one line, an interruption with status 130."""
    try:
        name, source, directory = _parse(sys.argv[1:])
        start = time.perf_counter()
        folder, new = prepare(name, source, directory)
        _report(folder, directory, f"prepared in {time.perf_counter() - start:.0f} s" if new else "already prepared")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: nothing half prepared counts, repeat the command", file=sys.stderr)
        sys.exit(130)


def _parse(words: list[str]) -> tuple[str, str, str]:
    def fail(message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = fail
    parser.add_argument("name", nargs="?")
    parser.add_argument("--from", dest="source", default="")
    parser.add_argument("--dir", default="")
    parser.add_argument("--help", "-h", action="store_true")
    options, rest = parser.parse_known_args(words)
    if options.help:
        print(HELP)
        sys.exit()
    for word in rest:
        if word.startswith("-"):
            raise unknown("option", word.split("=")[0], _OPTIONS)
        raise UserError(f"one data set at a time: {options.name} {word}; see --help")
    if not options.name:
        raise UserError("which data set? python -m jaxdl.data.prepare NAME, for example mnist; see --help")
    return options.name, options.source, options.dir


def prepare(name: str, source: str = "", directory: str = "") -> tuple[Path, bool]:
    """The folder of the set `name`, as TFDS lays it out, and whether it was prepared now or found there.

    source: the folder of the raw files; '': they are downloaded
    directory: see `tfds.root`; processes that prepare the same set there wait for each other

    Raises UserError for whatever stands in the way. What is interrupted leaves nothing that counts as prepared.
    """
    from jaxdl.data import cache, downloads, tfds

    if not source and name not in downloads.FILES and downloads.offline():
        raise UserError(
            f"{name} would be downloaded, and JAXDL_OFFLINE forbids the network; --from=FOLDER takes the raw files "
            "from a folder"
        )
    if source and not Path(source).expanduser().is_dir():
        raise UserError(f"there is no folder {source}; --from names the one that holds the raw files of {name}")
    root = tfds.root(directory).absolute()
    with _quiet(), _one_line(name, root), _tensorflow():
        builder = _builder(name, root)
        folder = Path(builder.data_dir)
        if folder.exists():
            return folder, False
        with cache.locked(root / "downloads" / f"{name.replace('/', '-')}.lock"):
            if folder.exists():
                return folder, False
            if not source and name in downloads.FILES:
                source = str(downloads.fetch(name))
            print(f"preparing {builder.info.full_name} in {root}", file=sys.stderr, flush=True)
            _run(builder, Path(source).expanduser() if source else None)
    return folder, True


def _builder(name: str, root: Path) -> Any:
    import tensorflow_datasets as library

    # Community sets are left out: TFDS would ask the network for their list.
    names = library.list_builders(with_community_datasets=False)
    plain, _, config = name.partition("/")
    if plain not in names:
        raise unknown("data set", name, names)
    configs = library.builder_cls(plain).builder_configs
    if config and not configs:
        raise UserError(f"{plain} has no configurations: leave out /{config}")
    if config and config not in configs:
        raise unknown(f"configuration of {plain}", config, configs)
    return library.builder(name, data_dir=root)


def _run(builder: Any, source: Path | None) -> None:
    import tensorflow_datasets as library

    if source is None:
        builder.download_and_prepare(file_format="array_record")
        return
    # TFDS finds extracted files again by the archive's name, and MNIST and Fashion-MNIST use the same names: so what
    # is extracted here must not stay.
    place = builder.data_dir_root / "downloads"
    with tempfile.TemporaryDirectory(prefix="extracted-", dir=place) as extracted, _local(source):
        config = library.download.DownloadConfig(manual_dir=source, extract_dir=extracted)
        builder.download_and_prepare(download_dir=extracted, download_config=config, file_format="array_record")


@contextlib.contextmanager
def _local(folder: Path) -> Iterator[None]:
    """Within it TFDS takes files from the folder instead of downloading them."""
    import promise
    from tensorflow_datasets.core.download import checksums, download_manager

    missing: list[str] = []

    def find(manager: Any, wanted: Any) -> promise.Promise:
        url = getattr(wanted, "url", wanted)
        pinned = manager._url_infos.get(url)
        published = PurePosixPath(urllib.parse.urlparse(url).path).name
        path = folder / published
        if not path.is_file() and pinned and pinned.filename:  # where the address says no name, as Google Drive's
            path = folder / pinned.filename
        if not path.is_file() and not published.endswith(".tar.gz"):
            path, pinned = folder / published.removesuffix(".gz"), None  # unpacked, so that no hash is known
        if not path.is_file():
            missing.append(pinned.filename if pinned and pinned.filename else published)
            return promise.Promise.rejected(FileNotFoundError(url))  # raised once all files were asked for
        found = checksums.compute_url_info(path)
        if pinned and found != pinned:
            raise UserError(
                f"{path} is not the file that {url} is known for: expected {int(pinned.size):,} bytes with SHA-256 "
                f"{pinned.checksum}, found {int(found.size):,} with {found.checksum}; copy or download it again"
            )
        manager._recorded_url_infos[url] = found
        return promise.Promise.resolve(type(manager.download_dir)(path))

    with _replaced(download_manager.DownloadManager, "_download_or_get_cache", find):
        try:
            yield
        except Exception as error:
            if missing:
                raise UserError(
                    f"{folder} lacks {', '.join(dict.fromkeys(missing))}: put what is missing there, or leave out "
                    "--from to download it"
                ) from error
            raise


def _report(folder: Path, directory: str, what: str) -> None:
    import tensorflow_datasets as library

    from jaxdl.data import tfds

    root = tfds.root(directory).absolute()
    name = folder.parent.relative_to(root).as_posix()
    with _quiet():
        splits = library.builder_from_directory(folder).info.splits
    counts = ", ".join(f"{split.num_examples:,} {key}" for key, split in splits.items())
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{what}: {folder} ({counts} examples; {size / 1e6:,.1f} MB)")
    try:
        tfds._open(name, folder)
    except UserError as error:
        print(f"TFDS can read it, but jaxdl's studies can't: {error}")
    else:
        print(f"use it with --config.data.name={name} --config.data.dir={shlex.quote(str(root))}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What TFDS and its friends log, warn of and print is dropped; problems arrive as exceptions.

    Its progress bars stay, where there is a terminal.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            import tensorflow_datasets as library

            if not sys.stderr.isatty():
                library.disable_progress_bar()
            yield
        finally:
            logging.disable(before)


@contextlib.contextmanager
def _one_line(name: str, root: Path) -> Iterator[None]:
    """Whatever TFDS raises becomes a UserError."""
    from jaxdl.data.cache import line

    try:
        yield
    except Exception as error:  # TFDS documents no exceptions
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, UserError):
                raise cause from None
        for cause in causes:
            if isinstance(cause, ImportError) and (cause.name or "").split(".")[0] == "tensorflow":
                raise UserError(
                    f"{name}'s builder needs TensorFlow ({line(cause)}): pip install 'jaxdl[prepare]'"
                ) from error
        raise UserError(
            f"TFDS cannot prepare {name} in {root} ({type(error).__name__}: {line(error)}); --dir names "
            "another folder, --from other raw files"
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _replaced(owner: Any, attribute: str, value: Any) -> Iterator[None]:
    before = vars(owner)[attribute]
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        setattr(owner, attribute, before)


# In place of TensorFlow. TFDS's modules share one object that imports it when an attribute is asked for.


@contextlib.contextmanager
def _tensorflow() -> Iterator[None]:
    """Where TensorFlow is not installed, TFDS finds within it the little of it that most builders use."""
    if importlib.util.find_spec("tensorflow"):
        _import_tensorflow()
        yield
        return
    from tensorflow_datasets.core.features import image_feature
    from tensorflow_datasets.core.utils import lazy_imports_utils

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:  # TFDS sorts a large set in a thousand files, and knows only TensorFlow's error for too many
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    lazy = vars(lazy_imports_utils.tensorflow)
    lazy["_module"] = _module("tf", io=_module("tf.io", gfile=_module("tf.io.gfile", **_FILES)), **_REST)
    try:
        with _replaced(image_feature._ImageEncoder, "_encode_image", _encode):
            yield
    finally:
        del lazy["_module"]


def _import_tensorflow() -> None:
    """Import TensorFlow, for the processor only, without what its C++ says on stderr."""
    before = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow

        tensorflow.config.set_visible_devices([], "GPU")
    finally:
        os.dup2(before, 2)
        os.close(before)


def _module(name: str, **members: Any) -> types.ModuleType:
    """A module with these members; whatever else it is asked for, it says that TensorFlow is needed for it."""

    def missing(attribute: str) -> NoReturn:
        if attribute.startswith("__"):  # Python's own questions
            raise AttributeError(attribute)
        raise ImportError(f"{name}.{attribute}", name="tensorflow")

    module = types.ModuleType(name)
    vars(module).update(members, __getattr__=missing)
    return module


def _open_file(name: Any, mode: str = "r") -> Any:
    return open(name, mode, encoding=None if "b" in mode else "utf-8")


def _glob(patterns: Any) -> list[str]:
    patterns = [patterns] if isinstance(patterns, str | os.PathLike) else patterns
    return list(itertools.chain.from_iterable(sorted(glob.glob(os.fspath(pattern))) for pattern in patterns))


_FILES = {
    "GFile": _open_file,
    "Open": _open_file,
    "exists": os.path.exists,
    "glob": _glob,
    "isdir": os.path.isdir,
    "join": os.path.join,
    "listdir": os.listdir,
    "makedirs": lambda path: os.makedirs(path, exist_ok=True),
    "remove": os.remove,
    "walk": os.walk,
}
_REST = {
    "compat": _module("tf.compat", as_text=lambda text: text.decode() if isinstance(text, bytes) else text),
    # Named in `except` clauses, for what TensorFlow's own files raise; Python's raise OSError.
    "errors": types.SimpleNamespace(
        **dict.fromkeys(
            ("AbortedError", "FailedPreconditionError", "PermissionDeniedError", "UnimplementedError"), OSError
        ),
        NotFoundError=FileNotFoundError,
        ResourceExhaustedError=MemoryError,
    ),
}


def _encode(encoder: Any, image: Any) -> bytes:
    """An image [height, width, channels] as a file, in place of TensorFlow's encoder.

    PNG, unless the builder says JPEG; the settings for JPEG are TensorFlow's own and give the same pixels.
    """
    from PIL import Image
    from tensorflow_datasets.core.features import image_feature

    image_feature._validate_np_array(image, shape=encoder.shape, dtype=encoder.np_dtype)
    if image.dtype != "uint8":  # Pillow has no 16-bit colours
        raise ImportError(f"to encode {image.dtype} images", name="tensorflow")
    buffer = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture.save(buffer, format=encoder.encoding_format, quality=95, subsampling="4:2:0")
    return buffer.getvalue()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that TFDS clears away what is half prepared
    main()
