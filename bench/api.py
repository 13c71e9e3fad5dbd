"""The Python interface: `bench.evaluate` on plain tensors and any module, and runs that know their views."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from bench.core.eps import parse_eps
from bench.core.text import printable
from bench.core.types import Checkpoint, ImageSet, Norm, UserError
from bench.evaluation.certification import images as certification
from bench.evaluation.request import Request, Subject, first_of_each_class
from bench.evaluation.run import in_memory, prepare
from bench.models import checkpoints
from bench.models.search_copy import Dtype
from bench.report import certified, measures, render, run_table
from bench.store import certificates, runs


@dataclass(frozen=True, repr=False)
class Run(runs.Run):
    """A run's verdicts (a DataFrame, one row an image, attack and eps) and its record, with the tables made of them."""

    def __str__(self) -> str:
        return printable(run_table.console(self), getattr(sys.stdout, "encoding", None))

    def table(self) -> pd.DataFrame:
        """The columns of `table.csv`, a row an attack and a `worst` row for each norm."""
        return measures.summary(self)

    def worst(self) -> pd.DataFrame:
        """The `worst` rows alone: the per-example minimum over all attacks of a norm."""
        table = self.table()
        return table[table["attack"] == measures.WORST].reset_index(drop=True)

    def certified(self) -> pd.DataFrame | None:
        """The rows of `certified.csv`, or None where nothing was certified (`bench certify`)."""
        known = certified.stored(self)
        return None if known is None else known.table

    def to_latex(self) -> str:
        """The table as a booktabs tabular whose caption states the protocol."""
        return run_table.latex(self)

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return render.markdown(self.table())


def load_run(directory: str | Path) -> Run:
    """Read a stored run.

    Raises:
        UserError: the folder holds none, or it is damaged.
    """
    stored = runs.load(directory)
    return Run(stored.verdicts, stored.record, stored.directory)


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attacks: str | Sequence[str] = "pgd,adaptive",
    norm: Norm = "linf",
    eps: float | str | None = 8 / 255,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "auto",
    search_dtype: Dtype = "float32",
    eot: int = 1,
    draws: int | None = None,
    backward: str | nn.Module | Callable[..., Tensor] | None = None,
    max_passes: int | None = None,
    force: bool = False,
    trained_with: dict[str, dict[str, Any]] | None = None,
    name: str = "model",
) -> Run:
    """Attack a model on images (N, C, H, W) in [0, 1] with labels (N,); no file is read or written.

    `eps` may be written as "8/255"; None allows minimal attacks alone. The same verdicts as `bench run` gives, except
    that attacks which need exemplars (`latent`) take them from `images`, and that `trained_with` is the caller's to
    give. The model keeps its mode, its weights and its device.

    A random model: attacks meet the mean of `eot` draws, and `draws` passes settle a prediction. A model without a
    gradient: `backward` is `"identity"`, a name as `--backward` takes it, a module, or a function of images or of the
    model and images. With `max_passes`, an attack may take that many forward and backward passes for an image, and what
    its queries found within them counts.

    Raises:
        UserError: images out of range, a model that fails a check (unless `force`), an attack that does not fit, or one
            that fails on its way: then the error's `partial` is the run of what came before it.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model is {type(model).__name__}, not an nn.Module: wrap the function in a module")
    if not isinstance(seed, int) or (batch_size is not None and batch_size < 1):
        raise UserError(
            f"seed {seed!r} and batch_size {batch_size!r}: give whole numbers, and at least 1 image at once"
        )
    written = attacks if isinstance(attacks, str) else ",".join(attacks)
    number = parse_eps(str(eps)) if eps is not None else None
    data = _image_set(images, labels)
    budget: Sequence[tuple[float, str]] | None = None if number is None else [(number, str(eps))]
    request = Request(
        name,
        written,
        norm=norm,
        eps=budget,
        seed=seed,
        batch_size=batch_size,
        device=device,
        search_dtype=search_dtype,
        eot=eot,
        draws=draws,
        backward=backward,
        max_passes=max_passes,
        force=force,
    )
    checkpoint = Checkpoint(name, type(model).__name__, trained_with=trained_with or {})
    home = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    tested = Subject(
        model, checkpoint, checkpoints.state_sha256(model), data, lambda count: first_of_each_class(data, count)
    )
    try:
        with prepare(request, tested) as prepared:
            made = in_memory(prepared)
    except UserError as fault:
        if fault.partial is not None:
            fault.partial = Run(fault.partial.verdicts, fault.partial.record)
        raise
    finally:
        model.to(home)
    return Run(made.verdicts, made.record, searches=made.searches)


def certify(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm = "linf",
    eps: float | str = 8 / 255,
    *,
    method: str | None = None,
) -> pd.DataFrame:
    """Lower bounds of a model's margins on images (N, C, H, W) in [0, 1] with labels (N,): the rows of `certified.csv`.

    What `true` proves, and for which models, is what `bench certify` says. `method` is "ibp", "crown-ibp" or "crown";
    None tries them in turn. The model keeps its mode, its weights and its device.

    Raises:
        UserError: images out of range, a norm without bounds, or a layer that is not supported.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model is {type(model).__name__}, not an nn.Module: wrap the function in a module")
    data = _image_set(images, labels)
    if not len(data) or not bool(((data.images[:] >= 0) & (data.images[:] <= 1)).all()):
        raise UserError("images are none, or not all in [0, 1]: give at least one, scaled to [0, 1]")
    home = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    try:
        return certificates.frame(certification.of_images(model.cpu(), data, norm, parse_eps(str(eps)), method))
    finally:
        model.to(home)


def _image_set(images: Tensor, labels: Tensor) -> ImageSet:
    images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    if images.dim() != 4 or labels.shape != images.shape[:1] or labels.is_floating_point():
        shapes = f"images {tuple(images.shape)} and {labels.dtype} labels {tuple(labels.shape)}"
        raise UserError(f"{shapes} do not fit: give images (N, C, H, W) and one whole-number label for each")
    if images.is_floating_point():
        images = images.float()
    # Copies: the caller's tensors are his own, whatever a model or an attack does with what it is given.
    images, labels = images.detach().cpu().contiguous().clone(), labels.detach().cpu().long().clone()
    digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    return ImageSet("tensors", "", images, labels, torch.arange(len(labels)), digest, ())
