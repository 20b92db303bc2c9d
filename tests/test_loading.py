"""Trained models back: from a folder, from the file alone, and never from anything that is not safe."""

import json
import pickle
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from tiny import save, values, write

from mmm.checkpoint import load_checkpoint, newest
from mmm.core.errors import BadRecipe
from mmm.data.module import Data, Held
from mmm.loading import load
from mmm.run import run
from mmm.skill import evaluate


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A finished run of four modalities in ``out``, and its data in ``files``."""
    folder = tmp_path_factory.mktemp("loading")
    recipe = values(write(folder / "files", records=40), 6)
    recipe["model"]["encoder"]["init_args"]["dropout"] = 0.1
    recipe["model"]["modality_vector"] = True
    recipe["model"]["objective"]["init_args"]["heads"] = {"text": "tied", "audio": "cosine"}
    run(save(folder / "tiny.yaml", recipe), run_dir=str(folder / "out"))
    return folder


@pytest.fixture
def checkpoint(home, tmp_path) -> Path:
    """A copy of the checkpoint, alone in the world."""
    path = newest(home / "out")
    assert path is not None
    return Path(shutil.copy(path, tmp_path / "model.ckpt"))


def data_of(training, home: Path) -> Data:
    """The run's data, read with the tokenizers of a loaded model."""
    names = {"text": "*.txt", "image": "*.npz", "audio": "sounds", "protein": "some.fasta"}
    data = Data(**values({name: f"{home}/files/{file}" for name, file in names.items()})["data"])
    data.read(training.modalities, training.seed)
    return data


def assert_as_at_the_end(training, home: Path) -> None:
    """Validation losses and skill are those that the run's summary tells."""
    assert not training.training
    summary = json.loads((home / "out" / "summary.json").read_text())
    data = data_of(training, home)
    sums: dict[str, list[float]] = {}
    with torch.no_grad():
        held = Held(data, 0, 1)
        for batch in (held[i] for i in range(len(held))):
            for term in training.validation_step(batch, 0):
                total, count = sums.get(term.name, (0.0, 0.0))
                sums[term.name] = [total + float(term.total), count + term.count]
    assert sums.keys() == summary["losses"].keys()
    for term, (total, count) in sums.items():
        assert total / count == pytest.approx(summary["losses"][term]["validation"], rel=1e-6), term
    skills = evaluate(training, data)
    assert skills.keys() == summary["skill"].keys()
    for name, skill in skills.items():
        for field in ("value", "low", "high", "loss", "baseline", "tokens"):
            assert getattr(skill, field) == pytest.approx(summary["skill"][name][field], rel=1e-6), (name, field)


@pytest.mark.parametrize("source", ["out", "out/checkpoints/step-6.ckpt"])
def test_a_loaded_model_is_the_trained_one(home, source):
    assert_as_at_the_end(load(home / source), home)
    assert_as_at_the_end(load(str(home / source)), home)


def test_an_earlier_checkpoint_is_an_earlier_model(home):
    early, late = load(home / "out" / "checkpoints" / "step-5.ckpt"), load(home / "out")
    assert any(not torch.equal(a, b) for a, b in zip(early.parameters(), late.parameters(), strict=True))


def test_the_file_alone_is_enough(home, checkpoint, tmp_path, monkeypatch):
    """No data, no run folder, no recipe file, another working folder; it needs none of them to answer either."""
    training = load(home / "out")
    data = data_of(training, home)
    held = Held(data, 0, 1)
    batches = [held[i] for i in range(len(held))]
    with torch.no_grad():
        expected = [[t.total for t in training.validation_step(b, 0)] for b in batches]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = home.rename(home.with_name("gone"))
    try:
        alone = load(checkpoint)
        with torch.no_grad():
            assert [[t.total for t in alone.validation_step(b, 0)] for b in batches] == expected
        piece = alone.modalities["text"].tokenizer.tokenize("a stream of tokens")
        assert alone.modalities["text"].tokenizer.detokenize(piece.content) == "a stream of tokens"
    finally:
        moved.rename(home)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_loading_leaves_global_randomness_and_threads_alone(home):
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    training = load(home / "out")
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_device() == torch.device("cpu")
    torch.random.set_rng_state(state)
    assert all(p.device.type == "cpu" for p in training.parameters())
    assert torch.is_grad_enabled()


# -- what is no checkpoint -----------------------------------------------------------------------------------------------------


def refused(path: Path | str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}")
    assert "\n" not in text
    return text


