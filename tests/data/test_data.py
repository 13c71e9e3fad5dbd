"""Data sets: small files in the official formats, damaged ones, downloads, and the real files where there are some."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from bench.core import download, files, places
from bench.core.registry import datasets
from bench.core.types import ImageSet, UserError
from bench.data import formats
from bench.data.loading import load
from bench.data.official import Archive, OfficialFile, Published, Reordered

RANDOM = np.random.default_rng(0)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def idx_bytes(array: np.ndarray) -> bytes:
    return (0x0800 + array.ndim).to_bytes(4, "big") + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def pixels_of(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, np.uint8)


def small(name: str, split: str, contents: dict[str, bytes]) -> Published:
    """The registered data set with one split, which consists of these files instead of the official ones."""
    files = tuple(OfficialFile(file, sha256(content)) for file, content in contents.items())
    return replace(datasets[name], parts={split: files})


def fault(call: Any, *args: Any) -> str:
    with pytest.raises(UserError) as error:
        call(*args)
    text = str(error.value)
    assert "\n" not in text
    return text


def check(data: ImageSet, pixels: np.ndarray, labels: np.ndarray) -> None:
    assert data.images.dtype == torch.float32
    assert data.labels.dtype == data.indices.dtype == torch.int64
    assert np.array_equal(data.images.numpy(), (pixels / np.float32(255)).astype(np.float32))
    assert data.labels.tolist() == labels.tolist()
    assert data.indices.tolist() == list(range(len(labels)))


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test below finds the files or the cache of whoever runs it."""
    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


# --- looking for files


def test_directories_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "bench"
    assert places.cache_dir() == cache
    assert places.directories() == [cache / "data"]
    monkeypatch.setenv("BENCH_DATA", "/b")
    assert places.directories("/a") == [Path("/a"), Path("/b"), cache / "data"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert places.cache_dir() == Path.home() / ".cache" / "bench"


def test_packing_again_keeps_the_content_hash(tmp_path: Path) -> None:
    for level in (1, 9):
        (tmp_path / f"{level}.gz").write_bytes(gzip.compress(b"content" * 100, level, mtime=level))
    assert files.sha256_of(tmp_path / "1.gz") != files.sha256_of(tmp_path / "9.gz")
    assert (
        files.content_sha256(tmp_path / "1.gz") == files.content_sha256(tmp_path / "9.gz") == sha256(b"content" * 100)
    )


MNIST_PIXELS, MNIST_LABELS = pixels_of(5, 28, 28), np.array([3, 0, 9, 1, 3], np.uint8)
MNIST_FILES = {
    "t10k-images-idx3-ubyte.gz": idx_bytes(MNIST_PIXELS),
    "t10k-labels-idx1-ubyte.gz": idx_bytes(MNIST_LABELS),
}


@pytest.mark.parametrize("layout", ["mnist", "mnist/raw", "MNIST/raw", "."])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist(tmp_path: Path, layout: str, packed: bool) -> None:
    home = tmp_path / layout
    home.mkdir(parents=True, exist_ok=True)
    for name, content in MNIST_FILES.items():
        path = home / (name if packed else name.removesuffix(".gz"))
        path.write_bytes(gzip.compress(content) if packed else content)
    data = small("mnist", "test", MNIST_FILES).load("test", [tmp_path / "absent", tmp_path])
    check(data, MNIST_PIXELS[:, None], MNIST_LABELS)


def test_missing_files_say_where_they_were_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "b"))
    a, b, cache = tmp_path / "a", tmp_path / "b", tmp_path / "cache" / "bench" / "data"
    assert "not found: give --data-dir" in fault(load, "mnist", "train", str(a))
    a.mkdir()
    assert fault(load, "mnist", "train", str(a)) == (
        f"mnist: train-images-idx3-ubyte.gz not found in {a}, {b}, {cache}: "
        'run "bench data fetch mnist" or set BENCH_DATA'
    )


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "svhn"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_other_files_are_refused(tmp_path: Path, name: str, split: str) -> None:
    file = datasets[name].parts[split][0]
    (tmp_path / file.name).write_bytes(gzip.compress(b"x") if file.name.endswith(".gz") else b"x")
    text = fault(load, name, split, str(tmp_path))
    assert str(tmp_path / file.name) in text
    assert sha256(b"x")[:12] in text
    assert file.sha256[:12] in text
    assert f"bench data fetch {name}" in text


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no gzip"])
def test_damaged_gzip(tmp_path: Path, damage: str) -> None:
    content = bytearray(gzip.compress(MNIST_FILES["t10k-images-idx3-ubyte.gz"]))
    if damage == "truncated":
        del content[-100:]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray(b"<html>moved</html>")
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(content)
    assert f"{path} is not a whole gzip file" in fault(load, "mnist", "test", str(tmp_path))


