"""A folder that plain timm reads: ``timm.create_model("local-dir:DIR", pretrained=True)``.

Shape suffixes: none.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmm.core.errors import BadRecipe
from mmm.interop.from_timm import Timm
from mmm.sources import Source, check

from .fit import fit, lines
from .written import Written


def write(source: Source, folder: Path) -> Written:
    """Write config.json and the weights as timm writes them, and read them back.

    Raises:
        ValueError: timm has no architecture that can hold this model, with the reasons; or what was written does not answer as
            the model here does.
    """
    from timm.models import save_for_hf

    found, reasons = fit(source, "timm")
    if found is None:
        raise BadRecipe(f"{source.name}: timm has no architecture that holds this model: {'; '.join(lines(reasons))}")
    arguments = found.original.config.get("model_args")
    save_for_hf(found.original.model, str(folder), model_args=arguments, safe_serialization=True)
    again = replace(Timm().open(str(folder)), source=folder.name.removesuffix(".part"))
    worst = check(found.training, again, found.architecture, "export")
    usage = (
        'import timm\n\nmodel = timm.create_model("local-dir:DIR", pretrained=True).eval()\n'
        "print(model.pretrained_cfg)  # how pictures are to be read; model.forward_features(pictures) gives every token"
    )
    architecture = again.config["architecture"]
    told = [
        f"{architecture} of timm; read back, largest difference to the model here {worst:.1e}",
        *([f"without {', '.join(found.left)}: it has no place for them"] if found.left else []),
    ]
    return Written("timm", usage, told, found.training, [architecture])
