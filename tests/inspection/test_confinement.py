"""What runs behind the locks cannot reach anything: tried from inside, by a process that is locked in for real."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
from reports import names_in

from workers.inspection import inspect
from workers.inspection.messages import Layer

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="these locks are Linux's")

ATTEMPTS = textwrap.dedent(
    """
    import ctypes, errno, fcntl, json, os, resource, signal, socket, struct, subprocess, sys, threading
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from workers.inspection.confinement import confine

    source, neighbour, parent = Path(sys.argv[2]), Path(sys.argv[3]), os.getppid()
    output = open("output", "wb")
    outside = open(neighbour)  # before the locks, as something may have left it open
    layers = confine(source, file_bytes_max=1_000_000, parent=parent)

    def many_files():
        return [open(source) for _ in range(100)]

    def too_much_output():
        output.write(b"x" * 3_000_000)
        output.flush()

    libc = ctypes.CDLL(None, use_errno=True)
    value = ctypes.create_string_buffer(b"pwned")
    xattr_args = ctypes.create_string_buffer(struct.pack("QII", ctypes.addressof(value), 5, 0))
    file_attr = ctypes.create_string_buffer(24)

    def call(number, *arguments):
        if libc.syscall(number, *arguments) < 0:
            raise type(errno.errorcode[ctypes.get_errno()], (Exception,), {})

    attempts = {
        "set an attribute by setxattrat": lambda: call(
            463, -100, bytes(source), 0, b"user.pwn", xattr_args, ctypes.c_size_t(16)),
        "change flags by file_setattr": lambda: call(469, -100, bytes(source), file_attr, ctypes.c_size_t(24), 0),
        "make a call that is not there yet": lambda: call(600),
        "make a call of x32": lambda: call(0x40000000 | 39),
        "change flags by ioctl": lambda: fcntl.ioctl(outside, 0x40086602, struct.pack("i", 0)),
        "have its parent signalled": lambda: fcntl.fcntl(outside, fcntl.F_SETOWN, parent),
        "read the file": lambda: source.read_bytes(),
        "import a parser": lambda: __import__("PIL.Image"),
        "fork": os.fork,
        "start a thread": lambda: threading.Thread(target=print).start(),
        "become another program": lambda: os.execv("/bin/sh", ["sh", "-c", "true"]),
        "start another program": lambda: subprocess.run(["/bin/sh", "-c", "true"]),
        "open a socket": lambda: socket.socket(),
        "open a pair of sockets": lambda: socket.socketpair(),
        "read a file of the system": lambda: Path("/etc/passwd").read_bytes(),
        "read a neighbour of the file": lambda: neighbour.read_bytes(),
        "read what its parent knows": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "list the folder": lambda: os.listdir(source.parent),
        "make a file": lambda: Path("new").write_bytes(b""),
        "make a file elsewhere": lambda: Path("/tmp/holdfast-escaped").write_bytes(b""),
        "remove a file": lambda: os.unlink("output"),
        "change a file": lambda: os.chmod(source, 0o777),
        "touch a file": lambda: os.utime(source, (0, 0)),
        "link a file": lambda: os.symlink("/etc/passwd", "link"),
        "signal its parent": lambda: os.kill(parent, signal.SIGTERM),
        "leave its group": lambda: os.setpgid(0, parent),
        "lift its limits": lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
        "take memory": lambda: bytearray(600 * 2**20),
        "take many files": many_files,
        "write too much": too_much_output,
    }

    def outcome(attempt):
        try:
            attempt()
        except BaseException as error:
            return type(error).__name__
        return "done"

    results = {name: outcome(attempt) for name, attempt in attempts.items()}
    os.write(1, json.dumps([layers, results, dict(os.environ)]).encode())
    os._exit(0)
    """
)


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory):
    """Which locks hold, what came of each attempt, and which environment the process sees."""
    folder, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("output")
    source, neighbour = folder / "source", folder / "neighbour"
    source.write_bytes(b"content")
    neighbour.write_bytes(b"secret")
    ran = subprocess.run(
        [*inspect.COMMAND[:-2], ATTEMPTS, inspect.ROOT, str(source), str(neighbour)],
        cwd=output,
        env=inspect.ENVIRONMENT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert names_in(output) == ["output"]
    assert (output / "output").stat().st_size <= 1_000_000
    return json.loads(ran.stdout)


@ON_LINUX
def test_every_lock_holds_on_this_machine(inside):
    layers, _, _ = inside

    assert set(layers) == set(Layer)


@pytest.mark.parametrize("attempt", ["read the file", "import a parser"])
def test_what_is_needed_is_possible(inside, attempt):
    _, results, _ = inside

    assert results[attempt] == "done"


@ON_LINUX
@pytest.mark.parametrize(
    ("attempt", "outcomes"),
    [
        ("fork", {"PermissionError", "BlockingIOError"}),
        ("start a thread", {"RuntimeError"}),
        ("become another program", {"PermissionError"}),
        ("start another program", {"PermissionError", "BlockingIOError"}),
        ("open a socket", {"PermissionError"}),
        ("open a pair of sockets", {"PermissionError"}),
        ("read a file of the system", {"PermissionError"}),
        ("read a neighbour of the file", {"PermissionError"}),
        ("read what its parent knows", {"PermissionError"}),
        ("list the folder", {"PermissionError"}),
        ("make a file", {"PermissionError"}),
        ("make a file elsewhere", {"PermissionError"}),
        ("remove a file", {"PermissionError"}),
        ("change a file", {"PermissionError"}),
        ("touch a file", {"PermissionError"}),
        ("link a file", {"PermissionError"}),
        ("signal its parent", {"PermissionError"}),
        ("leave its group", {"PermissionError"}),
        ("change flags by ioctl", {"PermissionError"}),
        ("have its parent signalled", {"PermissionError"}),
        ("lift its limits", {"PermissionError", "ValueError"}),
        ("take memory", {"MemoryError"}),
        ("take many files", {"OSError"}),
        ("write too much", {"OSError"}),
    ],
)
def test_nothing_else_is(inside, attempt, outcomes):
    _, results, _ = inside

    assert results[attempt] in outcomes


@ON_LINUX
@pytest.mark.parametrize(
    "attempt",
    [
        "set an attribute by setxattrat",
        "change flags by file_setattr",
        "make a call that is not there yet",
        "make a call of x32",
    ],
)
def test_no_call_is_possible_that_is_younger_than_the_locks(inside, attempt):
    _, results, _ = inside

    assert results[attempt] == "ENOSYS"


def test_the_environment_of_the_worker_is_not_to_be_seen(inside):
    _, _, environment = inside

    assert set(environment) <= {*inspect.ENVIRONMENT, "LC_CTYPE", "__CF_USER_TEXT_ENCODING"}
