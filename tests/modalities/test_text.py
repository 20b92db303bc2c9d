"""Text: ids and words as the tokenizers library makes them, records of every kind of file, and what is refused."""

import copy
import gzip
import json
import logging
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Record
from mmm.core.objective import Answer
from mmm.core.tokens import Sample, pack
from mmm.modalities._ids import Embedding
from mmm.modalities.text import Text

SENTENCES = (
    "The cat sat on the mat and looked at the unhappy dog.",
    "A dog, unhappily, looked back at the cat!",
    "Nobody knows why the mat was there; the cat doesn't care.",
    "Numbers such as 12, 345 and 6789 are words as well.",
) * 5
ALGORITHMS = ("bpe", "unigram", "wordpiece")


def records(texts=SENTENCES):
    return [Record("memory", i, t, t.encode()) for i, t in enumerate(texts)]


def fitted(texts=SENTENCES, vocabulary=400, **arguments):
    text = Text(vocabulary=vocabulary, **arguments)
    text.fit(records(texts))
    return text


@pytest.fixture(scope="module")
def bpe():
    return fitted()


def read(path, **arguments):
    return list(Text(vocabulary=400, **arguments).tokenizer.records(path))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_trained_vocabulary_frames_texts_and_gives_them_back(algorithm):
    tokenizer = fitted(vocabulary=300, algorithm=algorithm).tokenizer
    assert [tokenizer.model.id_to_token(i) for i in range(5)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for text in (*SENTENCES[:2], "the cat"):
        piece = tokenizer.tokenize(text)
        ids = piece.content.tolist()
        assert ids[0] == 2
        assert ids[-1] == 3
        assert 1 not in ids
        assert piece.positions.tolist() == list(range(len(ids)))
        assert piece.maskable.tolist() == [False] + [True] * (len(ids) - 2) + [False]
        assert tokenizer.detokenize(piece.content).replace(" ", "") == text.replace(" ", "")
    assert set(tokenizer.choices.tolist()) == set(range(5, tokenizer.size))


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1).filter(lambda t: t.strip() and "\0" not in t and "[" not in t))
def test_byte_level_bpe_gives_every_text_back_exactly(bpe, text):
    piece = bpe.tokenizer.tokenize(text)
    if len(piece) < 512:
        assert bpe.tokenizer.detokenize(piece.content) == text
    assert len(piece) == bpe.tokenizer.length(Record("", None, text, b""))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_training_gives_the_same_ids_in_every_process(algorithm):
    code = (
        "import hashlib; from mmm.core.modality import Record; from mmm.modalities.text import Text\n"
        f"t = Text(vocabulary=300, algorithm={algorithm!r})\n"
        f"t.fit([Record('', i, s, b'') for i, s in enumerate({SENTENCES!r})])\n"
        "print(hashlib.sha256(t.assets()['tokenizer.json']).hexdigest())"
    )
    hashes = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(hashes) == 1


def test_specials_stay_specials_whatever_device_is_the_default():
    assets = fitted(["un able cat"], vocabulary=270).assets()
    text = Text(vocabulary=270)
    with torch.device("meta"):
        text.restore(assets)
    piece = text.tokenizer.tokenize("un able")
    assert piece.maskable[[0, -1]].tolist() == [False, False]
    assert bool(piece.maskable[1:-1].all())


def test_words_are_units_and_specials_stand_alone():
    tokenizer = fitted(["un able cat"], vocabulary=270, algorithm="bpe", unit="word").tokenizer
    piece = tokenizer.tokenize("catatonic cat!")
    tokens = [tokenizer.model.id_to_token(i) for i in piece.content.tolist()]
    words = {}
    for token, unit in zip(tokens, piece.units.tolist(), strict=True):
        words[unit] = words.get(unit, "") + token
    assert list(words.values()) == ["[CLS]", "catatonic", "Ġcat", "!", "[SEP]"]
    assert list(words) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_mask_written_in_a_text_is_the_mask(algorithm):
    tokenizer = fitted(vocabulary=300, algorithm=algorithm, unit="word").tokenizer
    piece = tokenizer.tokenize("a [MASK] b")
    at = piece.content.tolist().index(tokenizer.mask)
    assert piece.content.tolist().count(tokenizer.mask) == 1
    assert not piece.maskable[at]
    assert piece.units.tolist().count(piece.units[at].item()) == 1
    assert tokenizer.detokenize(piece.content).replace(" ", "") == "a[MASK]b"


