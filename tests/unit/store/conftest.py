"""A store in every kind of place: a folder, fsspec's memory, fsspec's own files (renamed into place), and S3."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from moodlectl.store import Store, open_store

KINDS = ["folder", "memory", "local", "s3"]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A private S3 on loopback; needs moto."""
    server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a store may be made."""
    yield from place(request.param, request, tmp_path, monkeypatch)


def place(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if kind == "folder":
        yield str(tmp_path / "store")
        return
    fsspec = pytest.importorskip("fsspec")
    name = uuid.uuid4().hex
    if kind == "memory":
        yield f"memory://{name}"
        with contextlib.suppress(FileNotFoundError):
            fsspec.filesystem("memory").rm(f"/{name}", recursive=True)
    elif kind == "local":
        yield f"local://{tmp_path / 'elsewhere'}"
    else:
        endpoint = request.getfixturevalue("s3_server")
        for key, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
        }.items():
            monkeypatch.setenv(key, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem(use_listings_cache=False).mkdir(f"b{name}")
        yield f"s3://b{name}/moodle"
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def store(address: str) -> Store:
    return open_store(address, create=True)


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    """A store in a folder, where the kind of place does not matter."""
    return open_store(str(tmp_path / "store"), create=True)
