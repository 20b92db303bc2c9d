"""Models out: every format reads back equal, without this package where it can, and nothing is ever overwritten."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import mmm, save, values, write

from mmm.core.errors import BadRecipe
from mmm.export import export
from mmm.loading import load
from mmm.modelcard import card
from mmm.run import run
from mmm.sources import open_source
from mmm.yaml import loads

TEXTS = ["mask the token", "a [MASK] row", "a"]
BERT = {"vocabulary": 270, "max_length": 24, "record_words": 8, "positions": "learned", "norm": True}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Runs: ``four`` modalities; ``bert``, ``lora`` and ``prompt``, of a text model; ``vit``, of an image model."""
    folder = tmp_path_factory.mktemp("export")
    files = write(folder / "files", records=40)

    def finished(name: str, recipe: dict) -> None:
        run(save(folder / f"{name}.yaml", recipe), run_dir=str(folder / name))

    four = values(files, 2)
    four["model"] |= {"modality_vector": True}
    four["model"]["objective"]["init_args"]["heads"] = {"text": "tied", "audio": "cosine"}
    finished("four", four)
    bert = values({"text": files["text"]}, 2)
    bert["model"]["modalities"]["text"] = {"class_path": "Text", "init_args": BERT}
    bert["model"]["encoder"]["init_args"] |= {"order": "post"}
    bert["model"]["objective"]["init_args"]["heads"] = {"text": "tied"}
    finished("bert", bert)
    for name, adapter in {
        "lora": {"class_path": "LoRA", "init_args": {"rank": 2}},
        "prompt": {"class_path": "Prompt", "init_args": {"tokens": 2}},
    }.items():
        adapted = values({"text": files["text"]}, 2)
        adapted["model"] = {"adapter": adapter, "optimizer": {"lr": 0.1}}
        finished(name, {"init_from": str(folder / "bert"), **adapted})
    vit = values({"image": files["image"]}, 2)
    vit["model"]["modalities"]["image"]["init_args"] = {
        "size": 8,
        "patch": 4,
        "channels": 1,
        "cls": True,
        "positions": "learned",
    }
    vit["model"]["encoder"]["init_args"] |= {"eps": 1e-6, "depth": 2}
    finished("vit", vit)
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """A BERT of transformers with everything: pooler, two types of token, a tokenizer."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("foreign") / "theirs"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "mask", "the", "token", "a", "row"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=30, **sizes)).save_pretrained(folder)
    return folder


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def close(a, b) -> bool:
    return all(torch.allclose(torch.as_tensor(x), torch.as_tensor(y), atol=1e-4) for x, y in zip(a, b, strict=True))


def suffixes(folder: Path) -> set[str]:
    return {p.suffix for p in folder.rglob("*") if p.is_file()}


# -- safetensors ---------------------------------------------------------------------------------------------------------------


def records_of(home: Path, model) -> dict[str, list]:
    rng = np.random.default_rng(0)
    return {
        "text": TEXTS,
        "image": [rng.random((8, 8)).astype(np.float32)],
        "audio": [(torch.from_numpy(rng.normal(0, 0.1, n)).float(), 4000) for n in (900, 2000)],
        "protein": ["MKTAYIAK", "MK<mask>AY"],
    }


def test_safetensors_reads_back_bit_equal(home, tmp_path):
    told = export(home / "four", "safetensors", tmp_path / "out")
    assert "bit-equal" in told[0]
    assert suffixes(tmp_path / "out") <= {".safetensors", ".yaml", ".json", ".md", ".npy"}
    there, here = load(home / "four"), load(tmp_path / "out")
    for name, records in records_of(home, there).items():
        assert equal(there.hidden(records, name), here.hidden(records, name)), name
        assert equal(there.logits(records, name), here.logits(records, name)), name
    head = here.model.heads["text/TokenIds"]
    assert head.weight is here.model.modalities["text"].embedding.weight


def test_a_run_begins_from_an_exported_folder(home, tmp_path):
    export(home / "bert", "safetensors", tmp_path / "out")
    recipe = values({"text": f"{home}/files/*.txt"}, 1)
    recipe["model"] = {"optimizer": {"lr": 0.0, "weight_decay": 0.0}}
    run(save(tmp_path / "on.yaml", {"init_from": str(tmp_path / "out"), **recipe}), run_dir=str(tmp_path / "on"))
    assert equal(load(home / "bert").hidden(TEXTS), load(tmp_path / "on").hidden(TEXTS))


def test_an_adapter_goes_along(home, tmp_path):
    for name in ("lora", "prompt"):
        export(home / name, "safetensors", tmp_path / name)
        assert equal(load(home / name).hidden(TEXTS), load(tmp_path / name).hidden(TEXTS))


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    torch.save({"a": torch.zeros(1)}, folder / "model.safetensors")


def outside(folder: Path) -> None:
    (folder / "assets" / "index.json").write_text(json.dumps({"modalities/text": ["../../../secret"]}))


def of_a_plugin(folder: Path) -> None:
    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace("plugins: []", "plugins: [mmm-nowhere]"))


def nameless(folder: Path) -> None:
    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace("class_path: Transformer", "class_path: Nowhere"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut_short, r"model\.safetensors.*cut short"),
        (pickled, r"model\.safetensors.*no weights that can be read"),
        (lambda f: (f / "assets/modalities/text/tokenizer.json").unlink(), r"tokenizer\.json: missing"),
        (lambda f: (f / "assets/index.json").unlink(), r"index\.json: no JSON"),
        (lambda f: (f / "assets/index.json").write_text("[]"), r"index\.json: expected a JSON object"),
        (lambda f: (f / "recipe.yaml").write_text("model: [", encoding="utf-8"), r"recipe\.yaml, line"),
        (outside, "lies outside its folder"),
        (of_a_plugin, "needs the package mmm-nowhere.*pip install mmm-nowhere"),
        (nameless, "no class 'Nowhere'"),
    ],
)
def test_a_damaged_folder_is_refused(home, tmp_path, damage, told):
    export(home / "bert", "safetensors", tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(BadRecipe, match=told) as fault:
        load(tmp_path / "out")
    assert "\n" not in str(fault.value)


# -- transformers --------------------------------------------------------------------------------------------------------------


def test_any_model_becomes_an_automodel(home, tmp_path):
    import transformers

    import mmm.interop.automodel  # noqa: F401  (registers the type)

    told = export(home / "four", "transformers", tmp_path / "out")
    assert told[0].startswith("AutoModel of transformers")
    assert any("Bert" in line and "4 modalities" in line for line in told)
    there = load(home / "four")
    model, info = transformers.AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert not model.training
    for name, records in records_of(home, there).items():
        answer = model(records, modality=name)
        assert equal(answer.last_hidden_state, there.hidden(records, name)), name
        assert equal(answer.logits, there.logits(records, name)), name
    assert suffixes(tmp_path / "out") <= {".safetensors", ".json", ".md", ".npy"}
    assert "auto_map" not in (tmp_path / "out" / "config.json").read_text()
    model.save_pretrained(tmp_path / "again")
    assert equal(load(tmp_path / "again").hidden(TEXTS), there.hidden(TEXTS))
    with pytest.raises(ValueError, match="float32"):
        transformers.AutoModel.from_pretrained(tmp_path / "out", dtype=torch.bfloat16)
    (tmp_path / "out/assets/modalities/audio/logmel.json").unlink()
    with pytest.raises(ValueError, match=r"logmel\.json is missing"):
        transformers.AutoModel.from_pretrained(tmp_path / "out")


WITHOUT_US = """
import sys
sys.modules["mmm"] = None
import numpy as np, torch, timm
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForMaskedImageModeling, AutoTokenizer
torch.set_grad_enabled(False)
out, texts = {}, sys.argv[2:]
for name in ("bert", "lora"):
    tokenizer = AutoTokenizer.from_pretrained(f"{sys.argv[1]}/{name}")
    model = AutoModelForMaskedLM.from_pretrained(f"{sys.argv[1]}/{name}")
    for i, text in enumerate(texts):
        answer = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        out[f"{name}_hidden{i}"], out[f"{name}_logits{i}"] = answer.hidden_states[-1][0], answer.logits[0]
