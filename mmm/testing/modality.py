"""What a modality promises.

Shape suffixes: T packed tokens, R content rows, N tokens of the modality, D width.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Modality, Record, Tokenizer
from mmm.core.tokens import Piece, Tokens, pack
from mmm.core.view import View

from .tools import check_gradients, equal, keyed, mixed, named, near
from .toys import ToyIds, batch, tiny_model


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


def check_modality(
    modality: Modality,
    raws: Sequence[Any],
    records: Sequence[Record] = (),
    width: int = 32,
    same: Callable[[Any, Any], bool] | None = equal,
    pool: Pool | None = None,
) -> None:
    """Pieces, the way there and back, workers, assets, the embedding alone and packed, the mask vector, gradients, state.

    Args:
        modality: as a recipe constructs it: neither fitted nor built.
        raws: a few raw values of different lengths. records: to fit on, if it is fitted.
        same: whether a raw value and what came back of it agree; None where no way leads back.
        pool: of another process, to compare with.
    """
    who, name = named(modality), "own"
    fresh = copy.deepcopy(modality)
    if records:
        modality.fit(records)
    assets = modality.assets()
    assert all(isinstance(v, bytes) for v in assets.values()), f"{who}.assets must return bytes by file name."
    fresh.restore(assets)
    tokenizer = modality.tokenizer
    assert not isinstance(tokenizer, nn.Module), f"{who}: a tokenizer goes to data-loader workers and is no module."
    try:
        pickle.dumps(tokenizer)
    except Exception as error:
        raise AssertionError(
            f"{who}: its tokenizer cannot be pickled for data-loader workers ({error}). Keep no lambdas or open files in it."
        ) from error
    for i, raw in enumerate(raws):
        with keyed(modality):
            piece = tokenizer.tokenize(raw, Draw(0).at(i))
        check_piece(modality, tokenizer, piece)
        for other, what in ((tokenizer, "a second time"), (fresh.tokenizer, "after restore(assets)")):
            again = other.tokenize(raw, Draw(0).at(i))
            fields = ("content", "positions", "units", "maskable")
            changed = [f for f in fields if not equal(getattr(piece, f), getattr(again, f))]
            assert not changed, f"{who}: one raw value and one draw give another {', '.join(changed)} {what}."
        if pool is not None:
            there = pool.apply(_content_elsewhere, (tokenizer, raw, i))
            assert there == piece.content.tolist(), f"{who}: a raw value is tokenised otherwise in another process."
        if same is not None:
            back = tokenizer.detokenize(tokenizer.tokenize(raw).content)
            assert same(raw, back), f"{who}: {raw!r:.200} came back as {back!r:.200}."
    for record in records:
        length, true = tokenizer.length(record), len(tokenizer.tokenize(record.raw))
        assert length == true, (
            f"{who}.length says {length} tokens for {record.path}, record {record.record}; tokenize made {true}."
        )
    modality.build(width)
    fresh.build(width)
    fresh.load_state_dict(modality.state_dict())
    _check_embedding(modality, fresh, batch({name: modality}, [{name: raw} for raw in raws]), width)
    tied = modality.tied()
    if tied is not None:
        assert isinstance(tied, nn.Parameter) and tied.shape == (tokenizer.size, width), (
            f"{who}.tied must be a parameter of shape {(tokenizer.size, width)}: a view of one is not moved or copied with it."
        )
    both: dict[str, Modality] = {name: modality, "other": ToyIds()}
    model = tiny_model(both, width=width)
    for raws_there in ([], [{"other": [1, 2, 3]}], [{"other": [1, 2, 3], name: raws[0]}]):
        tokens = batch(both, raws_there)
        x_KD = model.embed(View.of(tokens, torch.zeros(len(tokens), dtype=torch.bool)))
        assert x_KD.shape == (len(tokens), width), (
            f"{who}: a batch of {[list(r) for r in raws_there]} is embedded as {tuple(x_KD.shape)}."
        )
    assert tokenizer.empty().shape[0] == 0 and len(pack([], {name: tokenizer})) == 0, f"{who}: empty() must have no rows."


def _content_elsewhere(tokenizer: Tokenizer, raw: Any, i: int) -> Any:
    return tokenizer.tokenize(raw, Draw(0).at(i)).content.tolist()


def _check_embedding(modality: Modality, fresh: Modality, tokens: Tokens, width: int) -> None:
    """x_ND: shape, gradients, packed as alone, the mask vector in place of the content, state that comes back."""
    who, name = named(modality), tokens.names[0]
    part, layout = tokens.part(name), tokens.layout
    hidden_N = layout.maskable_T & (layout.place_T % 3 != 0)
    modality.train()
    x_ND = modality.embed(part.content_R, part.layout_N, hidden_N)
    assert x_ND.shape == (len(tokens), width), (
        f"{who}.embed: {len(tokens)} tokens of width {width} expected, {tuple(x_ND.shape)} returned."
    )
    torch.autograd.backward(mixed(x_ND))
    check_gradients(modality, modality)
    modality.zero_grad()
    modality.eval()
    fresh.eval()
    with torch.no_grad():
        x_ND = modality.embed(part.content_R, part.layout_N, hidden_N)
        assert x_ND.isfinite().all(), f"{who}.embed is not finite."
        assert near(fresh.embed(part.content_R, part.layout_N, hidden_N), x_ND, 1e-6), (
            f"{who}: restored assets and a loaded state_dict embed otherwise. Is something learned kept in neither?"
        )
        shown_ND = modality.embed(part.content_R, part.layout_N, torch.zeros_like(hidden_N))
        assert not (shown_ND == x_ND)[hidden_N].all(1).any(), (
            f"{who}.embed shows a hidden token as it is. Put the mask vector there."
        )
        if tokens.tokenizers[name].rowwise:
            changed_R = part.content_R.clone()
            choices = tokens.tokenizers[name].choices
            changed_R[hidden_N] = changed_R[hidden_N] + 1 if choices is None else choices[0]
            leaked = modality.embed(changed_R, part.layout_N, hidden_N)
            assert near(leaked, x_ND, 1e-6), f"{who}.embed lets hidden content through: changing it changes the embedding."
        for s in range(layout.segments):
            one = tokens.segment(s).part(name)
            alone_ND = modality.embed(one.content_R, one.layout_N, hidden_N[layout.segment_T == s])
            assert near(x_ND[layout.segment_T == s], alone_ND), f"{who}.embed: segment {s} depends on its batch mates."


def damaged(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Twenty ways to spoil a file, each with its name."""
    n = len(good)
    yield from {
        "empty": b"", "one byte": good[:1], "header only": good[:16], "half": good[: n // 2], "last byte gone": good[:-1],
        "zeros": bytes(n), "ones": b"\xff" * n, "first half zeros": bytes(n // 2) + good[n // 2 :],
        "second half zeros": good[: n // 2] + bytes(n - n // 2), "reversed": good[::-1], "shifted": good[1:],
        "a NUL in front": b"\0" + good, "a NUL inside": good[: n // 2] + b"\0" + good[n // 2 :],
        "noise behind": good + bytes(range(256)), "inverted": bytes(255 - b for b in good),
        "not UTF-8": b"\xc3\x28\xa0\xa1" + good, "twice": good + good, "newlines": b"\n" * 100,
        "a web page": b"<!DOCTYPE html><html></html>",
        "one long line": b"9" * 200_000,
    }.items()  # fmt: skip


def check_files(modality: Modality, good: Path, folder: Path) -> None:
    """A good file is read; each of twenty damaged copies is read too, or refused with a ValueError that names the file.

    Args:
        modality: fitted. good: a file its tokenizer reads. folder: an empty one for the copies.
    """
    tokenizer = modality.tokenizer
    assert list(_read(tokenizer, good)), f"{named(modality)}: no record in {good}."
    for i, (damage, data) in enumerate(damaged(good.read_bytes())):
        path = folder / f"damaged_{i}{good.suffix}"
        path.write_bytes(data)
        try:
            for piece in _read(tokenizer, path):
                check_piece(modality, tokenizer, piece)
        except BadRecord as error:
            assert path.name in str(error), (
                f"{named(modality)}: the message about a damaged file ({damage}) does not name it: {error}"
            )
        except ValueError:
            pass  # the reason a raw value is no good; whoever tokenises a record adds the file's name
        except Exception as error:
            raise AssertionError(
                f"{named(modality)}: a damaged file ({damage}) ends in {type(error).__name__}: {error}. "
                "Catch what the decoder raises and raise BadRecord(path, record, reason)."
            ) from error


def _read(tokenizer: Tokenizer, path: Path) -> Iterator[Piece]:
    for record in tokenizer.records(path):
        tokenizer.length(record)
        yield tokenizer.tokenize(record.raw)