def test_nothing_there(tmp_path):
    assert "no such checkpoint" in refused(tmp_path / "none.ckpt")
    assert "holds no checkpoint" in refused(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert "holds no checkpoint" in refused(tmp_path)


@pytest.mark.parametrize("address", ["https://example.org/model.ckpt", "s3://bucket/model.ckpt", "hf://somebody/model"])
def test_nothing_is_fetched(address):
    with pytest.raises(ValueError, match=r"only local checkpoint files are read|no such checkpoint"):
        load(address)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_short(checkpoint, share):
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: int(len(data) * share)])
    assert "not a checkpoint that can be read safely" in refused(checkpoint)


def test_a_header_with_flipped_bits(checkpoint):
    data = bytearray(checkpoint.read_bytes())
    for i in (0, 1, 2, 30):
        data[i] ^= 0xFF
    checkpoint.write_bytes(data)
    assert "not a checkpoint that can be read safely" in refused(checkpoint)


def test_flipped_bits_anywhere_are_an_error_or_harmless(checkpoint, home):
    """A checksum that does not fit is an error. Whatever happens, it is one clear error or a model."""
    good = checkpoint.read_bytes()
    rng = random.Random(0)
    errors = []
    for _ in range(25):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        checkpoint.write_bytes(data)
        try:
            load(checkpoint)
        except ValueError as error:
            errors.append(str(error))
    assert errors
    assert all(e.startswith(f"{checkpoint}: ") and "\n" not in e for e in errors)


@pytest.mark.parametrize("what", ["/data/", "/data.pkl"])
def test_flipped_bits_are_noticed(checkpoint, what):
    """In weights, and in what names them. Zip members carry a checksum."""
    with zipfile.ZipFile(checkpoint) as members:
        largest = max((m for m in members.infolist() if what in m.filename), key=lambda m: m.file_size)
    data = bytearray(checkpoint.read_bytes())
    # Its local header ends with the name and with padding, which no checksum covers.
    padding = int.from_bytes(data[largest.header_offset + 28 : largest.header_offset + 30], "little")
    start = largest.header_offset + 30 + len(largest.filename.encode()) + padding
    data[start + largest.file_size // 2] ^= 0x10
    checkpoint.write_bytes(data)
    assert "not a checkpoint that can be read safely" in refused(checkpoint)


class Bomb:
    """A pickle that runs code when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "boom"))


def test_a_pickle_with_code_is_not_run(checkpoint, tmp_path):
    canary = tmp_path / "boom"
    good = load_checkpoint(checkpoint)
    torch.save({"state_dict": Bomb(canary)}, checkpoint)
    assert "not a checkpoint that can be read safely" in refused(checkpoint)
    checkpoint.write_bytes(pickle.dumps(Bomb(canary)))
    assert "not a checkpoint that can be read safely" in refused(checkpoint)
    torch.save(good | {"hyper_parameters": Bomb(canary)}, checkpoint)
    assert "not a checkpoint that can be read safely" in refused(checkpoint)
    assert not canary.exists()


def test_a_checkpoint_of_somebody_else(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {"layer.weight": torch.zeros(2, 2)}}, path)
    assert "names no recipe" in refused(path)
    torch.save([1, 2, 3], path)
    refused(path)
    torch.save(torch.zeros(3), path)
    refused(path)


def test_a_checkpoint_whose_parts_do_not_fit_together(checkpoint):
    """Edited by hand: the error says which file, in a line."""
    good = load_checkpoint(checkpoint)
    for change in (
        {"mmm_recipe": good["mmm_recipe"].replace("width: 16", "width: 32")},
        {"mmm_recipe": good["mmm_recipe"].replace("Transformer", "Transfromer")},
        {"mmm_recipe": "nonsense"},
        {"mmm_recipe": 3},
        {"state_dict": {k: v for k, v in good["state_dict"].items() if "mask" not in k}},
        {"mmm_assets": {}},
        {"mmm_assets": {k: {} for k in good["mmm_assets"]}},
        {"mmm_assets": {k: {f: b[: len(b) // 2] for f, b in v.items()} for k, v in good["mmm_assets"].items()}},
    ):
        torch.save(good | change, checkpoint)
        with pytest.raises(ValueError, match=r".") as caught:
            load(checkpoint)
        assert str(checkpoint) in str(caught.value), change
        assert "\n" not in str(caught.value)


def test_a_checkpoint_of_a_plugin_that_is_missing(checkpoint):
    good = load_checkpoint(checkpoint)
    recipe = good["mmm_recipe"].replace("plugins: []", "plugins: [mmm-nothere]")
    assert recipe != good["mmm_recipe"]
    torch.save(good | {"mmm_recipe": recipe}, checkpoint)
    with pytest.raises(BadRecipe, match="pip install mmm-nothere"):
        load(checkpoint)
