"""Foreign models of token ids with random weights, and what is asked of their imports.

Shape suffixes: N tokens of a record.
"""

from pathlib import Path

import torch

import mmm
from mmm.sources import open_source

TEXTS = [
    "The cat sat on the Mat.",
    "a [MASK] b",
    "No",
    "Where  did the black dog go, after [MASK] had seen the [MASK]?",
    "the dog saw the cat and the cat saw the dog and nobody else did",
]
PROTEINS = ["MKTAYIAKQR", "MK<mask>AY", "G", "ACDEFGHIKLMNPQRSTVWYACDEFGHIKLMNPQRSTVWY", "GG<mask><mask>LLW"]
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
WORDS = [
    "the",
    "cat",
    "dog",
    "sat",
    "on",
    "mat",
    "saw",
    "and",
    "a",
    "b",
    "no",
    "##body",
    "where",
    "go",
    "had",
    "seen",
    ".",
    "?",
    ",",
]


def shaken(model, seed=0, std=0.15):
    """The same model, every parameter drawn anew: a wrong map shows."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * std)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.add_(1)
    return model.eval()


def wordpiece(folder: Path):
    """A lower-casing WordPiece tokenizer beside the weights. Returns how many ids it has."""
    from transformers import BertTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"bcdefghijklmnop"]
    vocabulary = list(dict.fromkeys(vocabulary))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizer.from_pretrained(folder, do_lower_case=True).save_pretrained(folder)
    return len(vocabulary)


def byte_bpe(folder: Path, template=("<s>", "</s>", "</s></s>"), size=300):
    """A byte-level tokenizer as RoBERTa has it: <s> a </s></s> b </s>, and a mask that takes the space before it along."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", "<pad>", "</s>", "<unk>"]
    model = Tokenizer(models.BPE())
    model.pre_tokenizer, model.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size - 1, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator(TEXTS * 3, trainer)
    model.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=model, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="<pad>",
        unk_token="<unk>", mask_token=AddedToken("<mask>", lstrip=True, special=True),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def library(model, tokenizer, records):
    """(hidden_ND, logits_NV) of each record by plain calls: a padded batch."""
    pairs = isinstance(records[0], tuple)
    given = ([a for a, _ in records], [b for _, b in records]) if pairs else (records,)
    inputs = tokenizer(*given, return_tensors="pt", padding=True)
    inputs = {k: v for k, v in inputs.items() if k in ("input_ids", "attention_mask", "token_type_ids")}
    lengths = inputs["attention_mask"].sum(1).tolist()
    hidden = model.base_model(**inputs).last_hidden_state
    logits = None if model.base_model is model else model(**inputs).logits
    if logits is not None and logits.ndim == 2:
        logits = logits[..., None]
    return [[None if x is None else x[i, :n] for x in (hidden, logits)] for i, n in enumerate(lengths)]


def agrees(folder: Path, records, model=None, tokenizer=None, close=1e-4):
    """Import a folder and hold it against plain calls of the library: outputs in a batch and alone, and gradients."""
    from transformers import AutoTokenizer

    source = open_source(folder)
    ours = source.loaded()
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(folder)
    model = model or source.original.model
    headed = source.original.headed
    expected = library(model, tokenizer, records)
    ids = [tokenizer(*([r] if isinstance(r, str) else r))["input_ids"] for r in records]
    assert [ours.piece(r)[1].content.tolist() for r in records] == ids
    hidden = ours.hidden(records)
    logits = ours.logits(records) if headed else [None] * len(records)
    for record, (want, scores), got, said in zip(records, expected, hidden, logits, strict=True):
        assert got.shape == want.shape, record
        assert (got - want).abs().max() < close, record
        assert (ours.hidden([record])[0] - want).abs().max() < close, record
        if headed:
            assert said.shape == scores.shape, record
            assert (said - scores).abs().max() < close, record
            assert (ours.logits([record])[0] - scores).abs().max() < close, record
    check_gradients(source, ours, model, expected, hidden, logits, close)
    return source, ours


