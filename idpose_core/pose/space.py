"""The pose space: a projection of pose features and the M poses found in it.

The paper ("Identity from here, Pose from there", Xiao, Liu, Lee, ICCV 2019, section 3.1) clusters
all pictures into M poses by their AlexNet conv4 features. Those have 43,264 dimensions, so they
are first projected by PCA. Both are fitted on training rows only.

Fitting runs on one thread: the order of float sums, and with it the last bits of the result,
would otherwise depend on the number of cores. Applying a space is exact: see `widen`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg
import threadpoolctl  # type: ignore[import-untyped]
import torch  # must be loaded before faiss: the two bring their own OpenMP

# isort: split
import faiss
import safetensors
import safetensors.numpy

Features = npt.NDArray[np.float16] | npt.NDArray[np.float32]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Texts = Sequence[str] | npt.NDArray[np.str_]

MAX_PCA_ROWS = 8192
"""PCA is fitted on at most so many rows: 16 times the 512 components that are asked for."""

_ROWS_PER_BLOCK = 256
_COLUMNS_PER_BLOCK = 2048
_GRID = 2.0**24
_NO_VARIANCE = 1e-10  # of the largest variance: directions below it are rounding noise


@dataclass(frozen=True, eq=False)
class PoseSpace:
    """An immutable projection with its M centroids.

    Attributes:
        mean: float32 [D], the mean training feature.
        components: float32 [k, D], orthonormal rows, largest variance first; the entry of largest
            magnitude of each is positive. A row is zero where the data has no variance left.
        centroids: float32 [M, k], unit vectors (zero only when no training row differs from the
            mean).
        made_of: digest (32 hexadecimal characters) of the features that it was fitted on: of the
            embedder, its settings and its weights. Features of another origin do not belong here.

    All values are multiples of 2**-24 (see `widen`).
    """

    mean: Float32
    components: Float32
    centroids: Float32
    made_of: str = "0" * 32

    def to_bytes(self) -> bytes:
        """Return the space as safetensors; the same space gives the same bytes."""
        # No metadata: safetensors writes it in the order of a hash map, which changes.
        arrays: dict[str, npt.NDArray[Any]] = {
            name: getattr(self, name) for name in ("mean", "components", "centroids")
        }
        arrays["made_of"] = np.frombuffer(bytes.fromhex(self.made_of), np.uint8)
        return safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> PoseSpace:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: the bytes are not a pose space.
        """
        try:
            arrays = safetensors.numpy.load(data)
        except safetensors.SafetensorError as error:
            raise ValueError(f"not a pose space: {error}") from error
        if set(arrays) != {"mean", "components", "centroids", "made_of"}:
            raise ValueError(f"not a pose space: it holds {sorted(arrays)}")
        made_of = arrays.pop("made_of")
        space = cls(**arrays, made_of=made_of.tobytes().hex())
        fits = (
            all(array.dtype == np.float32 for array in arrays.values())
            and made_of.dtype == np.uint8
            and made_of.shape == (16,)
            and space.mean.ndim == 1
            and space.components.ndim == space.centroids.ndim == 2
            and space.components.shape[1] == len(space.mean)
            and space.centroids.shape[1] == len(space.components)
        )
        if not fits:
            shapes = {name: array.shape for name, array in sorted(arrays.items())}
            raise ValueError(f"not a pose space: shapes {shapes}")
        return space


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run BLAS and faiss on one thread inside the block, and restore what was set before."""
    faiss_threads = faiss.omp_get_max_threads()
    with threadpoolctl.threadpool_limits(limits=1):
        faiss.omp_set_num_threads(1)
        try:
            yield
        finally:
            faiss.omp_set_num_threads(faiss_threads)


def widen(rows: Features) -> Float64:
    """Return features as float64 multiples of 2**-24, so that their products add up exactly.

    A product of two such values is a multiple of 2**-48, and by Cauchy and Schwarz no sum of
    products of rows of length up to 2 exceeds 4: 51 bits, which float64 holds without rounding.
    So a row's products depend neither on its place in a matrix nor on the threads or the machine,
    as they do in float32, where BLAS adds in another order at the edge of a matrix. Every float16
    is such a multiple already.

    Args:
        rows: float16 or float32 [n, D], values in -2..2.
    """
    if rows.dtype == np.float16:
        # torch widens float16 eight times faster than numpy; it wants memory that may be written.
        wide: Float64 = torch.from_numpy(np.array(rows)).to(torch.float64).numpy()
        return wide
    return np.round(rows.astype(np.float64) * _GRID) / _GRID


def _on_grid(rows: npt.NDArray[np.floating]) -> Float32:
    """Round to multiples of 2**-24; within -1..1 float32 holds these exactly."""
    return (np.round(rows.astype(np.float64) * _GRID) / _GRID).astype(np.float32)


def fit_pose_space(
    features: Features,
    crop_ids: Texts,
    *,
    clusters: int,
    dimensions: int = 512,
    seed: int,
    made_of: str = "0" * 32,
) -> PoseSpace:
    """Fit projection and centroids on training rows.

    Args:
        features: float16 or float32 [N, D], the training rows only, sorted by crop id.
        crop_ids: the N crop ids, strictly increasing.
        clusters: M, the number of poses (`pose.clusters`), 1 <= M <= N.
        dimensions: dimensions wanted of the projection; k = min(dimensions, N - 1, D) are kept,
            at least one.
        seed: chooses the rows that PCA sees (when N > 8192) and the first centroids.
        made_of: digest of the features' origin, see PoseSpace.

    Returns:
        The pose space. The same input gives the same bits on one machine, whatever its threads.

    Raises:
        ValueError: fewer rows than clusters, ids out of order, or features that are not finite.
    """
    _check_fit_input(features, crop_ids, clusters, dimensions)
    with single_thread():
        rows = _rows_for_pca(crop_ids, seed)
        mean = _on_grid(_mean(features, rows))
        k = max(1, min(dimensions, len(features) - 1, features.shape[1]))
        components = _on_grid(_principal_components(features, rows, mean, k))
        unclustered = PoseSpace(mean, components, np.zeros((0, k), np.float32))
        centroids = _spherical_kmeans(project(unclustered, features), clusters, seed)
    return PoseSpace(mean, components, centroids, made_of)


def project(space: PoseSpace, features: Features) -> Float32:
    """Project features and scale them to unit length.

    A row's result does not depend on which other rows are given with it.

    Args:
        space: the pose space; its centroids are not used.
        features: float16 or float32 [N, D].

    Returns:
        float32 [N, k], rows of length 1 (0 for a feature without a part in the space).

    Raises:
        ValueError: the features have another width than the space, or are not finite.
    """
    if features.ndim != 2 or features.shape[1] != len(space.mean):
        raise ValueError(f"features are {features.shape}; the space wants [N, {len(space.mean)}]")
    projected = np.empty((len(features), len(space.components)), np.float64)
    mean, components = widen(space.mean), widen(space.components)
    for start in range(0, len(features), _ROWS_PER_BLOCK):
        rows = features[start : start + _ROWS_PER_BLOCK]
        projected[start : start + len(rows)] = (widen(rows) - mean) @ components.T
    _require_finite(projected)
    return _unit_rows(projected)


def assign(space: PoseSpace, projected: Float32) -> Int32:
    """Return the nearest centroid of each projected row, by cosine; the lowest index on a tie.

    Args:
        space: the pose space.
        projected: float32 [N, k], as `project` gives it.

    Returns:
        int32 [N], values in 0..M-1.

    Raises:
        ValueError: the rows have another width than the centroids.
    """
    if projected.ndim != 2 or projected.shape[1] != space.centroids.shape[1]:
        raise ValueError(f"projected rows are {projected.shape}, centroids {space.centroids.shape}")
    cosine = widen(projected) @ widen(space.centroids).T
    clusters: Int32 = np.argmax(cosine, axis=1).astype(np.int32)
    return clusters


def _check_fit_input(features: Features, crop_ids: Texts, clusters: int, dimensions: int) -> None:
    if features.ndim != 2 or len(features) != len(crop_ids):
        raise ValueError(f"features are {features.shape} for {len(crop_ids)} crop ids")
    if clusters < 1 or dimensions < 1:
        raise ValueError("pose.clusters and the dimensions of the projection must be at least 1")
    if len(features) < clusters:
        raise ValueError(
            f"pose.clusters = {clusters}, but there are only {len(features)} training crops: "
            "lower pose.clusters or give more video"
        )
    ids = np.asarray(crop_ids, dtype=np.str_)
    if not bool(np.all(ids[:-1] < ids[1:])):
        raise ValueError("training rows must be sorted by crop id, each id once")
    for start in range(0, len(features), _ROWS_PER_BLOCK):
        _require_finite(features[start : start + _ROWS_PER_BLOCK])


def _require_finite(array: npt.NDArray[np.floating]) -> None:
    if not bool(np.isfinite(array).all()):
        raise ValueError("pose features hold NaN or infinite values")


def _rows_for_pca(crop_ids: Texts, seed: int) -> npt.NDArray[np.intp]:
    """Return at most MAX_PCA_ROWS row numbers, chosen by the hash of their crop ids, ascending."""
    if len(crop_ids) <= MAX_PCA_ROWS:
        return np.arange(len(crop_ids))
    digests = [
        hashlib.blake2b(f"{seed}|{crop}".encode(), digest_size=16).digest() for crop in crop_ids
    ]
    by_hash = sorted(range(len(digests)), key=digests.__getitem__)
    return np.sort(np.asarray(by_hash[:MAX_PCA_ROWS], dtype=np.intp))


def _mean(features: Features, rows: npt.NDArray[np.intp]) -> Float32:
    total = np.zeros(features.shape[1], np.float64)
    for start in range(0, len(rows), _ROWS_PER_BLOCK):
        total += features[rows[start : start + _ROWS_PER_BLOCK]].sum(axis=0, dtype=np.float64)
    return (total / len(rows)).astype(np.float32)


def _principal_components(
    features: Features, rows: npt.NDArray[np.intp], mean: Float32, k: int
) -> Float32:
    """Return the k leading principal directions, float32 [k, D].

    The smaller of the two symmetric matrices is decomposed: X X' (Gram, rows x rows) when there
    are no more rows than columns, X' X otherwise; both in float64, built block by block.
    """
    if len(rows) <= features.shape[1]:
        gram = np.zeros((len(rows), len(rows)), np.float64, order="F")
        for _, block in _centred_columns(features, rows, mean):
            gram = scipy.linalg.blas.dsyrk(
                1.0, block.T, trans=1, beta=1.0, c=gram, lower=1, overwrite_c=1
            )
        variances, vectors = _leading_eigenvectors(gram, k)
        del gram
        components = np.zeros((k, features.shape[1]), np.float64)
        for columns, block in _centred_columns(features, rows, mean):
            components[: len(variances), columns] = vectors.T @ block
        components[: len(variances)] /= np.sqrt(variances)[:, None]
    else:
        covariance = np.zeros((features.shape[1], features.shape[1]), np.float64, order="F")
        for start in range(0, len(rows), _ROWS_PER_BLOCK):
            block = features[rows[start : start + _ROWS_PER_BLOCK]].astype(np.float64) - mean
            covariance = scipy.linalg.blas.dsyrk(
                1.0, block.T, beta=1.0, c=covariance, lower=1, overwrite_c=1
            )
        variances, vectors = _leading_eigenvectors(covariance, k)
        components = np.zeros((k, features.shape[1]), np.float64)
        components[: len(variances)] = vectors.T
    return _with_canonical_signs(components).astype(np.float32)


def _centred_columns(
    features: Features, rows: npt.NDArray[np.intp], mean: Float32
) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    for start in range(0, features.shape[1], _COLUMNS_PER_BLOCK):
        columns = slice(start, min(start + _COLUMNS_PER_BLOCK, features.shape[1]))
        yield columns, features[rows, columns].astype(np.float64) - mean[columns]


def _leading_eigenvectors(
    symmetric: npt.NDArray[np.float64], k: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return eigenvalues [j] and eigenvectors [n, j], largest first; j <= k, those with variance.

    Only the lower triangle is read, and the matrix is overwritten.
    """
    n = len(symmetric)
    values, vectors = scipy.linalg.eigh(
        symmetric,
        lower=True,
        overwrite_a=True,
        check_finite=False,
        subset_by_index=[n - min(k, n), n - 1],
    )
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = (values > 0) & (values > _NO_VARIANCE * values[0])
    return values[kept], vectors[:, kept]


def _with_canonical_signs(components: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn each row so that its entry of largest magnitude (the first of equals) is positive."""
    largest = np.argmax(np.abs(components), axis=1)
    signs = np.where(components[np.arange(len(components)), largest] < 0, -1.0, 1.0)
    return components * signs[:, None]


def _spherical_kmeans(projected: Float32, clusters: int, seed: int) -> Float32:
    """Return unit centroids, float32 [M, k], by spherical k-means (cosine distance)."""
    kmeans = faiss.Kmeans(
        projected.shape[1],
        clusters,
        niter=50,
        nredo=5,
        spherical=True,
        seed=seed % 2**31,
        max_points_per_centroid=10**9,  # faiss otherwise draws 256 rows a centroid
        min_points_per_centroid=1,
    )
    kmeans.train(projected)
    centroids = np.nan_to_num(np.asarray(kmeans.centroids, np.float32))
    return _unit_rows(centroids.reshape(clusters, projected.shape[1]))


def _unit_rows(rows: npt.NDArray[np.floating]) -> Float32:
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return _on_grid(np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0))
