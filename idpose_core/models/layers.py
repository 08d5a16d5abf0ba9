"""What the networks share: convolutions with their padding, norms, initial weights, choices."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from idpose_core.models import winograd

Norm = Literal["instance", "group"]
Padding = Literal["reflect", "zero"]

_INITIAL_DEVIATION = 0.02  # pix2pixHD, models/networks.py: N(0, 0.02), biases left as they are


def check_choice(name: str, value: object, kind: Any) -> None:
    """Check that a setting is one of its literals.

    Args:
        name: Of the setting, for the message.
        value: What it was set to.
        kind: The ``Literal`` type with the choices.

    Raises:
        ValueError: It is none of them.
    """
    choices = get_args(kind)
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: choose from {', '.join(map(repr, choices))}")


class Convolution(nn.Conv2d):
    """``nn.Conv2d`` that takes the faster of two ways on a CPU; its weights and names are the same.

    For stride 1 and no groups by Winograd's filtering where that pays.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.stride != (1, 1) or self.groups > 1 or not winograd.pays(input, weight):
            direct: Tensor = super()._conv_forward(input, weight, bias)
            return direct
        height, width = input.shape[2:]
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        padded = F.pad(input, (1, 1, 1, 1), mode)
        padded = F.pad(padded, (0, width % 2, 0, height % 2))  # tiles are of 2 x 2
        convolved = winograd.convolve(padded, weight)[:, :, :height, :width]
        return convolved if bias is None else convolved + bias[:, None, None]


def convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: Padding
) -> Convolution:
    """A convolution of odd kernel that keeps the size (or halves it with stride 2)."""
    return Convolution(
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding=kernel // 2,
        padding_mode="reflect" if padding == "reflect" else "zeros",
    )


def instance_norm(channels: int, kind: Norm) -> nn.Module:
    """Instance normalisation without affine parameters and without running statistics.

    ``group`` is the same function as a group norm of one channel a group: it keeps the memory
    format ``channels_last``, which ``nn.InstanceNorm2d`` drops (pytorch issue 72341). Neither has
    parameters, so that weights trained with one load into the other.
    """
    if kind == "group":
        return nn.GroupNorm(channels, channels, eps=1e-5, affine=False)
    return nn.InstanceNorm2d(channels, eps=1e-5, affine=False, track_running_stats=False)


def layer_norm(channels: int) -> nn.Module:
    """Normalisation over channels, height and width of each map, with a gain and a bias a channel.

    Unlike the instance norm it keeps how strong the channels are beside each other.
    """
    return nn.GroupNorm(1, channels, eps=1e-5, affine=True)


def initialise(network: nn.Module) -> None:
    """Draw all convolution weights from N(0, 0.02) with torch's global generator (pix2pixHD)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, _INITIAL_DEVIATION)


def initialise_without_norm(network: nn.Module) -> None:
    """Draw the convolution weights of a ReLU network without norms so that signals keep their size.

    He et al. 2015. N(0, 0.02) relies on a norm after each convolution, as in pix2pixHD.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 where it is in half precision; float32 and float64 stay as they are."""
    return x.float() if x.element_size() < 4 else x