def test_unknown_names_and_splits() -> None:
    assert "cifar10" in fault(load, "cifar")
    assert "no split 'val': choose train or test" in fault(load, "mnist", "val")
    assert "no split 'val': choose train or test" in fault(load, "digits", "val")
    assert "folder:PATH" in fault(load, "folder")
    assert "folder:PATH" in fault(load, "folder:")


# --- formats


@pytest.mark.parametrize(
    ("content", "dimensions", "expected"),
    [
        (idx_bytes(pixels_of(2, 3, 4))[:-1], 3, "has 39 bytes, not 40"),
        (idx_bytes(pixels_of(2, 3, 4)) + b"x", 3, "has 41 bytes, not 40"),
        (idx_bytes(pixels_of(2)), 3, "magic number is 2049, not 2051"),
        (b"\x00\x00\x08\x03", 3, "is not idx-ubyte"),
        (b"", 1, "is not idx-ubyte"),
    ],
)
def test_damaged_idx(content: bytes, dimensions: int, expected: str) -> None:
    assert expected in fault(formats.idx, formats.Source(Path("f"), content), dimensions)


@pytest.mark.parametrize("labels", [np.zeros(4, np.uint8), np.array([0, 0, 0, 0, 10], np.uint8)])
def test_labels_must_fit(tmp_path: Path, labels: np.ndarray) -> None:
    contents = {"images": idx_bytes(MNIST_PIXELS), "labels": idx_bytes(labels)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert f"{len(labels)} labels for 5 images" in fault(small("mnist", "test", contents).load, "test", [tmp_path])


def test_cifar10_joins_its_batches(tmp_path: Path) -> None:
    pixels, labels = pixels_of(6, 3, 32, 32), np.array([3, 9, 0, 1, 5, 5], np.uint8)
    records = np.concatenate([labels[:, None], pixels.reshape(6, -1)], 1)
    contents = {"data_batch_1.bin": records[:4].tobytes(), "data_batch_2.bin": records[4:].tobytes()}
    home = tmp_path / "cifar10" / "cifar-10-batches-bin"
    home.mkdir(parents=True)
    for name, content in contents.items():
        (home / name).write_bytes(content)
    check(small("cifar10", "train", contents).load("train", [tmp_path]), pixels, labels)


def test_cifar100_has_fine_labels(tmp_path: Path) -> None:
    pixels, labels = pixels_of(3, 3, 32, 32), np.array([99, 0, 42], np.uint8)
    coarse = np.array([19, 1, 2], np.uint8)
    content = np.concatenate([coarse[:, None], labels[:, None], pixels.reshape(3, -1)], 1).tobytes()
    (tmp_path / "test.bin").write_bytes(content)
    data = small("cifar100", "test", {"test.bin": content}).load("test", [tmp_path])
    check(data, pixels, labels)
    assert len(set(data.classes)) == 100
    assert data.classes == tuple(sorted(data.classes))


def test_a_known_file_in_another_order_is_taken_and_named(tmp_path: Path) -> None:
    pixels, labels = pixels_of(3, 3, 32, 32), np.array([99, 0, 42], np.uint8)
    records = np.concatenate([labels[:, None], labels[:, None], pixels.reshape(3, -1)], 1)
    official, turned = records.tobytes(), records[::-1].tobytes()
    file = OfficialFile("test.bin", sha256(official), reordered=(Reordered(sha256(turned), "last first"),))
    known = replace(datasets["cifar100"], parts={"test": (file,)}, archive=None)
    (tmp_path / "test.bin").write_bytes(official)
    data = known.load("test", [tmp_path])
    check(data, pixels, labels)
    assert data.order == "" and data.select(slice(0, 1)).order == ""
    (tmp_path / "test.bin").write_bytes(turned)
    other = known.load("test", [tmp_path])
    check(other, pixels[::-1], labels[::-1])
    assert other.order == "last first" == other.select(slice(0, 1)).order
    assert other.sha256 != data.sha256
    (tmp_path / "test.bin").write_bytes(records[[1, 0, 2]].tobytes())
    assert "is not the official file" in fault(known.load, "test", [tmp_path])


def test_fetching_leaves_a_known_file_in_another_order_alone(tmp_path: Path) -> None:
    file = OfficialFile("test.bin", sha256(b"official"), reordered=(Reordered(sha256(b"other"), "last first"),))
    known = replace(datasets["cifar100"], parts={"test": (file,)}, archive=None)
    home = tmp_path / "cifar100" / "cifar-100-binary"
    home.mkdir(parents=True)
    (home / "test.bin").write_bytes(b"other")
    assert known.fetch(tmp_path) == [home / "test.bin"]
    assert (home / "test.bin").read_bytes() == b"other"


@pytest.mark.parametrize("size", [0, 100, 3073 * 2 - 1])
def test_cifar_of_another_length(size: int) -> None:
    assert f"has {size:,} bytes, not" in fault(formats.cifar, formats.Source(Path("f"), bytes(size)), 1)


def mat_bytes(**variables: Any) -> bytes:
    stream = io.BytesIO()
    savemat(stream, variables)
    return stream.getvalue()


def test_svhn_labels_ten_as_zero(tmp_path: Path) -> None:
    pixels, labels = pixels_of(3, 3, 32, 32), np.array([10, 1, 9], np.uint8)
    content = mat_bytes(X=pixels.transpose(2, 3, 1, 0), y=labels[:, None])
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "test_32x32.mat").write_bytes(content)
    data = small("svhn", "test", {"test_32x32.mat": content}).load("test", [tmp_path])
    check(data, pixels, np.array([0, 1, 9]))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not a MATLAB 5 file"),
        (mat_bytes(X=pixels_of(32, 32, 3, 2)), "is not a MATLAB 5 file with X and y"),
        (mat_bytes(X=pixels_of(32, 32, 3, 2), y=np.array([[1], [2]]))[:3000], "is not a MATLAB 5 file"),
        (mat_bytes(X=pixels_of(28, 28, 3, 2), y=np.array([[1], [2]])), "holds X (28, 28, 3, 2)"),
        (mat_bytes(X=np.zeros((32, 32, 3, 2)), y=np.array([[1], [2]])), "float64"),
        (mat_bytes(X=pixels_of(32, 32, 3, 2), y=np.array([[1], [0]])), "outside 1..10"),
        (mat_bytes(X=pixels_of(32, 32, 3, 2), y=np.array([[1]])), "1 labels for 2 images"),
    ],
)
def test_damaged_svhn(content: bytes, expected: str) -> None:
    assert expected in fault(formats.svhn, formats.Source(Path("f"), content))


