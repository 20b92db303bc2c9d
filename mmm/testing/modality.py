"""What a modality promises, all of it.

Shape suffixes: none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from typing import Any

from mmm.core.modality import Modality, Record

from .embedding import check_absent, check_alone, check_embedded, check_hidden, check_restored, check_tied
from .pieces import check_length, check_positions, check_round_trip, check_specials, check_tokenizer, check_workers
from .tools import equal, named
from .toys import batch


def check_modality(
    modality: Modality,
    raws: Sequence[Any],
    records: Sequence[Record] = (),
    width: int = 32,
    same: Callable[[Any, Any], bool] | None = equal,
    pool: Pool | None = None,
) -> None:
    """Pieces, the way there and back, workers, assets, the embedding alone and packed, the mask vector, gradients, state.

    Args:
        modality: as a recipe constructs it: neither fitted nor built.
        raws: a few raw values of different lengths. records: to fit on, if it is fitted.
        same: whether a raw value and what came back of it agree; None where no way leads back.
        pool: of another process, to compare with.
    """
    restored = restored_twin(modality, records)
    check_workers(modality, (), pool)
    check_tokenizer(modality, raws, restored)
    check_workers(modality, raws, pool)
    if same is not None:
        check_round_trip(modality, raws, same)
    check_positions(modality, raws)
    check_specials(modality, raws)
    check_length(modality, records)
    tokens = built_alike(modality, restored, raws, width)
    check_embedded(modality, tokens, width)
    check_restored(modality, restored, tokens)
    check_hidden(modality, tokens)
    check_alone(modality, tokens)
    check_tied(modality, width)
    check_absent(modality, raws[0], width)


def restored_twin(modality: Modality, records: Sequence[Record] = ()) -> Modality:
    """Fit a modality, if there are records, and return another that took up its assets."""
    twin = copy.deepcopy(modality)
    if records:
        modality.fit(records)
    assets = modality.assets()
    assert all(isinstance(v, bytes) for v in assets.values()), f"{named(modality)}.assets must return bytes by file name."
    twin.restore(assets)
    return twin


def built_alike(modality: Modality, twin: Modality, raws: Sequence[Any], width: int) -> Any:
    """Build both, the twin with the parameters of the other, and return the batch of the raw values."""
    modality.build(width)
    twin.build(width)
    twin.load_state_dict(modality.state_dict())
    return batch({"own": modality}, [{"own": raw} for raw in raws])
