"""What counting neighbours tells of a masked base: ``python tools/count_model.py TRAIN.fasta VALIDATION.fasta``.

Every base of the validation sequences is predicted from the ``reach`` bases on either side of it, by add-one frequencies of
both strands of the training sequences. All of its neighbours are shown, which is more than a masked model sees. The skill is
1 - loss / loss of the frequencies of the four bases, in nats; the interval holds 99 %, from 2000 resamplings of the sequences.
A base within reach of an end, or of one that was not read for certain, is passed over.

Shape suffixes: N bases, C contexts, S sequences, B resamplings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmm_dna._fasta import entries
from mmm_dna._words import BASES, reverse_complement

RESAMPLINGS = 2000
NUMBER = np.full(256, -1)
NUMBER[[ord(base) for base in BASES]] = range(4)


def contexts(sequence: str, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """(context_N, base_N) of the bases whose neighbours are all there."""
    base_N = NUMBER[np.frombuffer(sequence.upper().encode(), np.uint8)]
    windows = np.lib.stride_tricks.sliding_window_view(base_N, 2 * reach + 1) if len(base_N) > 2 * reach else base_N[:0, None]
    windows = windows[(windows >= 0).all(1)]
    around = np.delete(windows, reach, axis=1) if len(windows) else np.zeros((0, 2 * reach), int)
    return around @ 4 ** np.arange(2 * reach), windows[:, reach] if len(windows) else np.zeros(0, int)


def strands(path: Path) -> Iterator[str]:
    """Both strands of every sequence of a file."""
    for _, _, sequence in entries(path):
        yield from (sequence.upper(), reverse_complement(sequence.upper()))


def main(words: list[str] | None = None) -> None:
    """Print the skill."""
    parser = argparse.ArgumentParser(description="Predict every base from counts of its neighbours.")
    parser.add_argument("train", type=Path, metavar="TRAIN")
    parser.add_argument("validation", type=Path, metavar="VALIDATION")
    parser.add_argument("--reach", type=int, default=4, choices=range(1, 7), help="bases on either side")
    args = parser.parse_args(words)
    count_CN = np.ones((16**args.reach, 4))
    for strand in strands(args.train):
        np.add.at(count_CN, contexts(strand, args.reach), 1)
    loss_C4 = -np.log(count_CN / count_CN.sum(1, keepdims=True))
    plain_4 = -np.log((count_CN - 1).sum(0) / (count_CN - 1).sum())
    sums_S = []
    for _, _, sequence in entries(args.validation):
        context_N, base_N = contexts(sequence, args.reach)
        sums_S.append((loss_C4[context_N, base_N].sum(), plain_4[base_N].sum(), len(base_N)))
    loss_S, guess_S, bases_S = np.array(sums_S).T
    drawn_BS = np.random.default_rng(0).integers(len(loss_S), size=(RESAMPLINGS, len(loss_S)))
    low, high = np.quantile(1 - loss_S[drawn_BS].sum(1) / guess_S[drawn_BS].sum(1), [0.005, 0.995])
    skill = 1 - loss_S.sum() / guess_S.sum()
    print(f"{int(bases_S.sum()):,} bases: loss {loss_S.sum() / bases_S.sum():.4f}, skill {skill:.4f} [{low:.4f}, {high:.4f}]")


if __name__ == "__main__":
    main()
