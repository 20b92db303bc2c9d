"""ONNX out: one graph a modality answers for records of any length in onnxruntime as the model does."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tiny import mmm, save, values, write

from mmm.core.errors import BadRecipe
from mmm.export import export
from mmm.loading import load
from mmm.run import run

IMAGE = {"size": 8, "patch": 4, "channels": 1, "cls": True}
FORMS = {
    "text": {"vocabulary": 270, "max_length": 96, "norm": True, "positions": "learned", "embedding": {"types": 2}},
    "image": {**IMAGE, "positions": "learned"},
    "audio": {
        **{"front_end": "waveform", "rate": 4000, "max_seconds": 0.6, "mels": 8},
        **{"conv_width": 16, "conv_norm": "group", "conv_kernels": [10, 20], "conv_strides": [5, 16], "positions": "conv"},
    },
    "protein": {"max_length": 64, "embedding": {"rescale": 0.12}},
}
"""What is hard to trace: tables of positions, kinds of text, samples, convolutions over neighbours, a factor by the record."""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Runs: ``four`` modalities under local attention, and ``grid``, images with relative positions."""
    folder = tmp_path_factory.mktemp("onnx")
    files = write(folder / "files", records=24)
    four = values(files, 1)
    four["model"]["modality_vector"] = True
    four["model"]["encoder"]["init_args"] |= {"rotary": 1, "depth": 2, "local": {"reach": 4, "every": 2}}
    for name, arguments in FORMS.items():
        four["model"]["modalities"][name] = {**four["model"]["modalities"][name], "init_args": arguments}
    run(save(folder / "four.yaml", four), run_dir=str(folder / "four"))
    grid = values({"image": files["image"]}, 1)
    grid["model"]["modalities"]["image"] = {"class_path": "Image", "init_args": {**IMAGE, "positions": "none"}}
    grid["model"]["encoder"]["init_args"] |= {"relative": {"rows": 2, "columns": 2}, "order": "post", "activation": "relu"}
    run(save(folder / "grid.yaml", grid), run_dir=str(folder / "grid"))
    return folder


def records() -> dict[str, list]:
    rng = np.random.default_rng(1)
    return {
        "text": ["a", "mask the [MASK] token", "hidden token of the shared row " * 2],
        "protein": ["M", "MKTAYIAK<mask>QR", "ACDEFGHIKLMNPQRSTVWY" * 2],
        "image": list(rng.random((2, 8, 8)).astype(np.float32)),
        "audio": [(torch.from_numpy(rng.normal(0, 0.1, n)).float(), 4000) for n in (700, 1311, 2400)],
    }


def agrees(folder: Path, training, name: str) -> None:
    """The graph in a folder answers for each record as the model does."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    assert [i.name for i in session.get_inputs()] == ["content"]
    assert [o.name for o in session.get_outputs()] == ["hidden", "logits"]
    for record in records()[name]:
        content = training.piece(record, name)[1].content.numpy()
        hidden, logits = session.run(["hidden", "logits"], {"content": content})
        with torch.no_grad():
            for theirs, ours in ((hidden, training.hidden([record], name)), (logits, training.logits([record], name))):
                assert theirs.shape == ours[0].shape
                assert np.abs(theirs - ours[0].numpy()).max() < 1e-4


def test_several_modalities_have_a_folder_each_and_the_card_runs(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mmm.nn.rotary._CACHED", 64)  # a graph holds no number of parts
    done = mmm("export", home / "four", "--to", "onnx", tmp_path / "out")
    assert done.status == 0, done.err
    assert done.out.count("model.onnx in onnxruntime") == 4
    training = load(home / "four")
    for name in FORMS:
        agrees(tmp_path / "out" / name, training, name)
        assert json.loads((tmp_path / "out" / name / "input.json").read_text())["modality"] == name
    from tokenizers import Tokenizer

    about = json.loads((tmp_path / "out/text/input.json").read_text())
    ids = Tokenizer.from_file(str(tmp_path / "out/text/tokenizer.json")).encode("mask the token", add_special_tokens=False).ids
    assert [*about["before"], *ids, *about["after"]] == training.piece("mask the token")[1].content.tolist()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: onnx" in text
    monkeypatch.chdir(tmp_path)
    exec(text.split("```python\n")[1].split("```")[0], {})
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == ["hidden", "logits"]
    assert all(float(line.split()[-1]) < 1e-4 for line in shown)


def test_one_modality_alone(home, tmp_path):
    export(home / "grid", "onnx", tmp_path / "out", "image")
    agrees(tmp_path / "out", load(home / "grid"), "image")
    files = {"README.md", "example.npz", "input.json", "model.onnx", "statistics.json"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == files


def test_images_of_any_size_are_refused(home, tmp_path):
    recipe = values({"image": f"{home}/files/*.npz"}, 1)
    recipe["model"]["modalities"]["image"]["init_args"] = {**IMAGE, "size": None}
    run(save(tmp_path / "any.yaml", recipe), run_dir=str(tmp_path / "any"))
    with pytest.raises(BadRecipe, match="stand in a grid that follows from a record's own size"):
        export(tmp_path / "any", "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_traced_is_refused(home, tmp_path, monkeypatch):
    from mmm.encoders.transformer import Transformer

    plain = Transformer.forward
    monkeypatch.setattr(Transformer, "forward", lambda self, x, *a, **k: plain(self, x if x.sum() > 0 else -x, *a, **k))
    with pytest.raises(BadRecipe, match="cannot be written as one graph for records of any length"):
        export(home / "four", "onnx", tmp_path / "out", "protein")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_refused(home, tmp_path, monkeypatch):
    from mmm.exports.graph import Record

    plain = Record.forward
    monkeypatch.setattr(Record, "forward", lambda self, content: tuple(x + 0.01 for x in plain(self, content)))
    with pytest.raises(BadRecipe, match="the export is refused"):
        export(home / "grid", "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(home, tmp_path, monkeypatch):
    from mmm.exports import to_onnx

    monkeypatch.setattr(to_onnx, "PACKAGES", ("onnx", "not_there"))
    with pytest.raises(BadRecipe, match=r"needs not_there: pip install 'mmm-pretrain\[onnx\]'"):
        export(home / "grid", "onnx", tmp_path / "out")
