"""A folder that transformers reads: one of its own models where ours fits, else AutoModel with our registered type.

Shape suffixes: none.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mmm.interop.from_transformers import HEADED, Transformers, silent
from mmm.sources import Source, check

from .fit import Fit, fit, lines
from .to_safetensors import equal, read_back
from .written import Written

BESIDE = (
    "added_tokens.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Files of tokenizers and processors: data, no code."""
NEAR = (
    "its image processor comes near to what is done here: pixels differ by up to 1/255 of their range, and of images that are "
    "no square one in four is cut one pixel beside; where that matters, give it images of the model's own size"
)


def write(source: Source, folder: Path) -> Written:
    """Write the model, its tokenizer or processor, and read it back.

    Raises:
        ValueError: what was written does not answer as the model here does.
    """
    found, reasons = fit(source, "transformers")
    return _known(found, folder) if found is not None else _registered(source, folder, lines(reasons))


def _known(found: Fit, folder: Path) -> Written:
    """A model of the library itself; no line of ours is needed to load it."""
    model: Any = found.original.model
    with silent():
        model.save_pretrained(folder)
    if found.untouched and found.original.folder is not None:
        for name in BESIDE:
            if (found.original.folder / name).is_file():
                (folder / name).write_bytes((found.original.folder / name).read_bytes())
    else:
        found.architecture.save_files(found.training, folder)
    again = Transformers().open(str(folder))
    name = folder.name.removesuffix(".part")
    worst = check(found.training, replace(again, source=name), found.architecture, "export")
    told = [
        f"{found.kind} of transformers; read back, largest difference to the model here {worst:.1e}",
        *([f"without {', '.join(found.left)}: it has no place for them"] if found.left else []),
        *([NEAR] if not found.untouched and _reads_its_own_way(found.training, folder) else []),
    ]
    return Written("transformers", _usage(again.model, folder), told, found.training, [again.config["model_type"]])


def _reads_its_own_way(training: Any, folder: Path) -> bool:
    """Whether a processor of the library stands for a preparation of images that is ours, or timm's."""
    if not (folder / "preprocessor_config.json").is_file() or "image" not in training.modalities:
        return False
    processor = training.modalities["image"].tokenizer.processor
    return processor is None or processor.file != "preprocessor_config.json"


def _usage(model: Any, folder: Path) -> str:
    """Python that loads the model, and its tokenizer or processor where it has one."""
    import transformers

    loaders = {"model": "AutoModel"}
    if type(model).__name__.endswith("ForMaskedImageModeling"):
        loaders["model"] = type(model).__name__  # not every one of them has an auto class
    for name in HEADED:
        if getattr(transformers, name)._model_mapping.get(type(model.config), None) is type(model):
            loaders["model"] = name
            break
    if (folder / "tokenizer_config.json").is_file():
        loaders["tokenizer"] = "AutoTokenizer"
    if (folder / "preprocessor_config.json").is_file():
        loaders["processor"] = "AutoImageProcessor" if model.main_input_name == "pixel_values" else "AutoFeatureExtractor"
    lines = [f'{what} = {loader}.from_pretrained("DIR")' for what, loader in loaders.items()]
    return "\n".join([f"from transformers import {', '.join(sorted(loaders.values()))}", "", *lines])


def _registered(source: Source, folder: Path, reasons: list[str]) -> Written:
    """A model of our registered type."""
    from transformers import AutoModel

    from mmm.interop.automodel import MmmModel

    training = source.loaded()
    with silent():
        MmmModel.of(source.values, training).save_pretrained(folder)
        equal(training, AutoModel.from_pretrained(folder))
    count = read_back(folder, training)
    usage = (
        "import mmm.interop.automodel  # registers the type with transformers\nfrom transformers import AutoModel\n\n"
        'model = AutoModel.from_pretrained("DIR")  # model([record, ...]).last_hidden_state: a tensor for each'
    )
    told = [
        f"AutoModel of transformers with the type of this package; read back, {count:,} numbers bit-equal",
        *(f"none of its own models: {reason}" for reason in reasons),
    ]
    return Written("transformers", usage, told, training)