def test_digits() -> None:
    train, test = load("digits", "train"), load("digits")
    assert (len(train), len(test)) == (1437, 360)
    assert test.images.shape == (360, 1, 8, 8)
    assert (test.images.min(), test.images.max()) == (0, 1)
    assert torch.equal(test.images * 16, (test.images * 16).round())
    assert train.labels[:10].tolist() == list(range(10))
    assert train.sha256 != test.sha256
    assert test.sha256 == "f75c3aaea02836ff5c50fbfac16346638c4f4ba3e1329f0b551f50efa3d67163"


def test_the_hash_covers_shape_pixels_and_labels() -> None:
    pixels, labels = pixels_of(4, 1, 2, 3), np.array([0, 1, 2, 3])

    def of(pixels: np.ndarray, labels: np.ndarray) -> str:
        return formats.image_set("a", "test", pixels, labels, formats.DIGITS).sha256

    reordered = np.asfortranarray(pixels)
    assert of(pixels, labels) == of(reordered, labels.astype(np.uint8))
    assert (
        len(
            {
                of(pixels, labels),
                of(pixels ^ 1, labels),
                of(pixels, labels[::-1]),
                of(pixels.transpose(0, 1, 3, 2), labels),
            }
        )
        == 4
    )
    assert of(pixels, labels) != of(pixels.reshape(4, 1, 3, 2), labels)


def test_select_keeps_the_official_indices_and_the_hash() -> None:
    data = load("digits")
    part = data.select(torch.tensor([7, 2]))
    assert part.indices.tolist() == [7, 2]
    assert part.sha256 == data.sha256


# --- folders