def test_only_what_stands_around_a_text_is_left_out_of_it(bpe):
    for text in ("a [SEP] b [MASK] [CLS] c", "[SEP]a[SEP]", "[CLS]"):
        assert bpe.tokenizer.detokenize(bpe.tokenizer.tokenize(text).content) == text
    assert bpe.tokenizer.detokenize(bpe.tokenizer.tokenize(("the cat", "a dog")).content) == "the cat[SEP]a dog"
    assert bpe.tokenizer.detokenize(torch.tensor([bpe.tokenizer.sep, bpe.tokenizer.cls])) == "[SEP][CLS]"


def test_long_texts_are_cut_by_their_own_draw_and_it_is_said_once(caplog):
    tokenizer = fitted(max_length=16).tokenizer
    text = " ".join(SENTENCES)
    whole = fitted(max_length=4000).tokenizer.tokenize(text).content.tolist()[1:-1]
    with caplog.at_level(logging.WARNING, logger="mmm"):
        pieces = [tokenizer.tokenize(text, Draw(0).at(record)).content.tolist() for record in range(20)]
    assert len(caplog.records) == 1
    assert "cut to the 14" in caplog.text
    assert tokenizer.window.cuts == 20
    starts = set()
    for ids in pieces:
        assert len(ids) == 16
        assert (ids[0], ids[-1]) == (2, 3)
        starts |= {i for i in range(len(whole)) if whole[i : i + 14] == ids[1:-1]}
    assert len(starts) > 10
    again = [tokenizer.tokenize(text, Draw(0).at(record)).content.tolist() for record in reversed(range(20))]
    assert again == pieces[::-1]
    assert tokenizer.tokenize(text).content.tolist()[1:-1] == whole[:14]
    assert tokenizer.length(records([text])[0]) == 16


def test_the_size_is_the_one_asked_for_until_it_is_known():
    text = Text(vocabulary=20000, norm=True)
    assert text.tokenizer.size == 20000
    assert len(text.tokenizer.choices) == 20000 - 5
    with torch.device("meta"):
        text.build(8)
    assert text.tied().shape == (20000, 8)
    with pytest.raises(ValueError, match="no vocabulary yet"):
        text.tokenizer.tokenize("a")
    assert fitted(vocabulary=20000).tokenizer.size < 1000


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_assets_and_pickles_hold_the_vocabulary(algorithm):
    text = fitted(vocabulary=300, algorithm=algorithm)
    restored = Text(vocabulary=300, algorithm=algorithm)
    restored.restore(text.assets())
    pickled = pickle.loads(pickle.dumps(text.tokenizer))
    want = text.tokenizer.tokenize(SENTENCES[1]).content
    for other in (restored.tokenizer, pickled):
        assert torch.equal(other.tokenize(SENTENCES[1]).content, want)
        assert torch.equal(other.choices, text.tokenizer.choices)
    assert restored.assets() == text.assets()


