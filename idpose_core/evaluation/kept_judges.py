"""Judges of a dataset, trained once and kept under a key of what made them.

``ROOT/judges/<key>.<sha256>.safetensors``. The azimuth judge learns from the training identities;
the identity judge from every second azimuth of the held-out ones. Both are measured on the
azimuths left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from idpose_core.evaluation.intervals import Estimate
from idpose_core.evaluation.judges import (
    AZIMUTH,
    IDENTITY,
    AzimuthJudge,
    IdentityJudge,
    JudgeNetwork,
    JudgeTraining,
    azimuth_error,
    judged,
    train_azimuth_judge,
    train_identity_judge,
)
from idpose_core.evaluation.pictures import at_size
from idpose_core.evaluation.views import LabelledViews, alternate_azimuths
from storage.digests import digest
from storage.objects import Store
from storage.results import result

_VERSION = 1  # of the judges' architecture, augmentation and training


@dataclass(frozen=True, eq=False)
class Judges:
    """Both judges, and how far they can be trusted on real pictures.

    Attributes:
        ceilings: Measured on views of held-out identities that neither has seen.
    """

    azimuth: AzimuthJudge
    identity: IdentityJudge
    ceilings: Mapping[str, Estimate]


def judges_of(
    store: Store,
    training: LabelledViews,
    held_out: LabelledViews,
    size: int,
    *,
    azimuth: JudgeTraining = AZIMUTH,
    identity: JudgeTraining = IDENTITY,
    report: Callable[[str], None] = lambda line: None,
) -> Judges:
    """The judges of a dataset, trained unless they are kept already.

    Args:
        store: The root.
        training: Views of identities for training.
        held_out: Views of the identities that generated pictures will show.
        size: Side at which pictures will be judged; for the ceilings.
        azimuth: How the azimuth judge is trained.
        identity: How the identity judge is trained.
        report: Told what is going on.

    Raises:
        ValueError: Views that nothing can be learned from.
    """
    learn, test = (held_out.select(rows) for rows in alternate_azimuths(held_out))

    def kept(name: str, views: LabelledViews, how: JudgeTraining, train: Any) -> JudgeNetwork:
        key = digest([name, _VERSION, asdict(how), views.digest])[:16]
        every = max(1, how.steps // 10)

        def tell(step: int, loss: float) -> None:
            if step % every == 0:
                report(f"{name} judge: step {step} of {how.steps}, loss {loss:.3f}")

        data, _ = result(
            store, "judges", key, "safetensors",
            lambda: save(_plain(train(views, how, report=tell).network.state_dict())),
        )  # fmt: skip
        tensors = load(data)
        network = JudgeNetwork(len(tensors["head.bias"]), how.width)
        network.load_state_dict(tensors)
        return network.eval()

    which_way = AzimuthJudge(kept("azimuth", training, azimuth, train_azimuth_judge))
    which_one = IdentityJudge(
        kept("identity", learn, identity, train_identity_judge), held_out.names
    )
    pictures = at_size(test.pictures, size)
    error = azimuth_error(which_way.azimuth(pictures), test.azimuth_deg)
    rank = which_one.rank(pictures, test.identity)
    return Judges(which_way, which_one, judged(error, rank, test.identity, test.identity))


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
