"""Several hosts that share the runs of a study: who takes part, and the files of each brought to host 0.

Every host trains its own runs on its own devices, so nothing has to arrive in time but at the start: `join` is a
meeting, and links stay open from host 0 to all others. At the end the others `send` and host 0 will `receive`.

jax.distributed finds the cluster and makes sure that all are there; then it has done its part. Held on to, it would
tie together what is meant to be independent: where one host dies, it aborts the others; checkpoints wait for all
hosts; collectives between the devices of one host go through host 0; gloo gives up on whoever comes 30 s late.
"""

import contextlib
import io
import multiprocessing.connection
import os
import re
import socket
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxdl.errors import UserError

LINK_SECONDS = 60.0  # from the meeting to the last link: all hosts are there by then
HELLO = b"jaxdl host"
TAKEN = b"taken"
BLOCK = 1 << 20

# In a process of its own, because jax ends the process when the hosts don't meet. What jax has found out is asked for
# where it keeps it: in public it tells only once the backend runs, and on a TPU the main process needs that itself.
MEET = """
import sys
import jax
from jax._src.distributed import global_state as found
from jax._src.hardware_utils import num_available_tpu_chips_and_device_id

address, count, index, limit = sys.argv[1:]
given = (address, int(count), int(index)) if address else ()
try:
    jax.distributed.initialize(*given, initialization_timeout=int(limit))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
chips, _ = num_available_tpu_chips_and_device_id()
print(found.coordinator_address, found.num_processes, found.process_id, chips)
sys.stdout.flush()
jax.distributed.shutdown()
"""


class Hosts(NamedTuple):
    """Which of how many hosts this process is. links: at host 0 those to hosts 1, 2, ...; else that to host 0."""

    index: int = 0
    count: int = 1
    links: tuple[socket.socket, ...] = ()


def join(coordinator: str = "", count: int = 0, index: int = -1, limit: float = 300.0) -> Hosts:
    """Meet the other hosts: returns when all of them have called this. Before `devices.start`.

    coordinator: "HOST:PORT" of host 0, with a port that is free there and that the others can reach
    limit: seconds to wait for the others

    Without the first three, jax looks for a cluster: Open MPI, SLURM, a TPU pod, Kubernetes. UserError for what is
    not possible, where no cluster is found, and when the hosts don't meet in time.
    """
    _check(coordinator, count, index)
    # grpc would look for the other hosts behind the proxy.
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [sys.executable, "-c", MEET, coordinator, str(count), str(index), str(max(1, round(limit)))]
    try:
        met = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit + 60
        )
    except subprocess.TimeoutExpired:
        raise _did_not_meet(coordinator, count, "no answer", limit) from None
    if met.returncode:
        if "must be defined" in met.stderr or "should be defined" in met.stderr:
            raise UserError(
                "--distributed finds no cluster here (Open MPI, SLURM, TPU pod, Kubernetes): give "
                "--coordinator=HOST:PORT --hosts=N --host=I, the address of host 0 and 0 to N-1 for I"
            )
        raise _did_not_meet(coordinator, count, _reason(met.stderr), limit)
    address, *numbers = met.stdout.splitlines()[-1].split()
    count, index, chips = map(int, numbers)
    if count == 1:
        return Hosts()
    os.environ |= _own_chips(chips, os.environ)
    name, _, port = address.rpartition(":")
    deadline = time.monotonic() + LINK_SECONDS
    links = (_call(name.strip("[]"), int(port), index, deadline),) if index else _answer(int(port), count, deadline)
    return Hosts(index, count, links)


def send(hosts: Hosts, blob: bytes) -> None:
    """From another host to host 0; returns when host 0 has made use of it, however long that takes.

    UserError when host 0 ends before.
    """
    (link,) = hosts.links
    try:
        link.sendall(struct.pack(">Q", len(blob)))
        link.sendall(blob)
        _read(link, len(TAKEN))
    except (OSError, EOFError):
        raise UserError(
            f"host 0 ended before it took over what host {hosts.index} has trained, which stays in the workdir of "
            f"host {hosts.index}: repeat the command on every host to go on"
        ) from None


def receive(hosts: Hosts) -> Iterator[bytearray]:
    """At host 0: what each other host sends, in the order in which they come, however long that takes.

    UserError after the last one when hosts have ended without sending, or have been out of reach for minutes.
    """
    waiting, lost = {link: number for number, link in enumerate(hosts.links, 1)}, []
    while waiting:
        for link in multiprocessing.connection.wait(list(waiting)):
            number = waiting.pop(link)
            try:
                (size,) = struct.unpack(">Q", _read(link, 8))
                blob = _read(link, size)
            except (OSError, EOFError):
                lost.append(number)
                continue
            yield blob
            with contextlib.suppress(OSError):  # it may be gone by now: what it sent is here
                link.sendall(TAKEN)
    if lost:
        who = f"host {lost[0]}" if len(lost) == 1 else f"hosts {', '.join(map(str, sorted(lost)))}"
        raise UserError(
            f"{who} ended without handing over what was trained there; see there why, and repeat the command on "
            "every host to go on"
        )


def leave(hosts: Hosts) -> None:
    """Close the links. Hosts that still wait for this one are told at once; so they are when a process dies."""
    for link in hosts.links:
        link.close()


