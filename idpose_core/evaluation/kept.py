"""Networks that measure, trained once a dataset and kept under a key of what made them.

``ROOT/judges/<key>.<sha256>.safetensors``. All but the identity judge learn from the training
split; the identity judge, which has to know the objects that it tells apart, from every second
azimuth of the held-out ones, and is tested on the others. What a GPU trained has another key: its
weights differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

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
from idpose_core.evaluation.pictures import at_size, full_precision
from idpose_core.evaluation.scores import ScoreNetwork, ScoreTraining, TripletRule, train_score
from idpose_core.evaluation.views import LabelledViews, alternate_azimuths
from storage.digests import digest
from storage.objects import Store
from storage.results import result

_VERSION = 1  # of architectures, augmentation and training
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Judges:
    """Both judges, and how far they can be trusted on real pictures.

    Attributes:
        ceilings: Measured on views of held-out identities that neither has seen.
        suffix: What ends the names of their metrics, see :func:`steps_suffix`.
    """

    azimuth: AzimuthJudge
    identity: IdentityJudge
    ceilings: Mapping[str, Estimate]
    suffix: str = ""


def steps_suffix(steps: int, own: int) -> str:
    """What the name of a metric ends in whose network had another number of steps than its own."""
    return "" if steps == own else f"-{steps}-steps"


def judges_of(
    store: Store,
    training: LabelledViews,
    held_out: LabelledViews,
    size: int,
    *,
    azimuth: JudgeTraining = AZIMUTH,
    identity: JudgeTraining = IDENTITY,
    device: str = "cpu",
    say: Say = lambda line: None,
) -> Judges:
    """The judges of a dataset, trained unless they are kept already.

    Args:
        store: The root.
        training: Views of identities for training.
        held_out: Views of the identities that generated pictures will show.
        size: Side at which pictures will be judged; for the ceilings.
        azimuth: How the azimuth judge is trained.
        identity: How the identity judge is trained.
        device: Where they are trained and judge.
        say: Told what is going on.

    Raises:
        ValueError: Views that nothing can be learned from.
    """
    learn, test = (held_out.select(rows) for rows in alternate_azimuths(held_out))
    which_way = azimuth_judge(store, training, azimuth, device=device, say=say)
    which_one = IdentityJudge(
        _kept_judge(store, "identity", learn, identity, train_identity_judge, device, say),
        held_out.names,
    )
    pictures = at_size(test.pictures, size)
    error = azimuth_error(which_way.azimuth(pictures), test.azimuth_deg)
    rank = which_one.rank(pictures, test.identity)
    suffix = steps_suffix(azimuth.steps, AZIMUTH.steps)
    return Judges(which_way, which_one, judged(error, rank, test.identity), suffix)


def azimuth_judge(
    store: Store,
    views: LabelledViews,
    how: JudgeTraining = AZIMUTH,
    *,
    device: str = "cpu",
    say: Say = lambda line: None,
) -> AzimuthJudge:
    """The azimuth judge of these views, trained unless it is kept already.

    Raises:
        ValueError: See :func:`train_azimuth_judge`.
    """
    network = _kept_judge(store, "azimuth", views, how, train_azimuth_judge, device, say)
    return AzimuthJudge(network)


def score_network(
    store: Store,
    what: Literal["id", "pose"],
    views: LabelledViews,
    how: ScoreTraining,
    *,
    imagenet: tuple[str, Mapping[str, Any]] | None = None,
    device: str = "cpu",
    say: Say = lambda line: None,
) -> ScoreNetwork:
    """The network of the ID or the pose score, trained unless it is kept already.

    Args:
        store: The root.
        what: Which score.
        views: Of the training split; for the pose score with known azimuths.
        how: How it is trained.
        imagenet: Digest and tensors of the weights that ``resnet50`` starts from.
        device: Where it is trained, and left.
        say: Told what is going on.

    Raises:
        ValueError: No triplet can be formed of these views.
    """
    rule = (
        TripletRule.identity(views.identity, views.video)
        if what == "id"
        else TripletRule.pose(views.azimuth_deg, views.identity)
    )
    sha256, start = imagenet or (None, None)
    report = _every(f"{what} score", how.steps, say)
    tensors = _kept(
        store, [what, asdict(how), sha256, views.digest], device,
        lambda: train_score(
            views.pictures, rule, how, imagenet=start, device=device, report=report
        ),
    )  # fmt: skip
    network = ScoreNetwork(how.kind)
    network.load_state_dict(tensors)
    return network.eval().to(device)


def _kept_judge(
    store: Store,
    name: str,
    views: LabelledViews,
    how: JudgeTraining,
    train: Any,
    device: str,
    say: Say,
) -> JudgeNetwork:
    report = _every(f"{name} judge", how.steps, say)
    tensors = _kept(
        store, [name, asdict(how), views.digest], device,
        lambda: train(views, how, device=device, report=report).network,
    )  # fmt: skip
    network = JudgeNetwork(len(tensors["head.bias"]), how.width)
    network.load_state_dict(tensors)
    return network.eval().to(device)


def _kept(
    store: Store, parts: list[Any], device: str, train: Callable[[], nn.Module]
) -> dict[str, Tensor]:
    def trained() -> bytes:
        with full_precision():
            state = train().state_dict()
        return save({name: value.detach().cpu().contiguous() for name, value in state.items()})

    kind = torch.device(device).type
    key = digest([_VERSION, *parts, *([] if kind == "cpu" else [kind])])[:16]
    data, _ = result(store, "judges", key, "safetensors", trained)
    return load(data)


def _every(name: str, steps: int, say: Say) -> Callable[[int, float], None]:
    def tell(step: int, loss: float) -> None:
        if step % max(1, steps // 5) == 0:
            say(f"training the {name}: step {step} of {steps}, loss {loss:.3f}")

    return tell
