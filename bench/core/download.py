"""Files from the network, whole and checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, url2pathname, urlopen

from tqdm import tqdm

from bench.core.files import check_size, one_line, sha256_of
from bench.core.types import UserError

_CHUNK = 1 << 20
_TIMEOUT = 30.0
_MOST = 1 << 34


def fetch(
    url: str | Sequence[str],
    destination: Path,
    sha256: str | None = None,
    digest: Callable[[Path], str] = sha256_of,
) -> None:
    """Download a file, whole and checked, or leave `destination` as it was.

    Args:
        url: an address, or several that are tried in order.
        destination: where the file goes; its directory is made if need be.
        sha256: what `digest` must find, in hexadecimal; None checks the length alone.
        digest: how the file is hashed, `content_sha256` for a `.gz` known by its content.

    Raises:
        UserError: no address gave the file, or its directory cannot be made; the text says why and what to do by hand.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{destination.parent} cannot be made ({one_line(error)}): choose another directory") from None
    # The name keeps its suffix, by which content_sha256 knows a .gz.
    part = destination.with_name(f".part-{os.getpid()}-{destination.name}")
    faults = []
    for address in [url] if isinstance(url, str) else url:
        try:
            _download(address, part)
            if sha256 and (actual := digest(part)) != sha256:
                raise UserError(f"sha256 {actual[:12]}... is not {sha256[:12]}...")
            part.replace(destination)
            return
        # ValueError: an address that urllib cannot parse.
        except (OSError, HTTPException, ValueError, UserError) as error:
            faults.append(f"{address} ({one_line(error)})")
        finally:
            part.unlink(missing_ok=True)
    remedy = f"check the network, or place the file at {destination} by hand"
    raise UserError(f"{destination.name} could not be fetched from {', '.join(faults)}: {remedy}")


def _download(url: str, path: Path) -> None:
    if urlsplit(url).scheme == "file":
        check_size(Path(url2pathname(urlsplit(url).path)))
    request = Request(url, headers={"User-Agent": "bench"})
    with urlopen(request, timeout=_TIMEOUT) as answer, path.open("wb") as file:
        length = int(answer.headers.get("Content-Length") or 0)
        # disable=None: silent unless stderr is a terminal.
        with tqdm(total=length or None, unit="B", unit_scale=True, desc=path.name[-32:], disable=None) as bar:
            while chunk := answer.read(_CHUNK):
                if file.tell() > _MOST:
                    raise OSError(f"more than {_MOST:,} bytes came")
                file.write(chunk)
                bar.update(len(chunk))
        if length and file.tell() != length:
            raise OSError(f"the connection ended after {file.tell():,} of {length:,} bytes")
