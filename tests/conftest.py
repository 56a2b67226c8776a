"""What every test shares: few threads, no network, and the bundled sample."""

import atexit
import ipaddress
import os
import shutil
import socket
import tempfile
from pathlib import Path

# Before torch or numpy load, here and in the child processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
# Not every library of a child process asks Python for the network; a proxy that nobody listens at does for the others.
for _name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
    os.environ[_name] = "http://127.0.0.1:9"
# The viewer fixture resets napari's settings: never those of the person who runs the tests.
_settings = tempfile.mkdtemp(prefix="semigda-tests-")
atexit.register(shutil.rmtree, _settings, ignore_errors=True)
os.environ["NAPARI_CONFIG"] = str(Path(_settings) / "settings.yaml")
os.environ["XDG_CONFIG_HOME"] = _settings  # where the dock remembers projects opened lately
os.environ["XDG_STATE_HOME"] = _settings  # where what happens without a project is noted


# Every Python that a test starts loads this guard first; what it refuses fails the test, whoever swallows the refusal.
REFUSED = Path(_settings) / "refused"
_guard = Path(_settings) / "guard"
_guard.mkdir()
(_guard / "sitecustomize.py").write_text(f"""
import sys

def _hear(event, arguments):
    if event not in ("socket.connect", "socket.getaddrinfo"):
        return
    host = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
    host = host[0] if isinstance(host, tuple) else host
    host = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    if not host.startswith(("127.", "/", chr(0))) and host not in ("localhost", "::1"):
        with open({str(REFUSED)!r}, "a") as file:
            file.write(host + chr(10))
        raise OSError("tests are offline, refused " + host)

sys.addaudithook(_hear)
""")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_guard), os.environ.get("PYTHONPATH"))))

import pytest  # noqa: E402

from napari_semigda import sample_data  # noqa: E402


def _is_local(family: int, address) -> bool:
    if family == getattr(socket, "AF_UNIX", None):
        return True
    host = address[0] if isinstance(address, tuple) else str(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Fail a test that reaches for the network, itself or in a child, even when the code swallows the refusal.

    Yields the list of refused addresses, so that a test of this guard can empty it.
    """
    refused = []

    def guard(method):
        def connect(self, address, *args):
            if not _is_local(self.family, address):
                refused.append(address)
                raise OSError(f"tests are offline, refused {address}")
            return method(self, address, *args)

        return connect

    def getaddrinfo(host, *args, **kwargs):
        if not _is_local(socket.AF_INET, (host.decode() if isinstance(host, bytes) else host or "localhost",)):
            refused.append(host)
            raise socket.gaierror(f"tests are offline, refused to look up {host}")
        return look_up(host, *args, **kwargs)

    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", guard(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guard(socket.socket.connect_ex))
    yield refused
    if REFUSED.exists():
        refused += REFUSED.read_text().splitlines()
        REFUSED.unlink()
    if refused:
        pytest.fail(f"the test reached for the network: {refused}")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """Request, reports and model file of one short real training."""
    from napari_semigda.engine.train import Trainer
    from napari_semigda.engine.types import Settings, TrainRequest
    from tests.engine.conftest import drawn_planes

    out = tmp_path_factory.mktemp("model") / "discs.semigda"
    settings, colours = Settings(max_steps=40, crop=64, contrast="image"), {1: "#0072b2"}
    request = TrainRequest(drawn_planes(3, 5), out, settings, classes={1: "disc"}, colours=colours)
    trainer = Trainer()
    trainer.look_at(1)
    return request, list(trainer.fit(request)), out


@pytest.fixture(scope="session")
def sample_images():
    """The bundled slices, (24, 200, 160) uint8, not to be written to."""
    return _read("images")


@pytest.fixture(scope="session")
def sample_truth():
    """Class ids of every pixel of the bundled slices, (24, 200, 160) uint8, not to be written to."""
    return _read("truth")


def _read(kind: str):
    import tifffile

    stack = tifffile.imread(sample_data.SAMPLE / kind / "brain.tif")
    stack.flags.writeable = False
    return stack
