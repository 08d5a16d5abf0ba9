"""Published models, ready to generate."""

from __future__ import annotations

from dataclasses import fields

import torch

from idpose_core.models.generator import Generator, GeneratorConfig
from idpose_core.training.published import Model, ModelError, read_model
from storage.objects import Store


def load_generator(
    store: Store, model: str, *, device: torch.device | str = "cpu"
) -> tuple[Generator, Model]:
    """The averaged generator of ``name`` (its champion) or ``name@version``, for evaluation.

    Raises:
        ModelError: There is no such model, or its weights are of another network than its
            configuration says.
        DamageError: Its files are damaged.
    """
    found = read_model(store, model)
    said = found.info["config"].get("generator")
    known = {field.name for field in fields(GeneratorConfig)}
    if not isinstance(said, dict) or not set(said) <= known:
        raise ModelError(f"{found.name}@{found.version} does not say what its generator is")
    generator = Generator(GeneratorConfig(**said))
    try:
        generator.load_state_dict(found.weights(store))
    except RuntimeError as error:
        cause = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"the weights of {found.name}@{found.version} are not of the generator that it names "
            f"({cause}): publish it again"
        ) from error
    return generator.to(device).eval(), found
