"""One token a patch of one lead.

Shape suffixes: R content rows (one a token), N tokens, L leads of a recording, M samples, J patches in time, P samples a patch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord, did_you_mean
from mmm.core.modality import Record, Tokenizer
from mmm.core.tokens import Piece

from ._even import patches, samples_at
from ._reader import Reader
from .recording import Recording

log = logging.getLogger("mmm")

FLAT = 1e-6
"""A deviation below this is no signal to be scaled up."""


class EcgTokenizer(Tokenizer):
    """Patches of all leads, moment by moment; rows are (P,). Positions are (moment, lead).

    What a raw value is, ``Reader`` says. A patch that touches a gap is a token that is never hidden nor asked.

    Args:
        reader: of the leads that are wanted. rate, seconds, patch, normalise, together: see ``Ecg``.

    Attributes:
        known: the leads of the training records, in order. mean, deviation: of each; empty before they are fitted.
    """

    coordinates = 2
    suffixes = Reader.suffixes

    def __init__(self, reader: Reader, rate: Fraction, seconds: Fraction, patch: int, normalise: str, together: bool):
        self.reader, self.rate, self.seconds, self.patch = reader, rate, seconds, patch
        self.normalise, self.together = normalise, together
        self.known: tuple[str, ...] = ()
        self.mean: tuple[float, ...] = ()
        self.deviation: tuple[float, ...] = ()
        self.said_crop = False

    def tokenize(self, raw: Any, draw: Draw | None = None) -> Piece:
        """A longer recording is cropped, at a start that ``draw`` chooses; without a draw, to its beginning.

        Raises:
            ValueError: no recording, a lead that no training record has, too short for a patch, nothing but gaps.
        """
        recording, cut = self.crop(raw, draw)
        number_L = torch.tensor(self.numbers(recording.leads))
        sample_LJP, gap_LJ = self.patches(recording)
        order_L = number_L.argsort()
        number_L, sample_LJP, gap_LJ = number_L[order_L], sample_LJP[order_L], gap_LJ[order_L]
        leads, moments = gap_LJ.shape
        moment_N = torch.arange(moments).repeat_interleave(leads)
        return Piece(
            content=self._normalised(sample_LJP, gap_LJ, number_L).transpose(0, 1).reshape(-1, self.patch),
            positions=torch.stack([moment_N, number_L.repeat(moments)], 1),
            units=moment_N if self.together else None,
            maskable=~gap_LJ.T.reshape(-1),
            cut=cut,
        )

    def crop(self, raw: Any, draw: Draw | None = None) -> tuple[Recording, bool]:
        """(recording, whether a part was left out), at most ``seconds`` long."""
        extent = self.reader.extent(raw)
        most = int(self.seconds * extent.rate)
        if extent.samples <= most:
            return self.reader.read(raw, 0, extent.samples), False
        if not self.said_crop:
            log.warning("a recording of %.1f s is cropped to %.1f s; said once", extent.samples / extent.rate, self.seconds)
            self.said_crop = True
        start = 0 if draw is None else int(draw.stream("crop").integers(extent.samples - most + 1))
        return self.reader.read(raw, start, start + most), True

    def patches(self, recording: Recording) -> tuple[Tensor, Tensor]:
        """(sample_LJP, gap_LJ) at the tokenizer's rate. Raises ValueError where there is no token."""
        sample_LJP, gap_LJ = patches(recording, self.rate, self.patch)
        if gap_LJ.shape[1] == 0:
            raise ValueError(f"too short: a patch is {self.patch / float(self.rate):g} s long")
        if gap_LJ.all():
            raise ValueError("no patch of any lead is without a gap")
        return sample_LJP, gap_LJ

    def _normalised(self, sample_LJP: Tensor, gap_LJ: Tensor, number_L: Tensor) -> Tensor:
        """The same in deviations; 0 in gaps."""
        if self.normalise == "record":
            there_LJ1 = ~gap_LJ[..., None]
            count_L = there_LJ1.sum((1, 2)).clamp(min=1) * self.patch
            mean_L = (sample_LJP * there_LJ1).sum((1, 2)) / count_L
            deviation_L = (((sample_LJP - mean_L[:, None, None]) * there_LJ1).square().sum((1, 2)) / count_L).sqrt()
            deviation_L = torch.where(deviation_L > FLAT, deviation_L, 1.0)
        else:
            mean_L, deviation_L = torch.tensor(self.mean)[number_L], torch.tensor(self.deviation)[number_L]
        scaled_LJP = (sample_LJP - mean_L[:, None, None]) / deviation_L[:, None, None]
        return scaled_LJP.masked_fill(gap_LJ[..., None], 0.0)

    def numbers(self, leads: Sequence[str]) -> list[int]:
        """A number for each lead. Raises ValueError before ``fit``, and for one that no training record has."""
        if not self.known:
            raise ValueError("which leads there are is learned of the training records: call fit or restore first")
        for lead in leads:
            if lead not in self.known:
                raise ValueError(f"the lead {lead!r} is in no training record. {did_you_mean(lead, self.known)}")
        return [self.known.index(lead) for lead in leads]

    def detokenize(self, content_R: Tensor) -> Tensor:
        """sample_M of a record of one lead; see ``traces``, and call that where there are several.

        Raises:
            ValueError: there are several leads, and which of them a row is of stands in the positions.
        """
        if len(self.known) != 1:
            raise ValueError(f"rows of {len(self.known)} leads; call traces(rows, positions)")
        return self.traces(content_R, torch.zeros(len(content_R), 1))[self.known[0]]

    def traces(self, content_R: Tensor, position_NC: Tensor) -> dict[str, Tensor]:
        """sample_M of each lead there is: in millivolts, or in deviations where each record was normalised by itself.

        Args:
            position_NC: the last coordinate is the lead's number; rows of one lead come in the order of time.
        """
        number_N = position_NC[:, -1].long()
        found = {}
        for number in number_N.unique().tolist():
            sample_M = content_R[number_N == number].float().reshape(-1)
            if self.normalise == "lead":
                sample_M = sample_M * self.deviation[number] + self.mean[number]
            found[self.known[number]] = sample_M
        return found

    def empty(self) -> Tensor:
        return torch.zeros(0, self.patch)

    def length(self, record: Record) -> int:
        """Tokens, from the header alone."""
        extent = self.reader.extent(record.raw)
        samples = min(extent.samples, int(self.seconds * extent.rate))
        return len(extent.leads) * (samples_at(samples, extent.rate, self.rate) // self.patch)

    def records(self, path: Path) -> Iterator[Record]:
        """The records of a file: a row of an array each; a WFDB record, cut into stretches of ``seconds`` where it is longer.

        A stretch that is too short for a patch, or nothing but gaps, is left out, and how many are is said aloud.

        Raises:
            BadRecord: naming the file and what is wrong with it; no record in it.
        """
        if path.suffix.lower() != ".hea":
            yield from self._named_errors(path)
            return
        left_out = made = 0
        for record, recording in self.reader.stretches(path, self.seconds):
            try:
                self.patches(recording)
            except ValueError as error:
                left_out, reason = left_out + 1, str(error)
                continue
            made += 1
            yield record
        if not made:
            raise BadRecord(path, None, reason)
        if left_out:
            log.info("%s: %d of %d stretches are left out: %s", path, left_out, left_out + made, reason)

    def _named_errors(self, path: Path) -> Iterator[Record]:
        """The rows of an array file. Raises BadRecord."""
        try:
            yield from self.reader.rows(path)
        except BadRecord:
            raise
        except ValueError as error:
            raise BadRecord(path, None, str(error)) from error

    def cell(self, value: str, table: Path, row: int) -> Record:
        """A file of one record, by its path from the table's folder; it is cropped where it is longer than ``seconds``."""
        path = table.parent / value
        if path.suffix.lower() == ".hea" and path.is_file():
            return self.reader.whole(path)
        return super().cell(value, table, row)
