"""FactorVAE's networks: encoder and decoder of a VAE, and the total-correlation discriminator.

The published implementation 1Konny/FactorVAE (``model.py``, FactorVAE2 and Discriminator), of Kim
and Mnih, "Disentangling by Factorising" (2018). Other sizes than its 64 x 64 halve the picture
more or less often, down to the same 4 x 4 map.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from idpose_core.models.layers import at_least_float32

_LAST_SIDE = 4  # of the encoder's map before the code
_DEVIATION = 0.02
_NARROW = 2  # so many maps have the first width, all further ones twice as much
_HIDDEN_LAYERS = 5
_SLOPE = 0.2


class Code(NamedTuple):
    """What the encoder says of pictures: the normal distribution q(z|x), dimension by dimension.

    Attributes:
        mean: float [N, Z].
        log_variance: float [N, Z].
    """

    mean: Tensor
    log_variance: Tensor


class VariationalAutoencoder(nn.Module):
    """Pictures ``[N, 3, S, S]`` to a code of Z numbers and back.

    Initial weights come from torch's global generator: N(0, 0.02) and no bias, except for the
    transposed convolutions, which the published implementation leaves as torch draws them.

    Args:
        size: S, 4 times a power of two: 64 is halved four times, 32 three times.
        dimensions: Z, length of the code.
        width: Channels of the first two maps.

    Raises:
        ValueError: A size that does not end at 4 x 4, or no channels or dimensions.
    """

    def __init__(self, size: int = 64, dimensions: int = 10, width: int = 32) -> None:
        super().__init__()
        if min(dimensions, width) < 1:
            raise ValueError(f"a code of {dimensions} from {width} channels is none")
        self.size, self.dimensions = size, dimensions
        maps = _channels(size, width)
        # Called as such, so that each can be compiled.
        self.encoder = _encoder(maps, 8 * width, dimensions)
        self.decoder = _decoder(maps, 8 * width, dimensions)
        _initialise(self)

    def encode(self, pictures: Tensor) -> Code:
        """The code of pictures float ``[N, 3, S, S]`` in [-1, 1]; the network sees them in [0, 1].

        Raises:
            ValueError: Pictures of another shape.
        """
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != (3, self.size, self.size):
            raise ValueError(
                f"pictures are {tuple(pictures.shape)}, this network takes "
                f"[N, 3, {self.size}, {self.size}]"
            )
        both = at_least_float32(self.encoder(to_unit(pictures)).flatten(1))
        return Code(*both.chunk(2, dim=1))

    def decode(self, z: Tensor) -> Tensor:
        """Logits ``[N, 3, S, S]`` of the values in [0, 1] for codes ``[N, Z]``."""
        return at_least_float32(self.decoder(z[:, :, None, None]))

    def draw(self, z: Tensor) -> Tensor:
        """Pictures float ``[N, 3, S, S]`` in [-1, 1] for codes ``[N, Z]``."""
        return self.decode(z).sigmoid() * 2 - 1

    def forward(self, pictures: Tensor) -> Tensor:
        """Reconstructions of pictures ``[N, 3, S, S]`` in [-1, 1] from the means of their codes."""
        return self.draw(self.encode(pictures).mean)


class TotalCorrelationDiscriminator(nn.Module):
    """Were the dimensions of a code drawn together? ``[N, Z]`` to two logits ``[N, 2]``.

    The first logit stands for q(z), the second for the product of its marginals.

    Args:
        dimensions: Z.
        width: Of each of the five hidden layers.

    Raises:
        ValueError: No dimensions, or layers of nothing.
    """

    def __init__(self, dimensions: int = 10, width: int = 1000) -> None:
        super().__init__()
        if min(dimensions, width) < 1:
            raise ValueError(f"a discriminator of {width} units for a code of {dimensions} is none")
        layers: list[nn.Module] = []
        inputs = dimensions
        for _ in range(_HIDDEN_LAYERS):
            layers += [nn.Linear(inputs, width), nn.LeakyReLU(_SLOPE, inplace=True)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, 2))
        _initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        """Logits ``[N, 2]``, in float32 or better, of codes ``[N, Z]``."""
        return at_least_float32(self.layers(z))


def to_unit(pictures: Tensor) -> Tensor:
    """From [-1, 1] to [0, 1]."""
    return (pictures + 1) / 2


def _channels(size: int, width: int) -> list[int]:
    """Channels of the encoder's maps, one for each halving: 32, 32, 64, 64 for 64 x 64."""
    halvings = (size // _LAST_SIDE).bit_length() - 1
    if halvings < 1 or size != _LAST_SIDE * 2**halvings:
        raise ValueError(
            f"pictures of {size} cannot be halved to {_LAST_SIDE}: use 8, 16, 32, 64, 128, ..."
        )
    return [width if step < _NARROW else 2 * width for step in range(halvings)]


def _encoder(maps: list[int], hidden: int, dimensions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip([3, *maps], maps, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
    layers += [nn.Conv2d(maps[-1], hidden, _LAST_SIDE), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(hidden, 2 * dimensions, 1))


def _decoder(maps: list[int], hidden: int, dimensions: int) -> nn.Sequential:
    """The encoder the other way round, down to logits of the three colours."""
    layers: list[nn.Module] = [nn.Conv2d(dimensions, hidden, 1), nn.ReLU(inplace=True)]
    layers += [nn.ConvTranspose2d(hidden, maps[-1], _LAST_SIDE)]
    for inputs, outputs in zip(reversed(maps), reversed([3, *maps[:-1]]), strict=True):
        enlarge = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
        layers += [nn.ReLU(inplace=True), enlarge]
    return nn.Sequential(*layers)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, _DEVIATION)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