def pack(folders: Sequence[Path], root: Path) -> bytes:
    """The plain files in these folders (not below them) as a tar with names relative to `root`, status.json last."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in folders:
            files = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
            for path in sorted(files, key=lambda path: (path.name == "status.json", path.name)):
                content = path.read_bytes()
                member = tarfile.TarInfo(path.relative_to(root).as_posix())
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def unpack(blob: bytes | bytearray, root: Path, finished: Callable[[Path], bool]) -> int:
    """Write what `pack` made below `root`, and return how many folders came in.

    finished: whether a folder needs nothing more: it stays as it is, and is not counted

    In each folder status.json, which says that the folder is complete, is written last. UserError, before anything
    is written, for anything but plain files in folders below `root`.
    """
    folders: dict[Path, list[tarfile.TarInfo]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
            for member in tar.getmembers():
                name = PurePosixPath(member.name)
                folder = root / name.parent
                inside = ".." not in name.parts and len(name.parts) > 1
                if not (inside and member.isreg() and folder.resolve().is_relative_to(root.resolve())):
                    raise UserError(f"another host sent {member.name!r}, which is no file of a run: nothing was taken")
                folders.setdefault(folder, []).append(member)
            missing = {folder: members for folder, members in folders.items() if not finished(folder)}
            for folder, members in missing.items():
                folder.mkdir(parents=True, exist_ok=True)
                for member in sorted(members, key=lambda member: PurePosixPath(member.name).name == "status.json"):
                    path = folder / PurePosixPath(member.name).name
                    draft = path.with_name(path.name + ".draft")
                    draft.write_bytes(tar.extractfile(member).read())
                    draft.replace(path)
    except tarfile.TarError as error:
        raise UserError(f"another host sent what can't be read ({error}): is it the same version there?") from None
    return len(missing)


def _check(coordinator: str, count: int, index: int) -> None:
    if not coordinator and count == 0 and index == -1:
        return
    if not coordinator or count == 0 or index == -1:
        raise UserError("--coordinator=HOST:PORT, --hosts=N and --host=I belong together: give all three or none")
    name, _, port = coordinator.rpartition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"--coordinator={coordinator} is no HOST:PORT with a port from 1 to 65535")
    if count < 1:
        raise UserError(f"--hosts={count}: there is at least 1 host")
    if not 0 <= index < count:
        raise UserError(f"--host={index} is none of the {count} hosts: they are numbered 0 to {count - 1}")


def _reason(stderr: str) -> str:
    """What jax or the C++ below it gave as the reason, on one line."""
    status = re.search(r"absl::Status: (.+)", stderr)
    return status[1] if status else next(reversed(stderr.strip().splitlines()), "no reason given")


def _did_not_meet(coordinator: str, count: int, reason: str, limit: float) -> UserError:
    who = f"the {count} hosts did not meet at {coordinator}" if coordinator else "the cluster's hosts did not meet"
    return UserError(
        f"{who} ({reason[:200]}): start the same command on every host within {limit:.0f} s, each with its own "
        "--host=I, and host 0 where --coordinator says, at a port that is free there and that the others can reach"
    )


def _own_chips(chips: int, environment: Mapping[str, str]) -> dict[str, str]:
    """What tells libtpu that a host of a pod with so many chips is a machine of its own: no other host trains its runs.

    The variables are those that libtpu's users report to work; never tried here.
    """
    if not chips:
        return {}
    bounds = {1: "1,1,1", 8: "2,4,1"}.get(chips, "2,2,1")
    alone = {"TPU_HOST_BOUNDS": "1,1,1", "TPU_CHIPS_PER_HOST_BOUNDS": bounds}
    if "TPU_WORKER_HOSTNAMES" in environment:  # Kubernetes describes the pod in the environment
        alone |= {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
    return alone


def _answer(port: int, count: int, deadline: float) -> tuple[socket.socket, ...]:
    """Host 0: the links to hosts 1, 2, ..., in this order."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    links: dict[int, socket.socket] = {}
    try:
        with socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=count) as server:
            while len(links) < count - 1:
                server.settimeout(max(deadline - time.monotonic(), 0.001))
                link, _ = server.accept()
                with contextlib.suppress(OSError, EOFError):  # a stranger that knocks at every port
                    link.settimeout(5.0)
                    greeting = _read(link, len(HELLO) + 4)
                    number = int.from_bytes(greeting[len(HELLO) :], "big")
                    if greeting.startswith(HELLO) and 0 < number < count:
                        link.sendall(HELLO)
                        links[number] = _lasting(link)
                        continue
                link.close()
    except OSError as error:
        absent = sorted(set(range(1, count)) - set(links))
        raise UserError(f"host 0 has no link to hosts {absent} at port {port}: {error.strerror or error}") from None
    return tuple(links[number] for number in range(1, count))


def _call(name: str, port: int, index: int, deadline: float) -> socket.socket:
    """Another host: the link to host 0, which may need a moment, while jax's own service may still hold the port."""
    reason = ""
    while time.monotonic() < deadline:
        try:
            link = socket.create_connection((name, port), timeout=5.0)
            try:
                link.sendall(HELLO + index.to_bytes(4, "big"))
                if _read(link, len(HELLO)) == HELLO:
                    return _lasting(link)
                reason = "something else answers there"
            except BaseException:
                link.close()
                raise
            link.close()
        except (OSError, EOFError) as error:
            reason = str(error)
        time.sleep(0.1)
    raise UserError(f"host {index} has no link to host 0 at {name}:{port}: {reason}")


def _lasting(link: socket.socket) -> socket.socket:
    """A link that stays open while both ends live, and breaks within two minutes when the other machine is gone."""
    link.settimeout(None)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):  # macOS has not all of them
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return link


def _read(link: socket.socket, size: int) -> bytearray:
    """That many bytes; EOFError when the other end closes before."""
    data = bytearray(size)
    view, have = memoryview(data), 0
    while have < size:
        got = link.recv_into(view[have:], min(size - have, BLOCK))
        if not got:
            raise EOFError("closed by the other end")
        have += got
    return data
