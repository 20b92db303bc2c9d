"""Discovered units: the cluster that a token's features fall in.

Shape suffixes: N tokens of one modality (asked ones in ``truth`` and ``loss``), D features, K clusters, F frames, M
mel bands, V output size.
"""

from __future__ import annotations

import io
import logging
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmm.core.baseline import Unigram
from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Assets, Record, Tokenizer
from mmm.core.target import Baseline, Target
from mmm.core.tokens import Sample, Tokens, pack
from mmm.nn.spectral import mfcc

log = logging.getLogger("mmm")


class Features(ABC):
    """What is clustered: a vector of ``width`` numbers for every token.

    Attributes:
        width: D.
    """

    width: int

    def bind(self, name: str, tokenizer: Tokenizer) -> None:
        """Meet the modality. Raises ValueError where its content cannot be used."""

    @abstractmethod
    def __call__(self, tokens: Tokens, name: str) -> Tensor:
        """feature_ND of all tokens of the modality, in packed order. A token's features must not hang on other
        records."""


class MFCC(Features):
    """Mel cepstra of a token, with first and second differences: the mean over its frames.

    Args:
        coefficients: of the cosine transform; with the differences, three times as many numbers.
    """

    def __init__(self, coefficients: int = 13):
        self.coefficients = coefficients
        self.width = 3 * coefficients

    def bind(self, name: str, tokenizer: Tokenizer) -> None:
        if not hasattr(tokenizer, "energies"):
            raise ValueError(f"MFCC on {name!r}: its tokenizer has no mel energies; choose features it has, or modality Audio")

    def __call__(self, tokens: Tokens, name: str) -> Tensor:
        content_R, tokenizer = tokens.content[name], tokens.tokenizers[name]
        features = [content_R.new_zeros(0, self.width)]
        start = 0
        for run in tokens.runs[name]:
            energy_FM = tokenizer.energies(content_R[start : start + run.rows])  # type: ignore[attr-defined]
            start += run.rows
            features.append(mfcc(energy_FM, self.coefficients).view(run.tokens, -1, self.width).mean(1))
        return torch.cat(features)