pixels = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
out["vit"] = AutoModel.from_pretrained(f"{sys.argv[1]}/vit")(pixels).last_hidden_state[0]
out["timm"] = timm.create_model(f"local-dir:{sys.argv[1]}/timm", pretrained=True).eval().forward_features(pixels)[0]
np.savez(f"{sys.argv[1]}/answers.npz", **out)
"""


def test_what_fits_loads_without_this_package(home, tmp_path):
    for name, to in {"bert": "transformers", "lora": "transformers", "vit": "transformers", "timm": "timm"}.items():
        told = export(home / ("vit" if name == "timm" else name), to, tmp_path / name)
        kind = {"bert": "BertForMaskedLM", "lora": "BertForMaskedLM", "vit": "ViTForMasked", "timm": "vit_base"}[name]
        assert told[0].startswith(kind), told
        assert any("cut one pixel beside" in line for line in told) == (name == "vit"), told
        assert suffixes(tmp_path / name) <= {".safetensors", ".json", ".md", ".txt"}
    subprocess.run([sys.executable, "-c", WITHOUT_US, str(tmp_path), *TEXTS], check=True, capture_output=True, timeout=200)
    with np.load(tmp_path / "answers.npz") as answers:
        for name in ("bert", "lora"):
            ours = load(home / name)
            for what in ("hidden", "logits"):
                theirs = [answers[f"{name}_{what}{i}"] for i in range(len(TEXTS))]
                assert close(getattr(ours, what)(TEXTS), theirs), (name, what)
        ours = load(home / "vit")
        tokenizer = ours.modalities["image"].tokenizer
        pixels = torch.linspace(-1, 1, 64).view(1, 8, 8) * torch.tensor(tokenizer.std) + torch.tensor(tokenizer.mean)
        piece = tokenizer.tokenize(np.zeros((8, 8), np.float32))
        rows = (pixels - torch.tensor(tokenizer.mean)) / torch.tensor(tokenizer.std)
        rows = rows.view(2, 4, 2, 4).transpose(1, 2).reshape(4, 16)
        piece = type(piece)(torch.cat([piece.content[:1], rows]), piece.positions, maskable=piece.maskable)
        hidden = ours.model.encode(ours.view("image", [(0, piece)])[2]).x_KD
        assert close([hidden, hidden], [answers["vit"], answers["timm"]])


def test_an_adapter_that_stays_a_part_is_no_bert(home, tmp_path):
    told = export(home / "prompt", "transformers", tmp_path / "out")
    assert told[0].startswith("AutoModel")
    assert "Prompt cannot be merged" in told[1]
    assert equal(load(home / "prompt").hidden(TEXTS), load(tmp_path / "out").hidden(TEXTS))


def test_an_import_goes_back_as_it_was(foreign, tmp_path):
    from safetensors.torch import load_file

    export(foreign, "transformers", tmp_path / "out")
    theirs, ours = (load_file(f / "model.safetensors") for f in (foreign, tmp_path / "out"))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    for file in foreign.glob("tokenizer*"):
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "'theirs', of type bert of transformers" in text
    assert 'tokenizer = AutoTokenizer.from_pretrained("out")' in text


def test_importing_the_package_imports_no_transformers():
    code = "import sys, mmm, mmm.cli, mmm.export; assert not {'transformers', 'torch', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- what is refused -----------------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten(home, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    done = mmm("export", home / "bert", "--to", "safetensors", full)
    assert done.status == 2
    assert len(done.errors) == 1
    assert "is not empty" in done.errors[0]
    assert [p.name for p in full.iterdir()] == ["mine.txt"]
    assert "is a file" in mmm("export", home / "bert", "--to", "onnx", full / "mine.txt").errors[0]
    empty = tmp_path / "empty"
    empty.mkdir()
    done = mmm("export", home / "bert", "--to", "safetensors", empty)
    assert done.status == 0, done.err
    assert f"{empty}: 6 files" in done.out
    assert {p.name for p in tmp_path.iterdir()} == {"full", "empty"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bert", "--to", "safetensor"], "Did you mean 'safetensors'?"),
        (["bert", "--to", "gguf"], "Choices: onnx, safetensors, timm, transformers"),
        (["bert", "--to", "timm"], "timm has no architecture that holds this model: TimmVit: it reads text"),
        (["bert", "--to", "timm", "--modality", "text"], "of --to onnx alone"),
        (["bert", "--to", "onnx", "--modality", "txet"], "Did you mean 'text'?"),
        (["files", "--to", "safetensors"], "holds no checkpoint"),
    ],
)
def test_refusals_leave_nothing_behind(home, tmp_path, words, told):
    done = mmm("export", home / words[0], *words[1:], tmp_path / "out")
    assert done.status == 2
    assert len(done.errors) == 1
    assert told in done.errors[0]
    assert not list(tmp_path.iterdir())


def test_an_export_that_differs_is_refused(home, tmp_path, monkeypatch):
    from mmm.exports import fit

    plain = fit.revert
    monkeypatch.setattr(fit, "revert", lambda *a: {n: t + 0.1 * n.endswith("LayerNorm.bias") for n, t in plain(*a).items()})
    with pytest.raises(BadRecipe, match="the export is refused"):
        export(home / "bert", "transformers", tmp_path / "out")
    assert not list(tmp_path.iterdir())


# -- the card ------------------------------------------------------------------------------------------------------------------


def front(text: str) -> dict:
    return loads(text.split("---\n")[1], "front matter")


def test_the_card_tells_the_run(home, tmp_path):
    export(home / "four", "safetensors", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    summary = json.loads((home / "four" / "summary.json").read_text())
    matter = front(text)
    assert matter["library_name"] == "mmm"
    assert matter["metrics"] == ["skill"]
    assert {"text", "image", "audio", "protein", "MaskedModeling"} <= set(matter["tags"])
    assert 'model = mmm.load("out")' in text
    for name, skill in summary["skill"].items():
        assert f"| {name} | {skill['target']} | {skill['value']:.4g} |" in text
    assert f"{summary['parameters']['total']:,} parameters" in text
    assert "class_path: MaskedModeling" in text
    assert "Trained for 2 steps" in text


@pytest.mark.parametrize(("name", "to"), [("four", "safetensors"), ("four", "transformers"), ("lora", "transformers")])
def test_no_machine_paths(home, tmp_path, name, to):
    export(home / name, to, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        if path.suffix in (".md", ".yaml", ".json"):
            text = path.read_text()
            assert str(home) not in text, path
            assert str(tmp_path) not in text, path
    if name == "lora":
        assert "began from 'bert'" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_names_its_data_with_their_limits(home):
    from mmm.exports.written import Written

    source = open_source(home / "bert")
    source.values["data"] |= {"cards": {"mnist5k": 1.0, "gone": 1.0}, "files": None}
    text = card(source, Written("mmm", "load('DIR')", ["checked"], source.loaded()), "here")
    assert front(text)["datasets"] == ["mnist5k"]
    assert "CC BY-SA 3.0" in text
    assert "must not be tested on MNIST's own test set" in text
    assert "**gone**: its card was not on the machine" in text
    assert "load('here')" in text


def test_the_card_of_a_task(home, tmp_path):
    shutil.copytree(home / "bert", tmp_path / "run")
    path = tmp_path / "run" / "summary.json"
    task = {"metric": "accuracy", "value": 0.8125, "low": 0.75, "high": 0.875, "records": 872, "on": "test"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": task, "skill": {}}))
    source = open_source(tmp_path / "run")
    from mmm.exports.written import Written

    text = card(source, Written("mmm", "", [], source.loaded()), "here")
    assert front(text)["metrics"] == ["accuracy"]
    assert "accuracy 0.8125 on 872 records of test (99 % interval 0.75 to 0.875)" in text