def test_a_pretrained_tokenizer_keeps_its_own_specials(tmp_path):
    from transformers import PreTrainedTokenizerFast

    names = {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>", "unk_token": "<unk>", "pad_token": "<pad>"}
    source = fitted().tokenizer.model
    PreTrainedTokenizerFast(tokenizer_object=source, **names).save_pretrained(tmp_path / "own")
    text = Text(pretrained=str(tmp_path / "own"), max_length=64)
    piece = text.tokenizer.tokenize("the <mask> sat")
    assert [text.tokenizer.model.id_to_token(i) for i in piece.content[[0, -1]].tolist()] == ["<s>", "</s>"]
    assert piece.content.tolist().count(text.tokenizer.mask) == 1
    assert text.tokenizer.detokenize(piece.content) == "the <mask> sat"
    assert not set(text.tokenizer.choices.tolist()) & set(text.tokenizer.specials.tolist())
    text.fit([])
    elsewhere = Text(pretrained="a folder that is gone", max_length=64)
    elsewhere.restore(text.assets())
    assert torch.equal(elsewhere.tokenizer.tokenize("the <mask> sat").content, piece.content)

    del names["mask_token"]
    PreTrainedTokenizerFast(tokenizer_object=source, **names).save_pretrained(tmp_path / "causal")
    with pytest.raises(BadRecipe, match="no mask token"):
        Text(pretrained=str(tmp_path / "causal")).fit([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadRecipe, match="no tokenizer could be loaded"):
        Text(pretrained=str(tmp_path / "empty")).fit([])


def test_a_tokenizer_without_words_is_refused():
    from tokenizers import Tokenizer, models

    assets = fitted().assets()
    model = Tokenizer(models.WordLevel({}))
    model.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    with pytest.raises(BadRecipe, match="the tokenizer has 5 special tokens and no other"):
        Text().restore(assets | {"tokenizer.json": model.to_str().encode()})


def test_a_pretrained_tokenizer_neither_cuts_nor_pads_by_itself():
    text = fitted()
    model = copy.deepcopy(text.tokenizer.model)
    model.enable_truncation(2)
    model.enable_padding(length=9)
    other = Text(vocabulary=400)
    other.restore(text.assets() | {"tokenizer.json": model.to_str().encode()})
    for sentence in ("a", SENTENCES[0]):
        assert torch.equal(other.tokenizer.tokenize(sentence).content, text.tokenizer.tokenize(sentence).content)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"vocabulary": 100}, "bpe needs 261"),
        ({"vocabulary": 5, "algorithm": "unigram"}, "needs 6"),
        ({"max_length": 2}, "max_length=2"),
        ({"record_words": 0}, "record_words=0"),
    ],
)
def test_recipes_that_cannot_be(arguments, match):
    with pytest.raises(BadRecipe, match=match):
        Text(**arguments)


@pytest.mark.parametrize("algorithm", ["unigram", "wordpiece"])
def test_a_vocabulary_smaller_than_the_alphabet(algorithm):
    with pytest.raises(ValueError, match="so many characters"):
        fitted(vocabulary=20, algorithm=algorithm)
    with pytest.raises(ValueError, match="no record"):
        fitted([], algorithm=algorithm)


# records of files


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=8), st.integers(1, 30), st.booleans()
)
def test_plain_text_keeps_every_word_in_records_of_the_asked_size(tmp_path_factory, paragraphs, words, packed):
    """Paragraphs of sentences of so many words each."""
    number = iter(range(10**6))
    text = "\n\n".join(
        "\n".join(" ".join(f"w{next(number)}" for _ in range(n)) + "." for n in sentences) for sentences in paragraphs
    )
    path = tmp_path_factory.mktemp("text") / ("a.txt.gz" if packed else "a.txt")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = read(path, record_words=words)
    assert " ".join(r.raw for r in found).split() == text.split()
    sizes = [len(r.raw.split()) for r in found]
    assert all(words <= s < 2 * words for s in sizes[:-1])
    assert len(sizes) == 1 or words <= sizes[-1] < 3 * words
    assert [r.record for r in found] == list(range(1, len(found) + 1))


def test_paragraphs_stay_whole_where_they_fit(tmp_path):
    short, long = "one two three.", "A b c d. E f g h. I j k l."
    (tmp_path / "a.txt").write_text(f"\ufeff{short}\r\n\r\n{short}\n\n{long}\n\n{short}")
    found = [r.raw for r in read(tmp_path / "a.txt", record_words=6)]
    assert found == [f"{short}\n\n{short}", "A b c d. E f g h.", f"I j k l.\n\n{short}"]
    assert read(tmp_path / "a.txt", record_words=6)[0].key == found[0].encode()


def test_json_lines(tmp_path):
    rows = [{"text": "a b", "label": "good"}, {"text": "Zoë\n\n\u2028x", "other": 1}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows))
    found = read(tmp_path / "a.jsonl")
    assert [(r.record, r.raw, r.label) for r in found] == [(1, "a b", "good"), (2, "Zoë\n\n\u2028x", None)]
    assert read(tmp_path / "a.jsonl", field="text")[0].sample == found[0].sample


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream", "feather"])
def test_tables(tmp_path, kind):
    import pyarrow as pa
    from pyarrow import feather, ipc, parquet

    table = pa.table({"text": ["a b", "c"], "label": [1, 0], "more": [None, 1.5]})
    path = tmp_path / {"stream": "a.arrow"}.get(kind, f"a.{kind}")
    if kind == "parquet":
        parquet.write_table(table, path)
    elif kind == "feather":
        feather.write_feather(table, path)
    else:
        new = ipc.new_stream if kind == "stream" else ipc.new_file
        with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
    assert [(r.record, r.raw, r.label) for r in read(path)] == [(0, "a b", 1), (1, "c", 0)]
    with pytest.raises(BadRecord, match="no column 'body'; its columns: text, label, more"):
        read(path, field="body")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadRecord, match="cannot be read"):
        read(path)


