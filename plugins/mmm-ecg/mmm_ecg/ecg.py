"""Electrocardiograms as patches of their leads.

Shape suffixes: R content rows (one a token), N tokens of this modality, L leads, M samples, D width, V output size.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor, nn

from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.layout import Layout
from mmm.core.modality import Assets, Modality, Record
from mmm.core.objective import Answer
from mmm.core.picture import Picture, Raster
from mmm.core.tokens import Tokens
from mmm.nn.positions import sinusoidal

from ._reader import Reader
from ._tokenizer import FLAT, EcgTokenizer
from ._traces import BLACK, PALE, RED, Trace, drawn
from .recording import in_order

log = logging.getLogger("mmm")

FIT_RECORDS = 2000
"""Records that means and deviations are taken of, where there are more."""


class Ecg(Modality):
    """Electrocardiograms: every lead is cut into patches in time, each one product away from its token.

    A token's position is its moment and its lead: sines and cosines of the moment, a learned vector for each lead. Records may
    have any of the leads, and any length. Everything is brought to one rate.

    Paper: ST-MEM, Na et al. 2024, arXiv:2402.09450 (patches of each lead, lead embeddings, masked at random); masked patches as
    numbers: MAE, arXiv:2111.06377.

    Args:
        rate: samples a second that everything is resampled to.
        seconds: of the longest record. WFDB records are cut into consecutive stretches of it; what else is longer (a row of an
            array, a file that a table names) is cropped to a random one.
        patch: samples of a patch, at ``rate``.
        leads: names of those that are read, in any case; by default all that files have (of WFDB records, all voltages).
        normalise: to the mean and deviation of each lead's training records, which keeps voltages apart; or of each lead of
            each record itself, where recordings have no common scale.
        together: hide all leads of a moment, or none: where leads determine one another (III is II - I) a hidden one could
            else be calculated from those that are seen.
        file_rate: samples a second of arrays that do not say (.npy, .csv, in memory); by default ``rate``.
        positions: of the moments; "none" where the encoder's are rotary.
    """

    adjustable = ("seconds", "file_rate", "together")
    tokenizer: EcgTokenizer

    def __init__(
        self,
        rate: float = 100,
        seconds: float = 10,
        patch: int = 20,
        leads: Sequence[str] = (),
        normalise: Literal["lead", "record"] = "lead",
        together: bool = False,
        file_rate: float | None = None,
        positions: Literal["none", "sinusoidal"] = "sinusoidal",
    ):
        super().__init__()
        if isinstance(leads, str):
            raise BadRecipe(f"Ecg(leads={leads!r}): needs a list, [{leads}]")
        if not (0 < rate < 1e6 and patch >= 2 and seconds * rate >= patch and (file_rate is None or 0 < file_rate < 1e6)):
            raise BadRecipe(
                f"Ecg(rate={rate}, seconds={seconds}, patch={patch}, file_rate={file_rate}): needs rates above 0, a patch of 2 "
                "samples or more, and seconds that hold one"
            )
        self.positions = positions
        own = _exactly(rate)
        reader = Reader(leads, own if file_rate is None else _exactly(file_rate))
        self.tokenizer = EcgTokenizer(reader, own, _exactly(seconds), patch, normalise, together)

    def fit(self, records: Sequence[Record]) -> None:
        """Learn which leads there are, and their means and deviations (of ``FIT_RECORDS`` records, chosen by their keys).

        Raises:
            BadRecord: a record that cannot be read.
        """
        tokenizer = self.tokenizer
        found: set[str] = set()
        for record in records:
            with _naming(record):
                found.update(tokenizer.reader.extent(record.raw).leads)
        if not found:
            raise ValueError("Ecg: no training record")
        tokenizer.known = in_order(found)
        total, square, count = (dict.fromkeys(found, 0.0) for _ in range(3))
        chosen = sorted(records, key=lambda record: record.sample)[:FIT_RECORDS]
        if len(chosen) < len(records):
            log.warning("Ecg: means and deviations are taken of %d of the %d records", len(chosen), len(records))
        for record in chosen:
            with _naming(record):
                recording, _ = tokenizer.crop(record.raw)
                sample_LJP, gap_LJ = tokenizer.patches(recording)
            for lead, sample_JP, gap_J in zip(recording.leads, sample_LJP.double(), gap_LJ, strict=True):
                there = sample_JP[~gap_J]
                total[lead] += float(there.sum())
                square[lead] += float(there.square().sum())
                count[lead] += there.numel()
        mean = {lead: total[lead] / max(count[lead], 1) for lead in found}
        deviation = {lead: max(square[lead] / max(count[lead], 1) - mean[lead] ** 2, 0.0) ** 0.5 for lead in found}
        tokenizer.mean = tuple(mean[lead] for lead in tokenizer.known)
        tokenizer.deviation = tuple(d if (d := deviation[lead]) > FLAT else 1.0 for lead in tokenizer.known)

    def assets(self) -> Assets:
        tokenizer = self.tokenizer
        if not tokenizer.known:
            return {}
        fitted = {"leads": tokenizer.known, "mean": tokenizer.mean, "deviation": tokenizer.deviation}
        return {"leads.json": json.dumps(fitted, ensure_ascii=False).encode()}

    def restore(self, assets: Assets) -> None:
        if "leads.json" in assets:
            fitted = json.loads(assets["leads.json"])
            self.tokenizer.known, self.tokenizer.mean = tuple(fitted["leads"]), tuple(fitted["mean"])
            self.tokenizer.deviation = tuple(fitted["deviation"])

    def build(self, width: int) -> None:
        """A product (Xavier, as MAE), a vector a lead and the mask vector (normal, std 0.02)."""
        self.project = nn.Linear(self.tokenizer.patch, width)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.lead = nn.Embedding(len(self.tokenizer.known), width)
        self.mask = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.lead.weight, std=0.02)
        nn.init.normal_(self.mask, std=0.02)

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND. A gap shows what a hidden token shows: its moment and its lead."""
        unseen_N = hidden_N | ~layout_N.maskable_T
        x_ND = torch.where(unseen_N[:, None], self.mask, self.project(content_R))
        x_ND = x_ND + self.lead(layout_N.position_TC[:, -1].long())
        if self.positions == "sinusoidal":
            x_ND = x_ND + sinusoidal(layout_N.position_TC[:, -2:-1], x_ND.shape[1], 1).to(x_ND.dtype)
        return x_ND

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """The leads, the same without what was hidden, and with what every target of the patches predicted.

        What was hidden lies on grey; a prediction is red, over the pale truth. Each lead has a scale of its own.
        """
        part = tokens.part(name)
        position_NC = part.layout_N.position_TC
        gap_N, hidden_N = ~part.layout_N.maskable_T.cpu(), hidden_N.cpu()
        nothing_R = torch.full_like(part.content_R, torch.nan)
        true_R = part.content_R.where(~gap_N[:, None], nothing_R)
        seen_R = true_R.where(~hidden_N[:, None], nothing_R)
        true, seen = (self.tokenizer.traces(rows, position_NC) for rows in (true_R, seen_R))
        grey = {lead: sample_M.isnan() for lead, sample_M in seen.items()}
        seconds = max(len(sample_M) for sample_M in true.values()) / float(self.tokenizer.rate)
        share = hidden_N.sum().item() / max(1, (~gap_N).sum().item())
        pictures: list[Picture] = [
            Raster(
                f"original: {', '.join(true)}, {seconds:g} s",
                drawn([Trace([(true[lead], BLACK)], true[lead].isnan()) for lead in true]),
            ),
            Raster(f"masked ({share:.0%} of the patches)", drawn([Trace([(seen[lead], BLACK)], grey[lead]) for lead in true])),
        ]
        for answer in answers:
            of_patches = hasattr(answer.target, "normalise") and answer.output_NV.shape[1] == self.tokenizer.patch
            if answer.name != name or not of_patches:
                continue
            asked_N = tokens.number_T[answer.answer_N.cpu()]
            output_NV, caption = answer.output_NV.detach().float().cpu(), "reconstructed"
            if answer.target.normalise:
                truth_NV = part.content_R[asked_N]
                output_NV = output_NV * (truth_NV.var(1, keepdim=True) + 1e-6).sqrt() + truth_NV.mean(1, keepdim=True)
                caption += " (mean and deviation of each patch taken from the original)"
            said_R = nothing_R.clone()
            hidden = hidden_N[asked_N]  # visible patches are shown as they are
            said_R[asked_N[hidden]] = output_NV[hidden]
            said = self.tokenizer.traces(said_R, position_NC)
            lines = {lead: [(true[lead], PALE), (seen[lead], BLACK), (said[lead], RED)] for lead in true}
            pictures.append(Raster(caption, drawn([Trace(lines[lead], grey[lead]) for lead in true])))
        return pictures


def _exactly(number: float) -> Fraction:
    """The number as it is written."""
    return Fraction(str(number))


@contextmanager
def _naming(record: Record) -> Iterator[None]:
    """What goes wrong inside is a BadRecord with the record's name."""
    try:
        yield
    except BadRecord:
        raise
    except ValueError as error:
        raise BadRecord(record.path, record.record, str(error)) from error
