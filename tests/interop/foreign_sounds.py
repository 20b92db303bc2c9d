"""Small sound models of other libraries, and what is asked of their imports: the library's own call on every record alone."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from foreign_images import noisy
from torch import Tensor
from transformers import Wav2Vec2FeatureExtractor

from mmm.core.tokens import Sample, pack
from mmm.core.view import View
from mmm.interop.links import convert
from mmm.loaded import Loaded
from mmm.recipe import Recipe, instantiate, resolve
from mmm.sources import open_source

RATE = 16000

SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def waves(*samples: int, loudness: float = 0.1) -> list[Tensor]:
    """Noise that is not centred, one waveform a length."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, generator=generator) * loudness + loudness / 5 for n in samples or (4000, 7000, 5000, 5000)]


def records(given: Sequence[Tensor], rate: int = RATE) -> list[tuple[Tensor, int]]:
    return [(wave, rate) for wave in given]


def saved(model: Any, folder: Any, extractor: Any = True) -> Any:
    """A model with weights that show every mistake, and a feature extractor: True, False: do_normalize; None: no file."""
    noisy(model).save_pretrained(folder)
    if isinstance(extractor, bool):
        extractor = Wav2Vec2FeatureExtractor(do_normalize=extractor)
    if extractor is not None:
        extractor.save_pretrained(folder)
    return model


def alone(encoder: Any, extractor: Any, given: Sequence[Tensor]) -> list[Tensor]:
    """What the library's encoder says of each record, without any padding."""
    inputs = [extractor(w.numpy(), sampling_rate=RATE, return_tensors="pt").input_values for w in given]
    return [encoder(x).last_hidden_state[0] for x in inputs]


def masked(ours: Loaded, given: Sequence[Any], hidden: Callable[[int], Tensor]) -> list[Tensor]:
    """What our encoder says of records in one batch with some tokens hidden, ``hidden(tokens)`` of each."""
    (name,) = ours.model.names
    pieces = [ours.piece(record)[1] for record in given]
    tokens = pack([Sample({name: p}, i) for i, p in enumerate(pieces)], {name: ours.model.modalities[name].tokenizer})
    hidden_T = torch.cat([hidden(n) for n in tokens.layout.lengths])
    view = View.of(tokens, hidden_T, answer_N=torch.arange(len(tokens)))
    parts = ours.model.encode(view).x_KD.split(list(tokens.layout.lengths))
    order = tokens.layout.sample_S.tolist()
    return [part for _, part in sorted(zip(order, parts, strict=True), key=lambda both: both[0])]


def gradients_agree(ours: Loaded, source: str, loss: Callable[[Any], Tensor], own: Callable[[Loaded], Tensor]) -> set[str]:
    """Gradients of one number, ours and theirs, of all parameters; returns the names of ours that were compared."""
    opened = open_source(source)
    theirs = opened.original.model
    loss(theirs.requires_grad_(True)).backward()
    own(ours).backward()
    named, found, compared = dict(theirs.named_parameters()), dict(ours.model.named_parameters()), set()
    for link in opened.architecture.links(opened.original.config, theirs.state_dict().keys()):
        there = {t: named[t].grad for t in link.theirs}
        if not there or any(g is None for g in there.values()):
            continue
        for name, want in convert(there, [link]).items():
            if name.endswith("specials"):  # a token and its position take the same gradient
                want = want / 2
            got = found[name].grad
            assert float((got - want).abs().max()) <= 1e-4 * max(1.0, float(want.abs().max())), name
            compared.add(name)
    return compared


def instance(model: dict[str, Any], **assets: bytes) -> Loaded:
    """A model of our own recipe, with weights that show every mistake; ``assets`` of its one modality."""
    training = instantiate(Recipe("own", resolve({"model": model}, "own")), Loaded)
    (name,) = model["modalities"]
    training.restore(defaultdict(dict, {f"modalities/{name}": {f"{k}.json": v for k, v in assets.items()}}))
    return noisy(training)
