"""What a tokenizer promises: sound pieces, the same ones everywhere, and a way back.

Shape suffixes: R content rows, N tokens of one modality.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmm.core.draw import Draw
from mmm.core.modality import Encoded, Modality, Record, Tokenizer
from mmm.core.tokens import Piece

from .tools import equal, keyed, named, near

FIELDS = ("content", "positions", "units", "maskable")


def check_piece(owner: object, tokenizer: Tokenizer, piece: Piece) -> None:
    """Shapes and values of one piece."""
    who, n, empty = named(owner), len(piece), tokenizer.empty()
    c = 1 if piece.positions.ndim == 1 else piece.positions.shape[1]
    assert 1 <= tokenizer.coordinates <= 3, f"{who}: coordinates is {tokenizer.coordinates}; a token has 1 to 3."
    assert piece.positions.ndim <= 2 and c == tokenizer.coordinates, (
        f"{who}: positions have shape {tuple(piece.positions.shape)}, but it says coordinates = {tokenizer.coordinates}."
    )
    assert piece.positions.isfinite().all(), f"{who}: a position is not finite."
    assert piece.content.dtype == empty.dtype and piece.content.shape[1:] == empty.shape[1:], (
        f"{who}: content is {piece.content.dtype} {tuple(piece.content.shape)}, empty() is {empty.dtype} {tuple(empty.shape)}; "
        "they must agree, or a batch without this modality has another type."
    )
    assert n > 0, (
        f"{who}: a raw value made no token. Raise ValueError instead: a record that vanishes is a record nobody misses."
    )
    assert not tokenizer.rowwise or len(piece.content) == n, (
        f"{who}: {len(piece.content)} rows for {n} tokens. Set rowwise = False where a token is not one row."
    )
    assert not piece.content.is_floating_point() or piece.content.isfinite().all(), f"{who}: content is not finite."
    if piece.units is not None:
        units = piece.units
        assert units.shape == (n,) and int(units[0]) >= 0 and (units[1:] >= units[:-1]).all(), (
            f"{who}: units must be {n} whole numbers from 0 that never decrease."
        )
    if piece.maskable is not None:
        assert piece.maskable.shape == (n,) and piece.maskable.dtype == torch.bool, f"{who}: maskable must be {n} bools."
    if tokenizer.choices is not None:
        assert tokenizer.size > 0, f"{who}: content is ids (choices is set), so size must be the number of ids."
        for ids, what in ((piece.content, "content"), (tokenizer.choices, "choices")):
            assert int(ids.min()) >= 0 and int(ids.max()) < tokenizer.size, (
                f"{who}: {what} has ids outside 0..{tokenizer.size - 1}."
            )


def check_tokenizer(modality: Modality, raws: Sequence[Any], restored: Modality | None = None) -> None:
    """Sound pieces; one raw value and one draw give one piece, now, again, after ``restore`` and from what ``encode`` gave; no
    global randomness.

    Args:
        modality: fitted. raws: a few raw values. restored: another one that took up its assets.
    """
    who, tokenizer = named(modality), modality.tokenizer
    for i, raw in enumerate(raws):
        with keyed(modality):
            piece = tokenizer.tokenize(raw, Draw(0).at(i))
        check_piece(modality, tokenizer, piece)
        others = [(tokenizer, raw, "a second time")]
        if restored is not None:
            others.append((restored.tokenizer, raw, "after restore(assets)"))
        if tokenizer.encoding is not None and isinstance(raw, str):
            others.append((tokenizer, Encoded(raw, tokenizer.encode(raw)), "from what encode() gave"))
        for other, given, what in others:
            again = other.tokenize(given, Draw(0).at(i))
            changed = [f for f in FIELDS if not equal(getattr(piece, f), getattr(again, f))]
            assert not changed, f"{who}: one raw value and one draw give another {', '.join(changed)} {what}."


def check_workers(modality: Modality, raws: Sequence[Any], pool: Pool | None = None) -> None:
    """The tokenizer can go to data-loader workers, and does there what it does here.

    Args:
        modality: fitted. raws: a few raw values. pool: of another process; None: it is pickled only.
    """
    who, tokenizer = named(modality), modality.tokenizer
    assert not isinstance(tokenizer, nn.Module), f"{who}: a tokenizer goes to data-loader workers and is no module."
    try:
        pickle.dumps(tokenizer)
    except Exception as error:
        raise AssertionError(
            f"{who}: its tokenizer cannot be pickled for data-loader workers ({error}). Keep no lambdas or open files in it."
        ) from error
    for i, raw in enumerate(raws if pool is not None else ()):
        there = pool.apply(_content_elsewhere, (tokenizer, raw, i))  # type: ignore[union-attr]
        assert there == _content_elsewhere(tokenizer, raw, i), (
            f"{who}: a raw value is tokenised otherwise in another process. Does it use hash(), a set's order or the clock?"
        )


def _content_elsewhere(tokenizer: Tokenizer, raw: Any, i: int) -> Any:
    return tokenizer.tokenize(raw, Draw(0).at(i)).content.tolist()


def check_round_trip(modality: Modality, raws: Sequence[Any], same: Callable[[Any, Any], bool] | None = None) -> str:
    """What ``detokenize`` makes of the content agrees with the raw value it came of.

    Args:
        modality: fitted. raws: a few raw values.
        same: whether a raw value and what came back agree. None: they are equal, or what came back is tokenised to the same
            content (to 1e-3 where it is numbers).

    Returns:
        ``exact``, ``by content``, or, where what comes back is of a type that ``tokenize`` does not read, ``one way``.
    """
    who, tokenizer, found = named(modality), modality.tokenizer, set()
    for raw in raws:
        content_R = tokenizer.tokenize(raw).content
        back = tokenizer.detokenize(content_R)
        if same is not None:
            assert same(raw, back), f"{who}: {raw!r:.200} came back as {back!r:.200}."
        else:
            found.add(_way(who, tokenizer, raw, content_R, back))
    return next((way for way in ("one way", "by content") if way in found), "exact")


def _way(who: str, tokenizer: Tokenizer, raw: Any, content_R: Tensor, back: Any) -> str:
    if type(raw) is type(back) and _equal(raw, back):
        return "exact"
    try:
        again_R = tokenizer.tokenize(back).content
    except Exception as error:
        if type(back) is not type(raw):
            return "one way"
        raise AssertionError(f"{who}: {raw!r:.200} came back as {back!r:.200}, which tokenize refuses: {error}") from error
    agree = near(again_R.double(), content_R.double(), 1e-3)
    assert agree, f"{who}: {raw!r:.200} came back as {back!r:.200}, which is tokenised to other content."
    return "by content"


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else equal(a, b)


def check_positions(modality: Modality, raws: Sequence[Any]) -> str:
    """No two maskable tokens of a record stand at one place, unless all of them do: a set, whose order means nothing.

    Args:
        modality: fitted. raws: a few raw values.

    Returns:
        ``unique``, or ``a set``.
    """
    who, ways = named(modality), set()
    for raw in raws:
        piece = modality.tokenizer.tokenize(raw)
        free_N = torch.ones(len(piece), dtype=torch.bool) if piece.maskable is None else piece.maskable
        place_NC = piece.position_NC[free_N]
        places, times = place_NC.unique(dim=0, return_counts=True)
        if len(places) == len(place_NC) and len(places) > 1:
            ways.add("unique")
        elif len(places) == 1 and len(place_NC) > 1:
            ways.add("a set")
        elif len(places) > 1:
            place = tuple(places[times.argmax()].tolist()[-modality.tokenizer.coordinates :])
            raise AssertionError(
                f"{who}: {int(times.max())} tokens of one record stand at position {place}, so they cannot be told apart. Give "
                "each a position of its own (up to three coordinates), or all of them the same, if their order means nothing."
            )
    assert len(ways) < 2, (
        f"{who}: the tokens of some records have positions of their own, those of others have all the same one."
    )
    return next(iter(ways), "one token a record")


def check_specials(modality: Modality, raws: Sequence[Any]) -> str:
    """Something can be hidden; specials can be neither hidden nor drawn as random content.

    Args:
        modality: fitted. raws: a few raw values.

    Returns:
        How many tokens, specials and units there are.
    """
    who, tokenizer = named(modality), modality.tokenizer
    if tokenizer.mask is not None:
        ids = tokenizer.choices if tokenizer.choices is not None else torch.zeros(0)
        assert 0 <= tokenizer.mask < tokenizer.size and not bool((ids == tokenizer.mask).any()), (
            f"{who}: tokenizer.mask is {tokenizer.mask}; it is an id below size ({tokenizer.size}) that no choice is, or None."
        )
    tokens = specials = units = 0
    free_ids: set[int] = set()
    fixed_ids: set[int] = set()
    for raw in raws:
        piece = tokenizer.tokenize(raw)
        free_N = torch.ones(len(piece), dtype=torch.bool) if piece.maskable is None else piece.maskable
        unit_N = torch.arange(len(piece)) if piece.units is None else piece.units
        shut = set(unit_N[~free_N].tolist())  # a unit with a special in it is never hidden
        tokens, specials = tokens + len(piece), specials + int((~free_N).sum())
        units += len(set(unit_N.tolist()) - shut)
        if tokenizer.choices is not None and piece.content.ndim == 1:
            free_ids |= set(piece.content[free_N].tolist())
            fixed_ids |= set(piece.content[~free_N].tolist())
    assert units, (
        f"{who}: nothing can be hidden: every token is a special (maskable is False), or stands in one unit with one. "
        "Give specials units of their own."
    )
    if tokenizer.choices is not None:
        drawn = sorted((fixed_ids - free_ids) & set(tokenizer.choices.tolist()))
        assert not drawn, (
            f"{who}: choices has the ids {drawn[:5]} of specials, which random content would put among tokens. Leave them out."
        )
    return f"{tokens} tokens, {specials} of them specials; {units} units that can be hidden"


def check_length(modality: Modality, records: Sequence[Record]) -> None:
    """``length`` says how many tokens ``tokenize`` makes.

    Args:
        modality: fitted. records: a few.
    """
    for record in records:
        length, true = modality.tokenizer.length(record), len(modality.tokenizer.tokenize(record.raw))
        assert length == true, (
            f"{named(modality)}.length says {length} tokens for {record.path}, record {record.record}; tokenize made {true}."
        )
