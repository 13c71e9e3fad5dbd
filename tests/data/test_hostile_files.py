"""Data that somebody else packed: refused by what it declares, before it takes memory."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import pytest

from bench.core import files
from bench.core.types import UserError
from bench.data.folder import Folder
from tests.support.limits import read_apart

LOAD = "from bench.data.loading import load\nimport torch; torch.zeros(1)"


def png(width: int, height: int) -> bytes:
    """A grey PNG whose pixels are all black."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(9), b"\0" * (width + 1)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zeros(path: Path, mebibytes: int) -> None:
    """A `.gz` of zeros, by members of 16 MiB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(b"\0" * 2**24, mtime=0) * (mebibytes // 16))


def test_a_gz_of_4_gib_is_refused_by_the_official_size(tmp_path: Path) -> None:
    zeros(tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz", 4096)
    mebibytes, said = read_apart(tmp_path, LOAD, "load('mnist', 'test', '.')")
    assert said == (
        "mnist/t10k-images-idx3-ubyte.gz holds more than 47,040,016 bytes, which no such file has: "
        "delete it and fetch it again"
    )
    assert mebibytes < 200


def test_a_gz_without_a_declared_size_is_held_to_what_packs(tmp_path: Path) -> None:
    zeros(tmp_path / "a.gz", 4096)
    setup = "from pathlib import Path\nfrom bench.core.files import read_content"
    mebibytes, said = read_apart(tmp_path, setup, "read_content(Path('a.gz'))")
    assert "a.gz holds more than" in said and mebibytes < 300
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"0123456789" * 1000))
    assert files.read_content(tmp_path / "b.gz") == b"0123456789" * 1000


@pytest.mark.parametrize("side", [13_000, 5_000])
def test_large_pictures_are_refused_by_their_header(tmp_path: Path, side: int) -> None:
    content = png(side, side)
    for place in range(10):
        path = tmp_path / "f" / f"class{place % 2}" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    mebibytes, said = read_apart(tmp_path, LOAD, "load('folder:f')")
    assert said == f"f/class0/0.png is {side}x{side}, more than 16,777,216 pixels: make it smaller"
    assert mebibytes < 150


def test_another_size_is_seen_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(png(8, 8))
    (tmp_path / "a" / "1.png").write_bytes(png(4000, 4000)[:-2000])
    with pytest.raises(UserError, match="is 4000x4000 grey and not 8x8 grey as 0"):
        Folder(tmp_path).load("test")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("content", [EPS, b"", b"\0" * 100, png(8, 8)[:40], png(8, 8).replace(b"IDAT", b"IDAX")])
def test_what_is_no_picture_starts_no_other_program(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as an image"):
        Folder(tmp_path).load("test")


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "0.png")
    with pytest.raises(UserError, match="it is not a regular file"):
        Folder(tmp_path).load("test")
    (tmp_path / "a" / "0.png").unlink()
    (tmp_path / "a" / "0.png").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="it is not a regular file"):
        Folder(tmp_path).load("test")


def test_a_file_larger_than_memory_is_not_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pt").write_bytes(b"0" * 1001)
    monkeypatch.setattr(files, "memory", lambda: 1000)
    with pytest.raises(UserError, match="has 1,001 bytes, more than memory holds"):
        files.read_content(tmp_path / "w.pt")
