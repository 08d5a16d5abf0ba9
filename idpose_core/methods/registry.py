"""All methods by name: what each is configured by, how it is built, what it publishes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from idpose_core.methods.identity_pose import (
    ABLATIONS,
    COPY_DEFAULTS,
    IdentityPose,
    IdentityPoseConfig,
)
from idpose_core.methods.method import Method
from idpose_core.models.generator import Generator


@dataclass(frozen=True)
class Entry:
    """A method.

    Attributes:
        config: Its configuration, a dataclass: fields that are sections of the configuration of a
            training are taken from there.
        build: ``(config, perceptual, clips=number of training clips)`` to the method.
        published: ``(config)`` to the network that it publishes, without weights.
        fixed: Fields of its configuration that the method's name stands for.
        defaults: Plain values of the training's configuration, over those of the preset and under
            those that are asked for.
    """

    config: type[Any]
    build: Callable[..., Method]
    published: Callable[[Any], nn.Module]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def configured(self, sections: Mapping[str, Any]) -> Any:
        """Its configuration, out of the sections of the training's."""
        names = [part.name for part in fields(self.config) if part.name not in self.fixed]
        return self.config(**{n: sections[n] for n in names if n in sections}, **self.fixed)


def _ours(ablation: str, defaults: Mapping[str, Any] | None = None) -> Entry:
    return Entry(
        IdentityPoseConfig,
        IdentityPose,
        lambda config: Generator(config.generator),
        {"terms": ABLATIONS[ablation]},
        defaults or {},
    )


PAPER = "identity-pose"
METHODS: dict[str, Entry] = {
    PAPER: _ours("full"),
    **{name: _ours(name) for name in ABLATIONS if name != "full"},
    "copy-attention": _ours("full", COPY_DEFAULTS),
}
"""The paper's method, its ablations, what goes beyond it, and the baselines."""