class AcousticUnits(Target):
    """Cross-entropy over k-means clusters of a token's features.

    Features are normalised by their mean and deviation, then clustered by mini-batch k-means (scikit-learn; Sculley
    2010) over training records read from their beginning. They lie in a temporary file meanwhile, so memory holds one
    mini-batch.

    Paper: HuBERT, arXiv:2106.07447, section II.B and III (first round: MFCC; later rounds: layers of the model before).

    Args:
        clusters: K. features: what is clustered; MFCC where none are named.
        fit_records: the clusters are made of so many training records at most, chosen by their keys.
        seed: of the initial clusters and of the order of the mini-batches.
    """

    unit = "nats a token"
    ROWS, STEPS = 10_000, 100
    """Tokens a mini-batch (as HuBERT's), and the least number of mini-batches; few data are passed over several
    times."""

    centroid_KD: Tensor
    mean_D: Tensor
    deviation_D: Tensor

    def __init__(self, clusters: int = 100, features: Features | None = None, fit_records: int = 5000, seed: int = 0):
        super().__init__()
        if clusters < 2:
            raise ValueError(f"AcousticUnits(clusters={clusters}): needs 2 or more")
        self.features = MFCC() if features is None else features
        self.size, self.fit_records, self.seed = clusters, fit_records, seed
        self.register_buffer("centroid_KD", torch.zeros(clusters, self.features.width))
        self.register_buffer("mean_D", torch.zeros(self.features.width))
        self.register_buffer("deviation_D", torch.zeros(self.features.width))
        self._checked = False

    def bind(self, name: str, tokenizer: Tokenizer) -> None:
        """Raises ValueError where the features cannot be had of this modality."""
        super().bind(name, tokenizer)
        self.features.bind(name, tokenizer)

    def fit(self, records: Sequence[Record]) -> None:
        """Find the clusters. A record that cannot be read is left out aloud.

        Raises:
            ValueError: fewer tokens than clusters.
        """
        from sklearn.cluster import MiniBatchKMeans

        chosen = sorted(records, key=lambda r: r.sample)[: self.fit_records]
        if len(chosen) < len(records):
            log.warning("AcousticUnits: the clusters are made of fit_records=%d of %d records", len(chosen), len(records))
        draw = Draw(self.seed).stream("units")
        with tempfile.TemporaryFile() as file:
            rows, total_D, square_D = 0, np.zeros(self.features.width), np.zeros(self.features.width)
            for feature_ND in self._batches(chosen):
                array_ND = np.ascontiguousarray(feature_ND.cpu().numpy(), np.float32)
                file.write(array_ND.tobytes())
                rows += len(array_ND)
                total_D += array_ND.sum(0, dtype=np.float64)
                square_D += np.square(array_ND, dtype=np.float64).sum(0)
            file.flush()
            if rows < self.size:
                raise ValueError(
                    f"AcousticUnits(clusters={self.size}): {len(chosen)} records hold {rows} tokens only; ask for fewer"
                )
            mean_D = total_D / rows
            deviation_D = np.sqrt(np.maximum(square_D / rows - mean_D**2, 1e-8))
            spooled_ND = np.memmap(file, np.float32, "r", shape=(rows, self.features.width))
            kmeans = MiniBatchKMeans(self.size, random_state=draw.seed(), reassignment_ratio=0.0)
            for order_N in _mini_batches(rows, max(self.ROWS, self.size), self.STEPS, draw):
                kmeans.partial_fit(((spooled_ND[order_N] - mean_D) / deviation_D).astype(np.float32))
            del spooled_ND  # before its file goes
        self._take(kmeans.cluster_centers_, mean_D, deviation_D)

    def _batches(self, records: Sequence[Record]) -> Iterator[Tensor]:
        """feature_ND of 16 records at a time."""
        samples = []
        for number, record in enumerate(records, 1):
            try:
                samples.append(Sample({self.name: self.tokenizer.tokenize(record.raw)}, record.sample))
            except BadRecord as e:
                log.warning("AcousticUnits: left out of the clusters: %s", e)
            if samples and (len(samples) == 16 or number == len(records)):
                yield self._features(pack(samples, {self.name: self.tokenizer}), self.name)
                samples = []

    def assets(self) -> Assets:
        """The clusters in NumPy's format, for others to use; the buffers hold them too."""
        return {f"{n}.npy": _saved(getattr(self, n)) for n in ("centroid_KD", "mean_D", "deviation_D")}

    def restore(self, assets: Assets) -> None:
        """Raises ValueError where the assets are of other clusters or features."""
        self._take(*(_loaded(assets[f"{n}.npy"]) for n in ("centroid_KD", "mean_D", "deviation_D")))

    def _take(self, *arrays: np.ndarray[Any, Any]) -> None:
        for buffer, array in zip((self.centroid_KD, self.mean_D, self.deviation_D), arrays, strict=True):
            if buffer.shape != array.shape:
                raise ValueError(
                    f"AcousticUnits has {self.size} clusters of {self.features.width} features, but what was fitted has shape "
                    f"{array.shape} where {tuple(buffer.shape)} is needed: it was fitted with other arguments"
                )
            buffer.copy_(torch.from_numpy(np.ascontiguousarray(array)))

    @torch.no_grad()
    def _features(self, tokens: Tokens, name: str) -> Tensor:
        """In full precision: truth may not hang on the precision the model trains in."""
        with torch.autocast(tokens.content[name].device.type, enabled=False):
            return self.features(tokens, name).float()

    @torch.no_grad()
    def units(self, tokens: Tokens, name: str) -> Tensor:
        """unit_N in [0, K) of all tokens of the modality, in packed order."""
        if not self._checked:
            if not bool(self.deviation_D.any()):
                raise ValueError("AcousticUnits has no clusters yet: call fit(records) or restore(assets) first")
            self._checked = True
        feature_ND = (self._features(tokens, name) - self.mean_D) / self.deviation_D
        nearest = [
            # Exact differences: sums of products would make near ties hang on what else is in the batch.
            torch.cdist(part_ND, self.centroid_KD, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
            for part_ND in torch.split(feature_ND, self.ROWS)
        ]
        return torch.cat(nearest)

    def truth(self, tokens: Tokens, answer_N: Tensor) -> Tensor:
        """unit_N of the asked tokens."""
        return self.units(tokens, self.name)[tokens.number_T[answer_N]]

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        return F.cross_entropy(output_NV.float(), truth_N, reduction="none")

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        return Unigram(truths, self.size)


def _mini_batches(rows: int, size: int, steps: int, draw: Draw) -> Iterator[np.ndarray[Any, Any]]:
    """Row numbers of ``steps`` mini-batches or more: whole passes, each in a new order, the last rows of a pass left out."""
    size = min(rows, size)
    each = rows // size
    for number in range(-(-steps // each)):
        order_N = torch.argsort(draw.bits(number, torch.arange(rows))).numpy()
        yield from order_N[: each * size].reshape(each, size)


def _saved(array: Tensor) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array.cpu().numpy(), allow_pickle=False)
    return stream.getvalue()


def _loaded(data: bytes) -> np.ndarray[Any, Any]:
    return np.load(io.BytesIO(data), allow_pickle=False)  # type: ignore[no-any-return]