def test_a_table_with_gaps(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": ["a", None]}), tmp_path / "a.parquet")
    with pytest.raises(BadRecord, match=r"a\.parquet, record 1: the text is NoneType"):
        read(tmp_path / "a.parquet")
    bad = pa.array([b"a", b"\xff"], pa.binary()).cast(pa.large_binary()).view(pa.large_string())
    parquet.write_table(pa.table({"text": bad}), tmp_path / "a.parquet")
    with pytest.raises(BadRecord, match=r"record 1: byte 0 of the text is not UTF-8"):
        read(tmp_path / "a.parquet")


MALFORMED = [
    ("a.txt", b"fine\nsm\xf6rg\xe5s", r"line 2, byte 7 \(0xf6\): not UTF-8"),
    ("a.txt", "word".encode("utf-16"), "UTF-16"),
    ("a.txt", b"one\n\0two", "line 2, byte 4: a NUL"),
    ("a.txt", b" \n\n", "no text in it"),
    ("a.txt", b"", "no text in it"),
    ("a.txt.gz", b"no gzip", "broken gzip"),
    ("a.txt.gz", gzip.compress(b"one two three" * 99, mtime=0)[:30], "broken gzip"),
    ("a.jsonl", b'{"text": "a"}\n\n{"text": "b"}', "record 2: an empty line"),
    ("a.jsonl", b'{"text": "a"}\n{"text": ', "record 2: no JSON object"),
    ("a.jsonl", b'["a"]', "record 1: a JSON list"),
    ("a.jsonl", b'{"body": "a", "x": 1}', "record 1: has no key 'text'; its keys: body, x"),
    ("a.jsonl", b'{"text": 1}', "record 1: the text is int"),
    ("a.jsonl", b'{"text": null}', "record 1: the text is NoneType"),
    ("a.jsonl", b'{"text": " "}', "record 1: the text is empty"),
    ("a.jsonl", b'{"text": "a\\u0000"}', "record 1: a NUL character at place 1"),
    ("a.jsonl", b'{"text": "ab\\ud800"}', r"record 1: half of a surrogate pair \('\\ud800'\) at place 2"),
    ("a.jsonl", b"[" * 100_000, "record 1: no JSON object"),
    ("a.jsonl", b"", "no text in it"),
]


@pytest.mark.parametrize(("name", "data", "match"), MALFORMED)
def test_malformed_files_are_named_in_one_line(tmp_path, name, data, match):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadRecord, match=match) as error:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_line_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("mmm.modalities._ids.MAX_LINE", 1000)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a\n" + b"b" * 10**6, mtime=0))
    with pytest.raises(BadRecord, match="line 2, byte 2: longer than 1000"):
        read(tmp_path / "a.txt.gz")


@pytest.mark.parametrize("raw", [None, 3, b"bytes", "", " \n", "a\0", "\ud800"])
def test_raw_values_that_are_no_text(bpe, raw):
    with pytest.raises(ValueError, match="text"):
        bpe.tokenizer.tokenize(raw)


# embedding


def packed(text, texts):
    return pack([Sample({"text": text.tokenizer.tokenize(t)}, sample=i) for i, t in enumerate(texts)], {"text": text.tokenizer})


@pytest.mark.parametrize("positions", ["none", "learned", "sinusoidal"])
@pytest.mark.parametrize("norm", [False, True])
def test_embedding_packed_is_embedding_alone(positions, norm):
    text = fitted(max_length=64, positions=positions, norm=norm)
    text.build(16)
    tokens = packed(text, SENTENCES[:4])
    hidden_N = Draw(1).per_token(tokens.layout) < 0.3
    part = tokens.part("text")
    x_ND = text.embed(part.content_R, part.layout_N, hidden_N)
    for s in range(4):
        alone = tokens.segment(s).part("text")
        own = tokens.layout.segment_T == s
        torch.testing.assert_close(text.embed(alone.content_R, alone.layout_N, hidden_N[own]), x_ND[own], rtol=0, atol=0)
    x_ND.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in text.parameters())


