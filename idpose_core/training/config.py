"""The configuration of a training: one object that describes it entirely.

A preset says what the networks look like, a method what it sets beside that; any key can be set.
``resolve`` writes all into one whole, which names the run and stands beside it and in the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from idpose_core import settings
from idpose_core.methods.drnet import DrNetSettings
from idpose_core.methods.factor_vae import FactorVAESettings
from idpose_core.methods.fusion_image import FusionImageSettings
from idpose_core.methods.identity_pose import PRESETS, VERSION, Weights
from idpose_core.methods.pix2pixhd import Pix2pixHDSettings
from idpose_core.methods.registry import METHODS, PAPER
from idpose_core.models.discriminators import DiscriminatorConfig
from idpose_core.models.generator import GeneratorConfig
from idpose_core.models.perceptual import PerceptualConfig
from idpose_core.models.pixel_verification import PixelVerificationConfig
from idpose_core.settings import ConfigError, Section

Preset = Literal["128", "64", "paper", "small"]
Precision = Literal["float32", "bfloat16"]


class OptimisationConfig(Section):
    """How the networks are trained (paper, section 4)."""

    method: str = Field(PAPER, description="identity-pose, an ablation, copy-attention, a baseline")
    preset: Preset | None = Field(
        None, description="128 (YTBB), 64 (synthetic), paper and small (CPU); null = by the device"
    )
    steps: int = Field(100_000, ge=1, description="Updates of the generator, and of each D")
    batch_size: int = Field(16, ge=1, description="Triplets a step, over all processes")
    learning_rate: float = Field(1e-4, gt=0, description="Of Adam")
    decay_from: float = Field(
        1, ge=0, le=1, description="Share of the steps after which the rate falls to 0; 1 = never"
    )
    betas: tuple[float, float] = Field((0.5, 0.999), description="Of Adam")
    average: float = Field(0.999, ge=0, lt=1, description="Limit of the moving average's decay")
    precision: Precision | None = Field(
        None, description="Of the convolutions; null = bfloat16 where CUDA has it, else float32"
    )
    jitter: float = Field(0.4, ge=0, le=1, description="Strength of the colour jitter")
    flip: bool = Field(False, description="Mirror half of the triplets, all three pictures")
    merge_videos: bool = Field(False, description="Clips of one video are one class of L_aux")
    weigh_by_trust: bool = Field(
        False, description="Triplets count in L1_dis by the trust in their pose picture"
    )
    start: str | None = Field(
        None,
        description="Model whose weights the published network begins with, NAME (its champion) "
        "or NAME@VERSION; null = from scratch",
    )
    checkpoint_every: int = Field(1000, ge=1, description="Steps")
    sample_every: int = Field(1000, ge=1, description="Steps between sample grids")
    log_every: int = Field(50, ge=1, description="Steps between lines of the log")
    measure_every: int = Field(500, ge=1, description="Steps between gradient norms and entropies")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method not in METHODS:
            near = settings.nearest(self.method, METHODS)
            raise ValueError(
                f"training.method: no method {self.method!r}; the nearest known one is {near!r}"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"training.betas lie in [0, 1), not {self.betas}")
        return self


class RunConfig(Section):
    """How a training is carried out; nothing here makes it another one."""

    device: str = Field("auto", description="auto (a free GPU, else cpu), cpu, cuda or cuda:N")
    compile: bool | None = Field(None, description="torch.compile; null = on CUDA")
    minutes: float | None = Field(
        None, gt=0, description="Stop cleanly after so long; the same command goes on"
    )
    samples: int | None = Field(
        None, ge=1, description="Stop cleanly after so many triplets; the same command goes on"
    )
    loader_threads: int = Field(2, ge=0, description="Threads that decode pictures")
    keep: int = Field(3, ge=1, description="Newest checkpoints kept, beside the best")
    perceptual_weights: str | None = Field(
        None, description="File or name of `idpose weights list`; null = by perceptual.kind"
    )


_CADENCE = {
    "preset", "steps", "checkpoint_every", "sample_every", "log_every", "measure_every",
}  # fmt: skip


class TrainingConfig(Section):
    """Everything that `idpose train` needs to know, beside the dataset."""

    training: OptimisationConfig = OptimisationConfig()
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    pixel_verification: PixelVerificationConfig = PixelVerificationConfig()
    perceptual: PerceptualConfig = PerceptualConfig()
    weights: Weights = Weights()
    pix2pixhd: Pix2pixHDSettings = Pix2pixHDSettings()
    fusion_image: FusionImageSettings = FusionImageSettings()
    drnet: DrNetSettings = DrNetSettings()
    factor_vae: FactorVAESettings = FactorVAESettings()
    aux_on_fakes: bool = Field(False, description="Train the identity head on fakes as well")
    one_again: bool = Field(False, description="One reconstruction of L2_dis a step, at random")
    run: RunConfig = RunConfig()
    seed: int = Field(0, ge=0, lt=2**64, description="Of weights, order and noise")
    _asked: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _remember(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(values)
        if isinstance(values, Mapping):
            made._asked = _copied(dict(values))
        return made

    def asked(self) -> dict[str, Any]:
        """The plain values that it was made of, before defaults: a preset gives way to these."""
        return _copied(self._asked)

    def identity(self) -> dict[str, Any]:
        """The part that the weights after a step depend on, as plain values.

        Sections that the method uses, without what has its default, so that a run keeps its name
        when there comes to be a setting that it does not use. Not how long to train and how often
        to look: more steps go on with the same run, unless the rate falls towards the last one.
        """
        left_out = _CADENCE - {"steps"} if self.training.decay_from < 1 else _CADENCE
        plain = {"training": _departing(self.training, OptimisationConfig(), left_out)}
        defaults = TrainingConfig()
        for name in self._sections():
            departing = _departing(getattr(self, name), getattr(defaults, name), set())
            if departing not in ({}, None):
                plain[name] = departing
        plain["training"]["method"] = self.training.method
        return {**plain, "seed": self.seed, "method_version": VERSION}

    def described(self) -> dict[str, Any]:
        """The same in full, defaults too: what a published model says of itself."""
        used = {"training", "seed", *self._sections()}
        plain = self.model_dump(mode="json", include=used)
        return {**plain, "method_version": VERSION}

    def method(self) -> Any:
        """The configuration of the method."""
        return METHODS[self.training.method].configured(
            {name: getattr(self, name) for name in self._sections()}
        )

    @property
    def distance(self) -> PerceptualConfig:
        """The distance of the losses; of pixels where the method has none."""
        return self.perceptual if "perceptual" in self._sections() else PerceptualConfig("pixel-l1")

    def _sections(self) -> list[str]:
        """The names of the sections that the method uses."""
        known = set(type(self).model_fields) - {"training", "run", "seed"}
        used = {field.name for field in fields(METHODS[self.training.method].config)}
        return sorted(known & used)


def _departing(value: Any, default: Any, left_out: set[str]) -> Any:
    """The plain values of a section that are not its defaults; None for a value that is one."""

    def plain(section: Any) -> Any:
        if isinstance(section, Section):
            return section.model_dump(mode="json")
        return asdict(section) if is_dataclass(section) else section  # type: ignore[arg-type]

    found, usual = plain(value), plain(default)
    if not isinstance(found, dict):
        return None if found == usual else found
    return {k: v for k, v in found.items() if k not in left_out and v != usual[k]}


_OFTEN = {"checkpoint_every": 100, "sample_every": 100, "log_every": 10, "measure_every": 100}
_SCHEDULES: dict[Preset, dict[str, Any]] = {
    "128": {},
    "64": {"steps": 50_000},
    "paper": {"steps": 2000, "batch_size": 8, **_OFTEN},
    # Few triplets want small batches, a larger rate that falls, and no jitter, which greys out.
    "small": {
        "steps": 2500, "batch_size": 2, "learning_rate": 4e-4, "decay_from": 0.5, "jitter": 0.0,
        **_OFTEN, "checkpoint_every": 250, "sample_every": 250,
    },
}  # fmt: skip


def resolve(
    values: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    default_preset: Preset = "128",
    default_method: str = PAPER,
) -> TrainingConfig:
    """The whole configuration: the preset, over it the method's, the values, the overrides.

    Args:
        values: Plain values, such as of a YAML file.
        overrides: ``key.path: value``.
        default_preset: Where none is named.
        default_method: Where neither a method nor a preset is named.

    Raises:
        ConfigError: A key is unknown or a value is out of its range.
    """
    asked = settings.with_overrides(TrainingConfig, _copied(dict(values or {})), overrides)
    training = asked.get("training")
    said = training if isinstance(training, dict) else {}
    preset = said.get("preset") or default_preset
    if preset not in _SCHEDULES:
        raise ConfigError(f"training.preset is one of {', '.join(_SCHEDULES)}, not {preset!r}")
    method = asdict(PRESETS[preset])
    named = said.get("method", PAPER if said.get("preset") else default_method)
    base = {
        **{name: method[name] for name in _PARTS},
        "training": {**_SCHEDULES[preset], "preset": preset, "method": named},
    }
    if isinstance(named, str) and named in METHODS:
        base = settings.over(base, METHODS[named].defaults)
    return settings.parse(TrainingConfig, settings.over(base, asked))


_PARTS = (
    "generator", "discriminator", "pixel_verification", "perceptual", "weights", "one_again",
)  # fmt: skip


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _copied(v) if isinstance(v, dict) else v for key, v in values.items()}
