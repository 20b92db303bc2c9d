"""The modality: the conformance kit, one rate, gaps and missing leads, identities, pictures."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from ecg_records import beats, records, write_npz, write_wfdb
from mmm_ecg.ecg import Ecg
from mmm_ecg.recording import Recording, in_order, lead_names

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Record
from mmm.core.objective import Answer
from mmm.core.tokens import Sample, pack
from mmm.core.view import View
from mmm.corruptions.drop import Drop
from mmm.corruptions.mask_vector import MaskVector
from mmm.decoders.transformer_decoder import TransformerDecoder
from mmm.masking.block import Block
from mmm.masking.span import Span
from mmm.masking.uniform import Uniform
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.targets.pixels import Pixels
from mmm.testing import (
    batch,
    check_corruption,
    check_files,
    check_learns,
    check_masking,
    check_modality,
    check_objective,
    check_target,
    damaged,
    tiny_model,
    toy_raws,
    toys,
)

RAWS = [
    beats(("I", "II"), 2.8, seed=1),
    beats(("II",), 2.0, seed=2),
    beats(("V1", "II", "I"), 2.4, seed=3, gap=(0, 100, 200)),
    beats(("II", "I"), 2.0, rate=500, seed=4),
]
SMALL = {"rate": 100, "seconds": 3, "patch": 10}


def fitted(raws=RAWS, **arguments) -> Ecg:
    ecg = Ecg(**{**SMALL, **arguments})
    ecg.fit(records(raws))
    return ecg


# -- the kit -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", ["lead", "record"])
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("positions", ["none", "sinusoidal"])
def test_modality_conforms(normalise: str, together: bool, positions: str) -> None:
    ecg = Ecg(**SMALL, normalise=normalise, together=together, positions=positions)
    check_modality(ecg, RAWS, records(RAWS), same=None)


def test_one_lead_comes_back() -> None:
    raws = [beats(seconds=s, rate=100, seed=i) for i, s in enumerate((1.0, 2.5, 3.0))]

    def same(raw: Recording, back: torch.Tensor) -> bool:
        return torch.allclose(torch.from_numpy(raw.sample_LM[0]), back, atol=1e-5)

    check_modality(Ecg(**SMALL), raws, records(raws), same=same)


@pytest.mark.parametrize("normalise", [False, True])
def test_pixels_is_a_target_of_it(normalise: bool) -> None:
    check_target(Pixels(normalise), "ecg", batch({"ecg": fitted()}, [{"ecg": raw} for raw in RAWS]))


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("masking", [Uniform(0.4), Span(0.4), Block(0.4)], ids=lambda m: type(m).__name__)
def test_maskings_that_were_never_told_of_it_conform(masking, together: bool) -> None:
    modalities = {**toys(), "ecg": fitted(together=together)}
    tokens = batch(modalities, [*toy_raws(), *({"ecg": raw} for raw in RAWS)])
    check_masking(masking, tokens)
    hidden_T = masking.hidden(tokens, 0.5, Draw(0))
    for corruption in (MaskVector(), Drop()):
        check_corruption(corruption, tokens, hidden_T)


def test_masked_modelling_conforms_and_learns() -> None:
    """As SimMIM and as MAE, with gaps in the batch."""
    for corruption, decoder in ((MaskVector(), None), (Drop(), TransformerDecoder(16, 1, 2))):
        model = tiny_model({"ecg": fitted()}, decoder=decoder)
        objective = MaskedModeling(Uniform(0.5), corruption, {"ecg": Pixels()})
        objective.setup(model)
        tokens = batch({"ecg": model.modalities["ecg"]}, [{"ecg": raw} for raw in RAWS])
        check_objective(objective, model, tokens)
        check_learns(objective, model, tokens)


@pytest.mark.parametrize("ending", ["hea", "npz", "npy", "csv"])
def test_twenty_damaged_files(tmp_path: Path, ending: str) -> None:
    if ending == "hea":
        good = write_wfdb(tmp_path, "good", beats(("I", "II"), 5))
    else:
        good = tmp_path / f"good.{ending}"
        sample_RM = np.stack([beats(rate=100, seconds=2, seed=i).sample_LM[0] for i in range(3)])
        if ending == "npz":
            np.savez(good, signals=sample_RM)
        elif ending == "npy":
            np.save(good, sample_RM)
        else:
            np.savetxt(good, sample_RM, delimiter=",", fmt="%.5f")
    ecg = Ecg(**SMALL)
    ecg.fit(list(ecg.tokenizer.records(good)))
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "good.dat").write_bytes((tmp_path / "good.dat").read_bytes() if ending == "hea" else b"")
    check_files(ecg, good, folder)
    assert len(list(damaged(good.read_bytes()))) == 20


def test_a_damaged_signal_file(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, "a", beats(("I", "II"), 2))
    whole = (tmp_path / "a.dat").read_bytes()
    for data in (b"", whole[:1], whole[:-1], whole[: len(whole) // 2]):
        (tmp_path / "a.dat").write_bytes(data)
        with pytest.raises(BadRecord, match=r"a\.hea: its signal file a\.dat is truncated"):
            list(Ecg().tokenizer.records(path))


# -- tokens --------------------------------------------------------------------------------------------------------------------


def test_a_token_is_a_patch_of_a_lead_and_positions_say_which() -> None:
    ecg = fitted([beats(("V1", "II"), 1.0, rate=100)])
    assert ecg.tokenizer.known == ("II", "V1")
    raw = np.arange(50, dtype=np.float32)
    piece = ecg.tokenizer.tokenize(Recording(np.stack([raw, -raw]), Fraction(100), ("V1", "II")))
    assert piece.positions.tolist() == [[j, lead] for j in range(5) for lead in (0, 1)]
    traces = ecg.tokenizer.traces(piece.content, piece.positions)
    assert list(traces) == ["II", "V1"]
    assert torch.allclose(traces["II"], -torch.from_numpy(raw), atol=1e-4)
    assert torch.allclose(traces["V1"], torch.from_numpy(raw), atol=1e-4)
    with pytest.raises(ValueError, match="call traces"):
        ecg.tokenizer.detokenize(piece.content)


def test_each_lead_has_its_own_mean_and_deviation() -> None:
    draws = [np.random.default_rng(i).normal([[0.1], [3.0]], [[0.5], [2.0]], (2, 300)) for i in range(50)]
    raws = [Recording(sample_LM.astype(np.float32), Fraction(100), ("I", "II")) for sample_LM in draws]
    ecg = fitted(raws)
    assert ecg.tokenizer.mean == pytest.approx((0.1, 3.0), abs=0.05)
    assert ecg.tokenizer.deviation == pytest.approx((0.5, 2.0), abs=0.05)
    content = torch.stack([ecg.tokenizer.tokenize(raw).content for raw in raws])
    assert abs(float(content.mean())) < 1e-3
    assert float(content.std()) == pytest.approx(1, abs=1e-2)


def test_a_record_normalised_by_itself_has_no_scale() -> None:
    ecg = fitted(normalise="record")
    raw = beats(("II",), 2.0)
    other = Recording(raw.sample_LM * 40 - 7, raw.rate, raw.leads)
    one, two = (ecg.tokenizer.tokenize(r).content for r in (raw, other))
    assert torch.allclose(one, two, atol=1e-3)
    flat = Recording(np.full((1, 200), 3.0, np.float32), Fraction(100), ("II",))
    assert ecg.tokenizer.tokenize(flat).content.abs().max() < 1e-4


def test_a_gap_is_a_token_that_is_never_hidden_and_shows_nothing() -> None:
    ecg = fitted()
    whole, gappy = beats(("I", "II"), 2.0, rate=100), beats(("I", "II"), 2.0, rate=100, gap=(0, 55, 56))
    piece = ecg.tokenizer.tokenize(gappy)
    assert piece.positions[~piece.maskable].tolist() == [[5, 0]]
    assert len(piece) == len(ecg.tokenizer.tokenize(whole)) == 40
    assert piece.content[~piece.maskable].abs().sum() == 0
    ecg.build(8)
    tokens = batch({"ecg": ecg}, [{"ecg": gappy}])
    part = tokens.part("ecg")
    none_N = torch.zeros(40, dtype=torch.bool)
    shown = ecg.embed(part.content_R, part.layout_N, none_N)
    hidden = ecg.embed(part.content_R, part.layout_N, ~none_N)
    at = (part.layout_N.position_TC[:, -2:] == torch.tensor([5.0, 0.0])).all(1)
    assert torch.equal(shown[at], hidden[at])
    assert not (shown == hidden)[~at].all(1).any()


def test_together_a_moment_is_hidden_whole() -> None:
    tokens = batch({"ecg": fitted(together=True)}, [{"ecg": raw} for raw in RAWS])
    hidden_T = Uniform(0.5).hidden(tokens, 0.0, Draw(3))
    moment_T = torch.stack([tokens.layout.segment_T, tokens.layout.position_TC[:, -2].long()], 1)
    for moment in moment_T.unique(dim=0):
        assert len(hidden_T[(moment_T == moment).all(1)].unique()) == 1
    assert 0.3 < hidden_T.float().mean() < 0.6


@pytest.mark.parametrize("rate", [100, 125, 128, 250, 257, 360, 500, 1000, 62.5])
def test_one_rate(rate: float) -> None:
    """A slow sine and an offset are the same at any rate, to the ends of the recording."""
    time = np.arange(int(2.53 * rate)) / rate
    raw = Recording((5 + np.sin(2 * np.pi * time * 1.6))[None].astype(np.float32), Fraction(str(rate)), ("II",))
    ecg = fitted([raw])
    back = ecg.tokenizer.detokenize(ecg.tokenizer.tokenize(raw).content)
    assert len(back) == 250
    error = back - (5 + torch.sin(2 * torch.pi * torch.arange(250) / 100 * 1.6))
    assert error[20:-20].abs().max() < 0.01
    assert error.abs().max() < 0.6  # where the sine is cut off in mid-air


def test_longer_recordings_are_cropped_where_the_draw_says(caplog: pytest.LogCaptureFixture) -> None:
    ecg = fitted([beats(rate=100, seconds=2)])
    raw = Recording(np.arange(1000, dtype=np.float32)[None], Fraction(100), ("II",))
    first, second, none = (ecg.tokenizer.tokenize(raw, draw) for draw in (Draw(0).at(1), Draw(0).at(2), None))
    assert all(piece.cut and len(piece) == 30 for piece in (first, second, none))
    starts = [float(ecg.tokenizer.detokenize(piece.content)[0]) for piece in (first, second, none)]
    assert starts[2] == pytest.approx(0, abs=1e-3)
    assert len({round(s) for s in starts}) == 3
    assert caplog.text.count("is cropped to 3.0 s") == 1


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (beats(("V9",)), "'V9' is in no training record"),
        (beats(seconds=0.05), "too short: a patch is 0.1 s"),
        (beats(gap=(0, 0, 9999)), "no patch of any lead is without a gap"),
        (Recording(np.full((1, 300), np.inf), Fraction(100), ("II",)), "no numbers"),
        (beats(rate=62.4725), "no simple ratio"),
        (np.zeros((3, 100)), "3 leads without names"),
        (np.zeros((2, 3, 100)), "choices: a Recording"),
        ("there is none.npz", "cannot be read"),
        ({"II": [1]}, "choices: a Recording"),
    ],
)
def test_raw_values_that_cannot_be_used(raw, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        fitted([beats()]).tokenizer.tokenize(raw)


@pytest.mark.parametrize(
    "arguments", [{"leads": "II"}, {"rate": 0}, {"patch": 1}, {"seconds": 0.1, "patch": 20}, {"file_rate": -1.0}]
)
def test_arguments_that_cannot_be_used(arguments) -> None:
    with pytest.raises(BadRecipe, match="Ecg"):
        Ecg(**arguments)


def test_assets_bring_everything_back() -> None:
    ecg, other = fitted(), Ecg(**SMALL)
    other.restore(ecg.assets())
    for attribute in ("known", "mean", "deviation"):
        assert getattr(other.tokenizer, attribute) == getattr(ecg.tokenizer, attribute)
    with pytest.raises(ValueError, match="call fit or restore"):
        Ecg(**SMALL).tokenizer.tokenize(RAWS[0])


def test_names_of_leads() -> None:
    assert lead_names([" avr", "V1", "v1 ", "MLII"]) == ("aVR", "V1", "V1 (2)", "MLII")
    assert in_order(["V2", "MLII", "aVR", "I"]) == ("I", "aVR", "V2", "MLII")


# -- files ---------------------------------------------------------------------------------------------------------------------


def test_a_long_record_is_cut_into_stretches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mmm")
    recording = beats(("I", "II"), 10.04, gap=(slice(None), 750, 1500))
    path = write_wfdb(tmp_path, "a", recording, 212)
    ecg = Ecg(**SMALL)
    found = list(ecg.tokenizer.records(path))
    assert [r.record for r in found] == ["at 0 s", "at 6 s", "at 9 s"]  # nothing but a gap from 3 s to 6 s
    assert "1 of 4 stretches are left out" in caplog.text
    ecg.fit(found)
    assert [ecg.tokenizer.length(r) for r in found] == [60, 60, 20]
    traces = ecg.tokenizer.traces(*(getattr(ecg.tokenizer.tokenize(found[1].raw), f) for f in ("content", "positions")))
    direct, _ = ecg.tokenizer.patches(Recording(recording.sample_LM[:, 1500:2250], Fraction(250), ("I", "II")))
    assert torch.allclose(torch.stack([*traces.values()]), direct.flatten(1), atol=2e-3)
    with pytest.raises(BadRecord, match="too short"):
        list(ecg.tokenizer.records(write_wfdb(tmp_path, "b", beats(seconds=0.05))))


def test_identity_is_the_content_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    recording = beats(("I", "II"), 2)
    swapped = Recording(recording.sample_LM[::-1], recording.rate, ("II", "I"))
    keys = [
        [r.key for r in Ecg(**SMALL).tokenizer.records(path)]
        for path in (
            write_wfdb(tmp_path, "a", recording, 16),
            write_wfdb(tmp_path, "b", recording, 212),
            write_wfdb(tmp_path / "other", "a", swapped, 16),
            write_wfdb(tmp_path / "other", "c", beats(("I", "II"), 2, seed=9), 16),
        )
    ]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_arrays(tmp_path: Path) -> None:
    path = write_npz(tmp_path, 4)
    found = list(Ecg(**SMALL).tokenizer.records(path))
    assert [(r.record, r.label) for r in found] == list(enumerate(np.load(path)["labels"].tolist()))
    np.save(tmp_path / "two.npy", np.zeros((5, 2, 100)))
    with pytest.raises(BadRecord, match=r"two\.npy: 2 leads without names"):
        list(Ecg(**SMALL).tokenizer.records(tmp_path / "two.npy"))
    ecg = Ecg(**SMALL, leads=["v1", "II"], file_rate=200)
    found = list(ecg.tokenizer.records(tmp_path / "two.npy"))
    ecg.fit(found)
    assert ecg.tokenizer.known == ("II", "V1")
    assert len(ecg.tokenizer.tokenize(found[0].raw)) == 2 * 5  # 0.5 s
    (tmp_path / "rows.csv").write_text("label,a,b,c\nx,1,,3\ny,4,5,6\n")
    found = list(Ecg(**SMALL).tokenizer.records(tmp_path / "rows.csv"))
    assert [r.label for r in found] == ["x", "y"]
    recording, _ = Ecg(**SMALL).tokenizer.crop(found[0].raw)
    assert np.array_equal(recording.sample_LM, [[1, np.nan, 3]], equal_nan=True)
    assert recording.leads == ("ECG",)


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"signals": np.zeros(3)}, "expected numbers"),
        ({"signals": np.array([["a", "b"]])}, "expected numbers"),
        ({"signal": np.zeros((2, 9))}, "no array `signals`, but signal"),
        ({"signals": np.zeros((2, 9)), "rates": np.array(1)}, "holds an array 'rates'"),
        ({"signals": np.zeros((2, 9)), "rate": np.array(-1)}, "rate is"),
        ({"signals": np.zeros((2, 9)), "labels": np.array(["a"])}, "labels are"),
        ({"signals": np.zeros((2, 3, 9)), "leads": np.array(["I", "II"])}, "leads are"),
        ({"signals": np.array([[{}, 1]], dtype=object)}, "plain arrays"),
    ],
)
def test_archives_that_cannot_be_used(tmp_path: Path, arrays, word: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(BadRecord, match=word):
        list(Ecg().tokenizer.records(tmp_path / "bad.npz"))


def test_cells_of_a_table_are_files_of_one_record(tmp_path: Path) -> None:
    ecg = Ecg(**SMALL)
    write_wfdb(tmp_path, "long", beats(seconds=9))
    np.save(tmp_path / "one.npy", beats(rate=100).sample_LM)
    np.save(tmp_path / "two.npy", np.zeros((2, 100)))
    found = [ecg.tokenizer.cell(name, tmp_path / "t.csv", 1) for name in ("long.hea", "one.npy")]
    ecg = Ecg(**SMALL)
    ecg.fit(found[:1])
    assert ecg.tokenizer.tokenize(found[0].raw).cut
    for name, word in (("two.npy", "holds 2 records"), ("none.hea", "no file 'none.hea'")):
        with pytest.raises(BadRecord, match=word):
            ecg.tokenizer.cell(name, tmp_path / "t.csv", 1)


def test_a_record_of_training_that_cannot_be_read_is_named() -> None:
    with pytest.raises(BadRecord, match="memory, record 0: too short"):
        Ecg(**SMALL).fit([Record("memory", 0, beats(seconds=0.01), b"")])


# -- what is shown, and several modalities in one record -----------------------------------------------------------------------


def test_pictures() -> None:
    ecg = fitted()
    tokens = batch({"ecg": ecg}, [{"ecg": RAWS[2]}])
    hidden_T = Uniform(0.5).hidden(tokens, 0.0, Draw(0))
    answer_N = hidden_T.nonzero()[:, 0]
    target = Pixels()
    target.bind("ecg", ecg.tokenizer)
    truth_NV = target.truth(tokens, answer_N)
    answer = Answer("ecg", target, "ecg/Pixels", answer_N, truth_NV, truth_NV, truth_NV.mean(1), torch.ones(len(answer_N)))
    original, masked, filled = ecg.pictures(tokens, "ecg", hidden_T, [answer])
    assert original.caption == "original: I, II, V1, 2.4 s"
    assert original.pixels.shape == masked.pixels.shape == filled.pixels.shape
    assert original.pixels.shape[0] == 3 * 56
    assert 0 <= float(filled.pixels.min()) <= float(filled.pixels.max()) <= 1

    def red(picture) -> int:
        return int(((picture.pixels[..., 0] > 0.7) & (picture.pixels[..., 1] < 0.3)).sum())

    def dark(picture) -> int:
        return int((picture.pixels.sum(-1) < 0.6).sum())

    assert red(original) == red(masked) == 0 < red(filled)
    assert dark(masked) < dark(original)


def test_an_electrocardiogram_and_its_report_are_one_record() -> None:
    """Two pieces of one record lie in one segment, so that the words are asked with the leads in sight."""
    modalities = {"ecg": fitted(), "report": toys()["ids"]}
    tokenizers = {name: modality.tokenizer for name, modality in modalities.items()}
    samples = [
        Sample({"ecg": tokenizers["ecg"].tokenize(raw), "report": tokenizers["report"].tokenize([1 + i, 2, 3])}, i)
        for i, raw in enumerate(RAWS)
    ]
    tokens = pack(samples, tokenizers)
    assert tokens.layout.segments == len(RAWS)
    model = tiny_model(modalities).eval()
    hidden_T = tokens.layout.modality_T == 1
    with torch.no_grad():
        x_TD = model.encode(View.of(tokens, hidden_T)).x_KD
        other = tokens.with_content(ecg=tokens.content["ecg"] + 1)
        changed_TD = model.encode(View.of(other, hidden_T)).x_KD
    assert not torch.isclose(x_TD[hidden_T], changed_TD[hidden_T]).all(1).any()


@pytest.mark.parametrize(
    "arguments", [(np.zeros(5), 100, ("I",)), (np.zeros((2, 5)), 100, ("I",)), (np.zeros((1, 5)), 0, ("I",))]
)
def test_recordings_that_are_none(arguments) -> None:
    with pytest.raises(ValueError, match="a recording of shape"):
        Recording(*arguments)


def test_a_recording_at_a_rate_that_is_no_fraction() -> None:
    ecg = fitted([beats(rate=100)])
    for rate in (250, 250.0, 62.5):
        assert len(ecg.tokenizer.tokenize(Recording(np.zeros((1, int(2 * rate))), rate, ("II",)))) == 20