def paint(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


def test_folder_without_splits_is_all_test(tmp_path: Path) -> None:
    pixels = pixels_of(3, 5, 4, 3)
    for name, image in zip(["dog/a.png", "cat/b.png", "cat/a.PNG"], pixels, strict=True):
        paint(tmp_path / name, image)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    data = load(f"folder:{tmp_path}")
    assert data.name == f"folder:{tmp_path}"
    assert data.classes == ("cat", "dog")
    check(data, pixels[[2, 1, 0]].transpose(0, 3, 1, 2), np.array([0, 0, 1]))
    assert "no split 'train': choose test" in fault(load, f"folder:{tmp_path}", "train")


def test_folder_with_splits_and_grey_images(tmp_path: Path) -> None:
    pixels = pixels_of(4, 6, 6)
    for name, image in zip(["train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"], pixels, strict=True):
        paint(tmp_path / name, image)
    check(load(f"folder:{tmp_path}", "train"), pixels[:2, None], np.array([0, 1]))
    check(load(f"folder:{tmp_path}", "test"), pixels[2:, None], np.array([0, 1]))
    paint(tmp_path / "test" / "c" / "0.png", pixels[0])
    assert "differ in their classes" in fault(load, f"folder:{tmp_path}", "test")


def test_folder_faults(tmp_path: Path) -> None:
    name = f"folder:{tmp_path}"
    assert "is not a folder" in fault(load, f"{name}/absent")
    assert "holds no directories" in fault(load, name)
    (tmp_path / "a").mkdir()
    assert "holds no images" in fault(load, name)
    paint(tmp_path / "a" / "0.png", pixels_of(4, 4, 3))
    paint(tmp_path / "a" / "1.png", pixels_of(4, 5, 3))
    assert "1.png is 5x4 RGB and not 4x4 RGB as 0.png" in fault(load, name)
    paint(tmp_path / "a" / "1.png", pixels_of(4, 4))
    assert "1.png is 4x4 grey" in fault(load, name)
    paint(tmp_path / "a" / "1.png", pixels_of(4, 4, 4))
    assert "is stored as RGBA" in fault(load, name)
    (tmp_path / "a" / "1.png").write_bytes(b"no image")
    assert "cannot be read as an image" in fault(load, name)


# --- fetching


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory and the address under which it is served."""
    root = tmp_path / "served"
    root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def send_header(self, keyword: str, value: str) -> None:
            if keyword == "Content-Length" and "short" in self.path:
                value = str(int(value) + 1)
            super().send_header(keyword, value)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield root, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_fetch_checks_and_renames(server: tuple[Path, str], tmp_path: Path) -> None:
    (server[0] / "weights").write_bytes(b"weights")
    path = tmp_path / "deep" / "weights"
    download.fetch(f"{server[1]}/weights", path, sha256(b"weights"))
    assert path.read_bytes() == b"weights"
    path.write_bytes(b"old")
    text = fault(download.fetch, f"{server[1]}/weights", path, sha256(b"other"))
    assert sha256(b"weights")[:12] in text
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("url", "why"),
    [("{}/absent", "404"), ("{}/short", "of 6 bytes"), ("http://127.0.0.1:1/x", "refused"), ("x", "url")],
)
def test_fetch_faults_leave_nothing(server: tuple[Path, str], tmp_path: Path, url: str, why: str) -> None:
    (server[0] / "short").write_bytes(b"bytes")
    path = tmp_path / "got" / "file"
    text = fault(download.fetch, url.format(server[1]), path)
    assert why in text
    assert f"place the file at {path} by hand" in text
    assert not list(path.parent.iterdir())


def test_fetch_into_a_file_is_a_user_error(server: tuple[Path, str], tmp_path: Path) -> None:
    (server[0] / "a").write_bytes(b"a")
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be made" in fault(download.fetch, f"{server[1]}/a", tmp_path / "file" / "a")


def test_fetch_mnist_from_a_mirror(server: tuple[Path, str], tmp_path: Path) -> None:
    for name, content in MNIST_FILES.items():
        (server[0] / name).write_bytes(gzip.compress(content))
    data = small("mnist", "test", MNIST_FILES)
    urls = {file: (f"{server[1]}/gone/{file.name}", f"{server[1]}/{file.name}") for file in data.files}
    data = replace(data, parts={"test": tuple(replace(file, urls=urls[file]) for file in data.files)})
    paths = data.fetch(tmp_path)
    assert paths == [tmp_path / "mnist" / name for name in MNIST_FILES]
    check(data.load("test", [tmp_path]), MNIST_PIXELS[:, None], MNIST_LABELS)
    before = paths[0].stat().st_mtime_ns
    data.fetch(tmp_path)
    assert paths[0].stat().st_mtime_ns == before


def tar_bytes(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_fetch_cifar_takes_only_its_files_from_the_archive(server: tuple[Path, str], tmp_path: Path) -> None:
    content = bytes(3073)
    packed = tar_bytes(("../evil", b"x"), ("batches/test_batch.bin", content), ("batches/readme.html", b"x"))
    (server[0] / "cifar.tar.gz").write_bytes(packed)
    archive = Archive(f"{server[1]}/cifar.tar.gz", sha256(packed), "batches")
    data = replace(small("cifar10", "test", {"test_batch.bin": content}), archive=archive)
    paths = data.fetch(tmp_path / "data")
    assert [path.name for path in paths] == ["test_batch.bin"]
    assert sorted(path for path in (tmp_path / "data").rglob("*") if path.is_file()) == paths
    assert not (tmp_path / "evil").exists()
    assert len(data.load("test", [tmp_path / "data"])) == 1


@pytest.mark.parametrize(
    "packed",
    [b"no archive", tar_bytes(("other", b"x")), tar_bytes(("batches/test_batch.bin", b"x"))],
    ids=["no archive", "without the file", "with another file"],  # a gzip holds the time: names must not
)
def test_fetch_refuses_another_archive(server: tuple[Path, str], tmp_path: Path, packed: bytes) -> None:
    (server[0] / "cifar.tar.gz").write_bytes(packed)
    archive = Archive(f"{server[1]}/cifar.tar.gz", sha256(packed), "batches")
    data = replace(small("cifar10", "test", {"test_batch.bin": bytes(3073)}), archive=archive)
    assert "cannot be unpacked" in fault(data.fetch, tmp_path / "data")


def test_digits_need_no_fetching(tmp_path: Path) -> None:
    assert datasets["digits"].fetch(tmp_path) == []


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "svhn"])
def test_every_file_has_a_source_and_a_hash(name: str) -> None:
    data = datasets[name]
    assert data.splits == ("train", "test")
    for file in data.files:
        assert len(file.sha256) == 64
        assert file.urls or data.archive


# --- the real files


@pytest.mark.parametrize(
    ("name", "split", "shape", "labels", "mean"),
    [
        ("mnist", "train", (60000, 1, 28, 28), [5, 0, 4, 1, 9], [0.1307]),
        ("mnist", "test", (10000, 1, 28, 28), [7, 2, 1, 0, 4], [0.1325]),
        pytest.param(
            "cifar10", "train", (50000, 3, 32, 32), [6, 9, 9, 4, 1], [0.4914, 0.4822, 0.4465], marks=pytest.mark.slow
        ),
        ("cifar10", "test", (10000, 3, 32, 32), [3, 8, 8, 0, 6], [0.4942, 0.4851, 0.4504]),
    ],
)
def test_real_files(
    real_data: Path, name: str, split: str, shape: tuple[int, ...], labels: list[int], mean: list[float]
) -> None:
    try:
        data = load(name, split, str(real_data))
    except UserError as error:
        if "not found" not in str(error):
            raise
        pytest.skip(str(error))
    assert data.images.shape == shape
    assert data.labels[:5].tolist() == labels
    assert (data.images.min(), data.images.max()) == (0, 1)
    assert data.images.mean((0, 2, 3)).tolist() == pytest.approx(mean, abs=1e-4)
    assert data.labels.bincount().tolist() == [shape[0] // 10] * 10 or name == "mnist"


@pytest.mark.parametrize(
    ("split", "count", "mean"),
    [
        pytest.param("train", 50000, [0.5071, 0.4865, 0.4409], marks=pytest.mark.slow),
        ("test", 10000, [0.5088, 0.4874, 0.4419]),
    ],
)
def test_real_cifar100_in_either_order(real_data: Path, split: str, count: int, mean: list[float]) -> None:
    """Means do not depend on the order: they are those of the official images."""
    try:
        data = load("cifar100", split, str(real_data))
    except UserError as error:
        if "not found" not in str(error):
            raise
        pytest.skip(str(error))
    assert data.images.shape == (count, 3, 32, 32)
    assert data.images.mean((0, 2, 3)).tolist() == pytest.approx(mean, abs=1e-4)
    assert data.labels.bincount().tolist() == [count // 100] * 100
    if data.order:
        assert data.order == "one image of each class in turn"
        assert data.labels[:200].tolist() == [*range(100)] * 2
    else:
        assert data.labels[:5].tolist() == {"train": [19, 29, 0, 11, 1], "test": [49, 33, 72, 51, 71]}[split]