def test_hidden_tokens_are_embedded_as_the_mask_id(bpe):
    bpe.build(8)
    part = packed(bpe, ["the cat"]).part("text")
    hidden_N = torch.tensor([False, True, *[False] * (len(part.layout_N) - 2)])
    x_ND = bpe.embed(part.content_R, part.layout_N, hidden_N)
    assert torch.equal(x_ND[1], bpe.tied()[bpe.tokenizer.mask])
    assert torch.equal(x_ND[2], bpe.tied()[part.content_R[2]])


def test_pictures_mark_what_was_hidden_and_judge_what_was_said(bpe):
    tokens = packed(bpe, ["the cat sat on the mat"])
    ids = tokens.content["text"]
    hidden_N = torch.zeros(len(ids), dtype=torch.bool)
    hidden_N[2:4] = True
    answer_N = torch.tensor([2, 3])
    output_NV = torch.zeros(2, bpe.tokenizer.size)
    output_NV[0, ids[2]] = 1
    output_NV[1, ids[1]] = 1
    answer = Answer("text", None, "", answer_N, output_NV, ids[answer_N], torch.zeros(2), torch.ones(2))
    original, masked, filled = bpe.pictures(tokens, "text", hidden_N, [answer])
    assert original.words == (("the cat sat on the mat", "seen", ""),)
    assert [w[:2] for w in masked.words[:3]] == [("the", "seen"), ("[MASK]", "hidden"), ("[MASK]", "hidden")]
    assert filled.words[1] == ("cat", "right", "cat")
    assert filled.words[2] == ("the", "wrong", "sat")
    assert filled.caption == "filled: 1 of 2 right"


def test_two_texts_are_one_record():
    """[CLS] a [SEP] b [SEP], the second of type 1, and the longer one cut first."""
    text = Text(vocabulary=300, max_length=12, positions="learned", embedding=Embedding(types=2))
    text.fit([Record("", i, s, s.encode()) for i, s in enumerate(SENTENCES)])
    tokenizer = text.tokenizer
    a, b = (tokenizer.tokenize(s) for s in ("cat", "b"))
    piece = tokenizer.tokenize(("cat", "b"))
    assert piece.content.tolist() == a.content.tolist() + b.content.tolist()[1:]
    assert piece.positions.tolist() == [[int(i >= len(a)), i] for i in range(len(piece))]
    assert a.positions.tolist() == [[0, i] for i in range(len(a))]
    long = tokenizer.tokenize((SENTENCES[0] * 5, "b"))
    assert long.cut
    assert len(long) == 12 == tokenizer.length(Record("", 0, (SENTENCES[0] * 5, "b"), b""))
    assert long.content.tolist()[-2:] == b.content.tolist()[-2:]
    text.build(8)
    layout = pack([Sample({"text": piece})], {"text": tokenizer})
    part, hidden = layout.part("text"), torch.zeros(len(piece), dtype=torch.bool)
    before = text.embed(part.content_R, part.layout_N, hidden)
    with torch.no_grad():
        text.kind.weight[1] += 1
    changed = (text.embed(part.content_R, part.layout_N, hidden) != before).any(1)
    assert changed.tolist() == [i >= len(a) for i in range(len(piece))]
    with pytest.raises(ValueError, match="the text is empty"):
        tokenizer.tokenize(("a", ""))


def test_tables_may_have_more_rows_than_ids():
    text = Text(vocabulary=300, embedding=Embedding(rows=320, width=16))
    text.fit([Record("", i, s, s.encode()) for i, s in enumerate(SENTENCES)])
    text.build(8)
    assert text.tokenizer.size == len(text.tied()) == 320
    assert text.tied().shape[1] == 16
    assert int(text.tokenizer.choices.max()) < 300
    text.tokenizer.rows = 9
    with pytest.raises(BadRecipe, match=r"rows=9.*belongs to another model"):
        text.build(8)
