"""All methods by name: what each is configured by, how it is built, what it publishes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from idpose_core.methods import drnet, factor_vae, fusion_image, identity_pose, pix2pixhd
from idpose_core.methods.drnet import DrNet, DrNetConfig
from idpose_core.methods.factor_vae import FactorVAE, FactorVAEConfig
from idpose_core.methods.fusion_image import FusionImage, FusionImageConfig
from idpose_core.methods.identity_pose import ABLATIONS, IdentityPose, IdentityPoseConfig
from idpose_core.methods.method import Method
from idpose_core.methods.pix2pixhd import Pix2pixHD, Pix2pixHDConfig


@dataclass(frozen=True)
class Entry:
    """A method.

    Attributes:
        config: Its configuration, a dataclass: fields that are sections of the configuration of a
            training are taken from there.
        build: ``(config, perceptual, clips=number of training clips)`` to the method.
        published: ``(config)`` to the network that it publishes, without weights.
        defaults: Plain values of the training's configuration, over those of the preset and under
            those that are asked for.
        fixed: Fields of its configuration that the method's name stands for.
        swaps: Whether it makes a picture of one identity in the pose of another at all.
    """

    config: type[Any]
    build: Callable[..., Method]
    published: Callable[[Any], nn.Module]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    swaps: bool = True

    def configured(self, sections: Mapping[str, Any]) -> Any:
        """Its configuration, out of the sections of the training's."""
        names = [part.name for part in fields(self.config) if part.name not in self.fixed]
        return self.config(**{n: sections[n] for n in names if n in sections}, **self.fixed)


def _ours(ablation: str, defaults: Mapping[str, Any] | None = None) -> Entry:
    return Entry(
        IdentityPoseConfig,
        IdentityPose,
        identity_pose.build_swapper,
        defaults or {},
        {"terms": ABLATIONS[ablation]},
    )


PAPER = "identity-pose"
METHODS: dict[str, Entry] = {
    PAPER: _ours("full"),
    **{name: _ours(name) for name in ABLATIONS if name != "full"},
    "copy-attention": _ours("full", identity_pose.COPY_DEFAULTS),
    "pix2pixhd": Entry(Pix2pixHDConfig, Pix2pixHD, pix2pixhd.build_swapper, pix2pixhd.DEFAULTS),
    "fusion-image": Entry(
        FusionImageConfig, FusionImage, fusion_image.build_swapper, fusion_image.DEFAULTS
    ),
    "drnet": Entry(DrNetConfig, DrNet, drnet.build_swapper, drnet.DEFAULTS),
    "factor-vae": Entry(
        FactorVAEConfig, FactorVAE, factor_vae.build_swapper, factor_vae.DEFAULTS, swaps=False
    ),
}
"""The paper's method, its ablations, what goes beyond it, and the baselines."""
