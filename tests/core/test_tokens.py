"""Packing, and taking apart again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmm.core.layout import Run, lengths_to_segments
from mmm.core.tokens import Piece, Sample, pack
from mmm.testing import batch, toy_raws, toys

TOKENIZERS = {n: m.tokenizer for n, m in toys().items()}


def sample(i: int, **lengths: int) -> Sample:
    """Content that tells where it came from: 100 x record + place."""
    pieces = {}
    for name, n in lengths.items():
        rows = 4 * n if name == "wave" else n
        value = 100 * i + torch.arange(rows)
        content = {"ids": value, "patches": value[:, None].expand(-1, 4).float(), "wave": value.float()}[name]
        pieces[name] = Piece(content, torch.arange(n))
    return Sample(pieces, i, aux={"label": i})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(list(TOKENIZERS)), st.integers(0, 7), max_size=3), max_size=6))
def test_every_record_is_found_again(lengths):
    samples = [sample(i, **each) for i, each in enumerate(lengths)]
    tokens = pack(samples, TOKENIZERS)
    layout = tokens.layout
    assert list(layout.lengths) == sorted(sum(each.values()) for each in lengths)
    assert sorted(layout.sample_S.tolist()) == list(range(len(samples)))
    assert len(layout) == sum(layout.lengths)
    assert (layout.segment_T[1:] >= layout.segment_T[:-1]).all()
    assert torch.equal(layout.segment_T, lengths_to_segments(layout.lengths))
    for s, i in enumerate(layout.sample_S.tolist()):
        one = tokens.segment(s)
        assert one.aux == {"label": [i]}
        assert one.layout.segments == 1
        for name in TOKENIZERS:
            piece = samples[i].pieces.get(name)
            expected = TOKENIZERS[name].empty() if piece is None or not len(piece) else piece.content
            assert torch.equal(one.content[name], expected)
            assert one.runs[name] == (() if piece is None or not len(piece) else (Run(0, len(expected), len(piece)),))
            assert torch.equal(one.part(name).content_R, expected)


def test_parts_tell_rows_and_tokens():
    tokens = pack([sample(1, ids=3, wave=2), sample(2, wave=1), sample(3, ids=2)], TOKENIZERS)
    part = tokens.part("wave")
    assert part.layout_N.runs == (Run(0, 4, 1), Run(2, 8, 2))
    assert part.index_N.tolist() == [0, 6, 7]
    assert part.layout_N.lengths == (1, 0, 2)
    assert part.layout_N.place_T.tolist() == [0, 0, 1]
    assert tokens.number_T.tolist() == [0, 0, 1, 2, 3, 4, 1, 2]
    only = tokens.only("ids")
    assert only.layout.lengths == (0, 2, 3)
    assert only.content["wave"].shape == (0,)
    assert only.runs["wave"] == ()
    assert torch.equal(only.content["ids"], tokens.content["ids"])


def test_segments_are_sorted_by_length_and_the_sort_is_stable():
    tokens = pack([sample(1, ids=5), sample(2, ids=2), sample(3, wave=5), sample(4, ids=2)], TOKENIZERS)
    assert tokens.layout.sample_S.tolist() == [2, 4, 1, 3]


def test_units_are_unique_in_the_batch():
    tokens = batch(toys(), toy_raws())
    layout = tokens.layout
    owners = {}
    for unit, owner in zip(
        layout.unit_T.tolist(), zip(layout.segment_T.tolist(), layout.modality_T.tolist(), strict=True), strict=True
    ):
        assert owners.setdefault(unit, owner) == owner


def test_positions_fill_three_coordinates():
    line, plane, space = torch.arange(2.0), torch.tensor([[3.0, 4.0]]), torch.tensor([[5.0, 6.0, 7.0]])
    assert Piece(line, line).position_NC.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert Piece(line, line[:, None]).position_NC.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert Piece(line[:1], plane).position_NC.tolist() == [[0, 3, 4]]
    assert Piece(line[:1], space).position_NC.tolist() == [[5, 6, 7]]


def test_an_empty_batch_has_every_modality_with_no_rows():
    tokens = pack([], TOKENIZERS)
    assert len(tokens) == 0
    assert tokens.layout.segments == 0
    assert tokens.layout.position_TC.shape == (0, 3)
    assert {n: tuple(c.shape) for n, c in tokens.content.items()} == {"ids": (0,), "patches": (0, 4), "wave": (0,)}
    assert tokens.part("ids").layout_N.runs == ()


def test_an_unknown_modality_is_an_error():
    with pytest.raises(ValueError, match="'smell', but the model has ids, patches, wave"):
        pack([Sample({"smell": Piece(torch.zeros(1), torch.zeros(1))})], TOKENIZERS)


def test_with_content_leaves_the_rest():
    tokens = batch(toys(), toy_raws())
    other = tokens.with_content(ids=tokens.content["ids"] + 1)
    assert other.layout is tokens.layout
    assert other.content["wave"] is tokens.content["wave"]
    assert not torch.equal(other.content["ids"], tokens.content["ids"])


def test_moving_keeps_everything():
    tokens = batch(toys(), toy_raws())
    tokens.layout.place_T, tokens.layout.start_S  # noqa: B018  (cached values must not travel)
    moved = tokens.to("cpu")
    assert torch.equal(moved.layout.place_T, tokens.layout.place_T)
    assert moved.runs == tokens.runs


def test_every_index_lives_where_the_tokens_live():
    """On a device without data: only a tensor made on the wrong device can fail here."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    tokens = batch(toys(), toy_raws())
    assert len(tokens.number_T) == len(tokens)  # counted on the host, where the data are
    with FakeTensorMode(allow_non_fake_inputs=True):
        moved = tokens.to("cuda")
        layout = moved.layout
        tensors = [
            *moved.content.values(),
            *moved.index.values(),
            moved.number_T,
            layout.place_T,
            layout.start_S,
            layout.unit_T,
        ]
        assert {t.device.type for t in tensors} == {"cuda"}
