"""Which weights file a stage uses, and where weights are kept."""

from __future__ import annotations

import os
from pathlib import Path

from idpose_core.config import ConfigError
from idpose_core.weights import find_weights, list_weights
from storage.digests import file_sha256
from storage.objects import Store

_NETWORKS = {
    "torchvision": "fasterrcnn_resnet50_fpn_v2",
    "detectron2": "faster_rcnn_R_50_FPN_3x",
    "yolox": "yolox-nano",
    "rotnet": "ImageNet_RotNet_AlexNet",
    "st-alex": "st-alex",
    "dinov2": "dinov2_vits14",
    "st-vgg16": "st-vgg16",
    "vgg19": "vgg19",
    "azimuth": "car-azimuth",
    "car-view": "efficientnet-lite0",
    "view-reader": "car-view",
}


def weights_root(root: str) -> Path:
    """The local folder below which weights are kept.

    $IDPOSE_WEIGHTS, else ROOT where it is a local folder, else ~/.cache/idpose: networks are read
    from files, which a remote root does not have.
    """
    configured = os.environ.get("IDPOSE_WEIGHTS")
    if configured:
        return Path(configured)
    return Store(root).local_path(".") or Path.home() / ".cache" / "idpose"


def resolve_weights(
    kind: str, configured: str | None, store: Store
) -> tuple[str | None, str | None]:
    """The weights file of a detector or embedder, and its SHA-256; nothing where it has none.

    Args:
        kind: The detector's or embedder's kind, ``azimuth`` or ``view-reader``.
        configured: A path or the name of a known network, from the configuration; None = the
            network of this kind.
        store: The root of the build.

    Raises:
        ConfigError: There is no such file; the message says how to get it.
    """
    network = _NETWORKS.get(kind)
    if network is None:
        return None, None
    if configured is not None and Path(configured).is_file():
        path = Path(configured)
    elif configured in (None, *(known.name for known in list_weights())):
        try:
            path = find_weights(configured or network, weights_root(store.location))
        except ValueError as error:
            raise ConfigError(str(error)) from error
    else:
        raise ConfigError(
            f"the weights of {kind}: {configured!r} is neither a file nor a name of "
            "`idpose weights list`"
        )
    return str(path.absolute()), file_sha256(path)
