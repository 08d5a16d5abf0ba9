"""What every method is trained on: a batch of triplets."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class TripletBatch(Protocol):
    """B triplets, as the augmentation gives them (method.md, section 5).

    Attributes:
        id: I_id, RGB float [B, 3, S, S] in [-1, 1].
        pose: I_pose, the same shape.
        target: I_target: the clip and the colour jitter of ``id``, the crop of ``pose``.
        mismatch: I_pose again with the jitter of ``id``, D_pair's real pair of two identities.
            Positives share their jitter, and D_pair would else learn to read jitter.
        clip: Index among the training clips of the clip of ``id`` and ``target``, int64 [B].
        weight: How much each triplet counts in L1_dis, float [B], about 1 on average over the
            training triplets; None = 1 each.
        video: Code of the video of ``id`` and ``target``, int64 [B], on the CPU.
        key: A random word, a pure function of seed, step and the place of the first row in the
            whole batch.
    """

    @property
    def id(self) -> Tensor: ...  # noqa: D102
    @property
    def pose(self) -> Tensor: ...  # noqa: D102
    @property
    def target(self) -> Tensor: ...  # noqa: D102
    @property
    def mismatch(self) -> Tensor: ...  # noqa: D102
    @property
    def clip(self) -> Tensor: ...  # noqa: D102
    @property
    def weight(self) -> Tensor | None: ...  # noqa: D102
    @property
    def video(self) -> Tensor: ...  # noqa: D102
    @property
    def key(self) -> int: ...  # noqa: D102


def derangement(video: Tensor, key: int) -> Tensor:
    """For each row of a batch another one, of another video: a random permutation of the rows.

    The rows are sorted by video, videos and rows of one in random order, and moved on by the size
    of the largest one: so no row lands in its own video. Where more than half of the batch is of
    one video, which small batches meet by chance, some of its rows meet each other.

    Args:
        video: Codes, int64 [B].
        key: The same key gives the same permutation.

    Returns:
        int64 [B] on the CPU: the row that each row meets.

    Raises:
        ValueError: There is a single row.
    """
    codes = video.cpu().numpy()
    random = np.random.Generator(np.random.PCG64(key))
    names, counts = np.unique(codes, return_counts=True)
    if len(codes) < 2:
        raise ValueError("each row must meet another one: raise training.batch_size to 2 or more")
    place = random.permutation(len(names))[np.searchsorted(names, codes)]
    order = np.lexsort((random.random(len(codes)), place))
    met = np.empty(len(codes), np.int64)
    met[order] = np.roll(order, min(counts.max(), len(codes) // 2))
    return torch.from_numpy(met)


def check_batch(batch: TripletBatch, *, size: int, clips: int) -> None:
    """Check what a loss would swallow or a GPU would abort on; meant for batches on the CPU.

    Args:
        batch: The batch.
        size: Side of the pictures.
        clips: Number of training clips; 0 where their indices are not used.

    Raises:
        ValueError: Pictures of another shape, not finite or outside of [-1, 1]; clips that are no
            training clips.
    """
    count = len(batch.id)
    for name in ("id", "pose", "target", "mismatch"):
        pictures: Tensor = getattr(batch, name)
        if tuple(pictures.shape) != (count, 3, size, size):
            raise ValueError(
                f"the {name} pictures are {tuple(pictures.shape)}, not {(count, 3, size, size)}"
            )
        if not bool(((pictures >= -1) & (pictures <= 1)).all()):  # False for NaN as well
            raise ValueError(f"the {name} pictures hold values outside of [-1, 1], or NaN")
    if clips == 0:
        return
    if batch.clip.dtype != torch.int64 or tuple(batch.clip.shape) != (count,):
        raise ValueError(f"clips are {batch.clip.dtype} {tuple(batch.clip.shape)}, not int64 [B]")
    if bool(((batch.clip < 0) | (batch.clip >= clips)).any()):
        raise ValueError(f"a clip is none of the {clips} training clips: {batch.clip.tolist()}")