def check_gradients(source, ours, model, expected, hidden, logits, close):
    """The same scalar of both outputs, and the gradients of every linked parameter."""
    model.zero_grad()
    scale = 1 / sum(h.numel() for h in hidden) ** 0.5

    def total(pairs):
        found = [x for pair in pairs for x in pair if x is not None]
        draw = torch.Generator().manual_seed(1)
        return scale * sum((x * torch.randn(x.shape, generator=draw)).sum() + x.square().sum() / 10 for x in found)

    total(expected).backward()
    total(zip(hidden, logits, strict=True)).backward()
    theirs, own = model.state_dict(keep_vars=True), ours.model.state_dict(keep_vars=True)
    links = source.architecture.links(source.original.config, theirs.keys())
    compared = 0
    for link in (link for link in links if link.theirs and link.ours):
        grads = [theirs[n].grad if theirs[n].grad is not None else torch.zeros_like(theirs[n]) for n in link.theirs]
        for name, want in zip(link.ours, link.inward(*grads), strict=True):
            got = own[name].grad if own[name].grad is not None else torch.zeros_like(own[name])
            assert (got - want).abs().max() < close * max(1.0, float(want.abs().max())), name
            compared += 1
    assert compared == len({n for link in links if link.theirs for n in link.ours})
    assert compared >= len(own) - len([link for link in links if not link.theirs])


def returns(source, ours, records, folder: Path):
    """An import, out again: weights back under their names, a folder that the library alone reads."""
    made = leaves(source.architecture, ours, records, folder)
    there = source.original.model.state_dict()
    for name, tensor in made.model.state_dict().items():
        # Rows of padding, contacts, and a bias beside a decoder of its own say nothing of what a model answers.
        if name in there and not any(part in name for part in ("contact", "position_emb", "predictions.bias", "lm_head.bias")):
            assert torch.equal(tensor, there[name]), name


def leaves(architecture, ours, records, folder: Path):
    """A model of ours, out: a folder that the library alone reads, with equal outputs, and that we read again."""
    from transformers import AutoTokenizer

    from mmm.interop.links import revert

    made = architecture.export(ours)
    links = architecture.links(made.config, made.model.state_dict().keys())
    state = revert({n: t.detach() for n, t in ours.model.state_dict().items()}, links)
    made.model.load_state_dict({**made.model.state_dict(), **state})
    folder.mkdir()
    made.model.save_pretrained(folder)
    architecture.save_files(ours, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    again = type(made.model).from_pretrained(folder).eval()
    with torch.no_grad():
        for (want, scores), (got, said) in zip(
            zip(ours.hidden(records), ours.logits(records) if made.headed else records, strict=True),
            library(again, tokenizer, records),
            strict=True,
        ):
            assert got.shape == want.shape
            assert (got - want).abs().max() < 1e-4
            assert not made.headed or (said - scores).abs().max() < 1e-4
    assert mmm.load(folder).model.names == ours.model.names
    return made


def own(modality, arguments, encoder, head="tied", records=()):
    """A model of ours with a masked objective, built and drawn anew."""
    from mmm.core.modality import Record
    from mmm.loaded import Loaded
    from mmm.recipe import Recipe, instantiate, resolve

    name = modality.lower()
    masking = {"class_path": "Uniform", "init_args": {"rate": 0.15}}
    heads = {"masking": masking, "corruption": "MaskVector", "targets": {name: "TokenIds"}, "heads": {name: head}}
    values = {
        "modalities": {name: {"class_path": modality, "init_args": arguments}},
        "encoder": {"class_path": "Transformer", "init_args": encoder},
        "objective": {"class_path": "MaskedModeling", "init_args": heads},
    }
    training = instantiate(Recipe("own", resolve({"model": values}, "own")), Loaded)
    records = [Record("", i, r, r.encode()) for i, r in enumerate(records)]
    training.build(lambda address, part, _: part.fit(records))
    shaken(training.model)
    return training.eval()
