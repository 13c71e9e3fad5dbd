"""Image classifiers of transformers: `hf:OWNER/NAME` or `hf:path/to/folder`, their image processor folded in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from logging import ERROR, getLogger
from pathlib import Path
from socket import getaddrinfo
from typing import Any, ClassVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch

from bench.core.extras import extra, imported
from bench.core.images import Expected
from bench.core.places import expanded, is_folder
from bench.core.registry import model_sources
from bench.core.terminal import announce
from bench.core.types import UserError
from bench.models.sources.processors import preprocessing_of, transform_of
from bench.models.sources.source import Sourced, file_hash, library, loading

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_ON_HUB = r"[\w.-]+(/[\w.-]+)?"


@model_sources.register("hf")
@dataclass(frozen=True)
class HuggingFace:
    """A model that `transformers.AutoModelForImageClassification` loads, in float32; none that brings its own code.

    Args:
        name: a model of the hub, or the path of a folder that `save_pretrained` wrote.
        home: where relative paths start.
        revision: the branch, tag or commit, of a model of the hub.
    """

    runs_code: ClassVar[bool] = False
    library: ClassVar[str] = "transformers"
    names: ClassVar[str] = "NAME"

    name: str = field(metadata={"bound": True})
    home: Path = field(metadata={"bound": True})
    revision: str = "main"

    def load(self) -> Sourced:
        """The model behind what its image processor does to images.

        Raises:
            UserError: transformers is missing, there is no such model, its weights lack tensors, or its processor does
                what is not known here.
        """
        transformers = imported("transformers", "transformers", extra("hf"))
        folder, what = self.home / expanded(self.name), f"hf:{self.name}"
        if not is_folder(folder) and not re.fullmatch(_ON_HUB, self.name):
            raise UserError(f"{what}: there is no folder {folder}: correct the path, or write OWNER/NAME")
        place = str(folder) if is_folder(folder) else self.name
        remedy = "give a model of the hub, or a folder that save_pretrained wrote, that classifies images"
        given = {"revision": self.revision, "trust_remote_code": False}
        with _silent(transformers), loading(what, remedy):
            given["local_files_only"] = is_folder(folder) or _is_cached(place, self.revision)
            auto = transformers.AutoModelForImageClassification
            model, report = auto.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **given)
        lacking = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        if lacking:
            text = f"{what}: its weights lack {', '.join(lacking[:3])}{' and more' if len(lacking) > 3 else ''}"
            raise UserError(f"{text}: give a model that was trained to classify images")
        processor = _processor(transformers, place, given, what)
        files = {name: sha for kind in _WEIGHTS for path in sorted(folder.glob(kind)) for name, sha in _hash(path)}
        origin: dict[str, Any] = {"source": library("transformers"), "kind": type(model).__name__}
        origin |= {"files": files} if files else {"weights": place, "revision": _commit(model, self.revision)}
        expected = Expected(transform_of(processor), _classes(model.config))
        return Sourced(model.eval(), preprocessing_of(processor, what), expected, origin=origin)


def _is_cached(name: str, revision: str) -> bool:
    """Whether a model of the hub lies in the cache, which is then what is taken; else the hub must answer.

    Raises:
        OSError: it cannot be reached, which transformers would find out after half a minute.
    """
    hub = import_module("huggingface_hub")
    if isinstance(hub.try_to_load_from_cache(name, "config.json", revision=revision), str):
        return True
    host = urlsplit(hub.constants.ENDPOINT).hostname or ""
    if not getproxies():
        try:
            getaddrinfo(host, 443)
        except OSError as fault:
            raise ConnectionError(f"cannot connect to {host}: {fault.strerror}") from None
    return False


def _hash(path: Path) -> list[tuple[str, str]]:
    return list(file_hash(path).items())


def _commit(model: Any, revision: str) -> str:
    return str(getattr(model.config, "_commit_hash", None) or revision)


@contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """While it lasts, transformers says nothing of its own."""
    logging, hub = transformers.utils.logging, getLogger("huggingface_hub")
    level, of_hub, bar = logging.get_verbosity(), hub.level, logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub.setLevel(ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub.setLevel(of_hub)
        if bar:
            logging.enable_progress_bar()


def _processor(transformers: Any, place: str, given: Mapping[str, Any], what: str) -> Any:
    """The model's image processor; None where it has none, of which a line on stderr tells."""
    with _silent(transformers):
        try:
            return transformers.AutoImageProcessor.from_pretrained(place, backend="pil", **given)
        except (OSError, ValueError):
            announce(f"{what} has no image processor: the model is given images in [0, 1] as they are")
            return None


def _classes(config: Any) -> tuple[str, ...]:
    """The names of the classes in order, if they are more than `LABEL_0`, `LABEL_1`, ..."""
    labels = {int(place): str(name) for place, name in (getattr(config, "id2label", None) or {}).items()}
    names = tuple(labels[place] for place in sorted(labels))
    usual = all(name == f"LABEL_{place}" for place, name in enumerate(names))
    return () if usual or sorted(labels) != list(range(len(labels))) else names
