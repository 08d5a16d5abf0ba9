"""The losses of section 3.3, one function each.

The paper's equations carry no numbers in its text; here they are counted as section 3 displays
them: 1 the generator, 2 L1_dis, 3 L2_dis, 4 L_dis, 5 the aligned picture, 6 L_pv, 7 the total.
L_pv itself is ``idpose_core.models.pixel_verification.verify_pixels``. All losses are means over
the batch, so that the mean over processes is the loss of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.models.discriminators import Adversarial, Judgement

Distance = Callable[..., Tensor]
"""d(generated, target): pictures [B, 3, S, S] to a float []; d(generated, target, weight [B])."""


@dataclass(frozen=True)
class Losses:
    """A total and what it is made of.

    Attributes:
        parts: Each loss by its name, float [], not weighted.
        weights: The weight of each part.
    """

    parts: Mapping[str, Tensor]
    weights: Mapping[str, float]

    @property
    def total(self) -> Tensor:
        """The weighted sum of the parts, float [].

        Raises:
            ValueError: There are no parts.
        """
        weighted = self.weighted()
        if not weighted:
            raise ValueError("there are no losses to add up: nothing is to be trained here")
        return torch.stack(list(weighted.values())).sum()

    def weighted(self) -> dict[str, Tensor]:
        """Each part times its weight."""
        return {name: self.weights[name] * part for name, part in self.parts.items()}


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No parameter of the network receives a gradient from what is computed inside."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def gradient_norms(losses: Losses, at: Tensor) -> dict[str, float]:
    """Norm of the gradient of each weighted part at one tensor: who pulls how hard.

    Call it before ``losses.total.backward()``; it costs a backward pass of each part down to that
    tensor, and leaves all ``.grad`` as they are.

    Args:
        losses: Of the generator.
        at: A tensor that they came from: ``Generated.decoded.picture`` is the generator's output.
            L_pv reaches the generator through ``Generated.decoded.feature`` as well.

    Returns:
        The norm of each part, 0 for those that do not depend on the tensor.
    """
    norms: dict[str, float] = {}
    for name, part in losses.weighted().items():
        (gradient,) = torch.autograd.grad(part, at, retain_graph=True, allow_unused=True)
        norms[name] = 0.0 if gradient is None else float(torch.linalg.vector_norm(gradient))
    return norms


def loss_dis1(
    distance: Distance, generated: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor:
    """L1_dis = d(I_target, I_g), equation 2: the output is the pseudo ground truth.

    d is the perceptual distance ("we adopt the perceptual loss"). Where the pose picture shows
    another pose than the target the ground truth is none, so each triplet may count by the trust in
    its pose picture: ``weight`` [B], None as in the paper.
    """
    return distance(generated, target) if weight is None else distance(generated, target, weight)


def loss_dis2(distance: Distance, again: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """L2_dis = d(I_id, G(I_id, I_id)) + d(I_pose, G(I_pose, I_pose)), equation 3.

    Each encoder serves two outputs of different pose (or identity), so it may not carry that.

    Args:
        distance: d.
        again: Pictures and what was made of each and itself; where there is one of the two only,
            it counts for both.

    Raises:
        ValueError: Neither picture was made again.
    """
    if not again:
        raise ValueError("these pictures were generated without a pass that the losses need")
    distances = [distance(made, picture) for picture, made in again]
    return torch.stack(distances).sum() * (2 / len(distances))


def loss_aux(judgement: Judgement, clip: Tensor) -> Tensor:
    """L_aux, the third term of equation 7: the cross-entropy of the clip as an identity.

    Both sides minimise it. The printed min-max would have the discriminator maximise it, which
    would teach the head that everything is any clip.

    Args:
        judgement: Of D_real, with logits [B, C].
        clip: int64 [B], indices of training clips.

    Raises:
        ValueError: The discriminator has no auxiliary head.
    """
    if judgement.logits is None:
        raise ValueError("L_aux needs the auxiliary head of D_real")
    return F.cross_entropy(judgement.logits, clip)


def loss_real(kind: Adversarial, generated: Judgement) -> Tensor:
    """L_real of the generator, in L_GAN of equation 7: D_real shall take I_g for real."""
    return _to_be_believed(kind, generated.maps)


def loss_pair(kind: Adversarial, generated: Judgement) -> Tensor:
    """L_pair of the generator, in L_GAN of equation 7: D_pair shall take (I_id, I_g) for one."""
    return _to_be_believed(kind, generated.maps)


def loss_real_discriminator(kind: Adversarial, real: Judgement, generated: Judgement) -> Tensor:
    """L_real of D_real, in L_GAN of equation 7: I_target is real, I_g is not."""
    return _share(kind) * (_told(kind, real.maps, True) + _told(kind, generated.maps, False))


def loss_pair_discriminator(
    kind: Adversarial, positive: Judgement, generated: Judgement, mismatch: Judgement
) -> Tensor:
    """L_pair of D_pair, in L_GAN of equation 7: which pairs show one identity.

    (I_id, I_target) does; (I_id, I_g) and (I_id, the mismatch), at half weight each, do not. The
    mismatch, a real picture of the same pose and another identity, makes D_pair look at identity
    rather than at realism (the matching-aware discriminator of GAN-CLS, Reed et al. 2016).
    """
    wrong = 0.5 * (_told(kind, generated.maps, False) + _told(kind, mismatch.maps, False))
    return _share(kind) * (_told(kind, positive.maps, True) + wrong)


def _share(kind: Adversarial) -> float:
    """pix2pixHD halves the loss of a discriminator (train.py), SPADE does not."""
    return 0.5 if kind == "lsgan" else 1.0


def _over_scales(kind: Adversarial, values: Sequence[Tensor]) -> Tensor:
    """pix2pixHD adds the scales up, SPADE takes their mean."""
    stacked = torch.stack(list(values))
    return stacked.sum() if kind == "lsgan" else stacked.mean()


def _to_be_believed(kind: Adversarial, maps: Sequence[Tensor]) -> Tensor:
    if kind == "hinge":
        return _over_scales(kind, [-judged.mean() for judged in maps])
    return _told(kind, maps, True)


def _told(kind: Adversarial, maps: Sequence[Tensor], real: bool) -> Tensor:
    """What a discriminator loses if this is the truth about all pictures of these maps."""
    if kind == "hinge":
        sign = 1.0 if real else -1.0
        return _over_scales(kind, [F.relu(1 - sign * judged).mean() for judged in maps])
    return _over_scales(kind, [(judged - float(real)).square().mean() for judged in maps])
