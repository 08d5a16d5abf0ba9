"""The pose space against numpy's SVD, and k-means on data whose poses are known."""

from __future__ import annotations

from fractions import Fraction

import faiss
import numpy as np
import pytest
import scipy.linalg
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.pose import space as space_module
from idpose_core.pose.space import PoseSpace, assign, fit_pose_space, project, widen


def ids(count: int) -> list[str]:
    return [f"crop-{i:06d}" for i in range(count)]


def low_rank(rows: int, columns: int, rank: int, seed: int = 0) -> np.ndarray:
    """Rows with `rank` strong directions of clearly different strength, and a little noise."""
    rng = np.random.default_rng(seed)
    strong = rng.standard_normal((rows, rank)) * np.linspace(3, 1, rank)
    noise = 0.01 * rng.standard_normal((rows, columns))
    return (strong @ rng.standard_normal((rank, columns)) + noise + 0.5).astype(np.float32)


def blobs(per_blob: int, poses: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((poses, columns))
    truth = np.repeat(np.arange(poses), per_blob)
    rows = centres[truth] + 0.1 * rng.standard_normal((len(truth), columns))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float16), truth


@pytest.mark.parametrize(("rows", "columns"), [(40, 300), (300, 40), (60, 60), (150, 2100)])
def test_components_span_what_svd_in_float64_finds(rows: int, columns: int) -> None:
    features = low_rank(rows, columns, rank=6)
    fitted = fit_pose_space(features, ids(rows), clusters=3, dimensions=6, seed=0)
    centred = features.astype(np.float64) - features.astype(np.float64).mean(axis=0)
    expected = np.linalg.svd(centred, full_matrices=False)[2][:6]
    angles = scipy.linalg.subspace_angles(fitted.components.T.astype(np.float64), expected.T)
    assert np.max(angles) < 1e-5
    # Not only the span: each direction, up to the sign, which is fixed.
    cosine = np.sum(fitted.components * expected, axis=1)
    np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-5)
    largest = np.argmax(np.abs(fitted.components), axis=1)
    assert np.all(fitted.components[np.arange(6), largest] > 0)
    np.testing.assert_allclose(fitted.mean, features.mean(axis=0), atol=1e-5)


def test_components_are_orthonormal_down_to_the_weakest() -> None:
    features = np.random.default_rng(1).standard_normal((80, 200)).astype(np.float16)
    components = fit_pose_space(features, ids(80), clusters=2, seed=0).components
    assert components.shape == (79, 200)
    np.testing.assert_allclose(components @ components.T, np.eye(79), atol=1e-5)


def test_pca_sees_a_sample_by_hash_and_no_other_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "MAX_PCA_ROWS", 50)
    features = low_rank(200, 30, rank=4)
    chosen = space_module._rows_for_pca(ids(200), 7)
    assert len(chosen) == 50
    assert np.all(np.diff(chosen) > 0)
    assert not np.array_equal(chosen, space_module._rows_for_pca(ids(200), 8))
    changed = features.copy()
    others = np.setdiff1d(np.arange(200), chosen)
    changed[others] *= 2
    first, second = (
        fit_pose_space(f, ids(200), clusters=3, dimensions=4, seed=7) for f in (features, changed)
    )
    np.testing.assert_array_equal(first.components, second.components)
    np.testing.assert_array_equal(first.mean, second.mean)


def test_kmeans_finds_known_poses_from_all_rows() -> None:
    # More than 256 rows a centroid: faiss would draw a subsample by default.
    features, truth = blobs(per_blob=400, poses=5, columns=24)
    fitted = fit_pose_space(features, ids(len(features)), clusters=5, seed=3)
    projected = project(fitted, features)
    found = assign(fitted, projected)
    assert found.dtype == np.int32
    assert len(set(zip(truth.tolist(), found.tolist(), strict=True))) == 5
    np.testing.assert_allclose(np.linalg.norm(fitted.centroids, axis=1), 1, atol=1e-6)
    for cluster in range(5):
        mean = projected[found == cluster].mean(axis=0)
        np.testing.assert_allclose(
            fitted.centroids[cluster], mean / np.linalg.norm(mean), atol=1e-5
        )


def test_assignment_is_the_largest_cosine() -> None:
    features, _ = blobs(per_blob=100, poses=6, columns=16)
    fitted = fit_pose_space(features, ids(600), clusters=9, seed=0)
    projected = project(fitted, features)
    exact = projected.astype(np.float64) @ fitted.centroids.astype(np.float64).T
    chosen = exact[np.arange(600), assign(fitted, projected)]
    np.testing.assert_allclose(chosen, exact.max(axis=1), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 599), st.integers(1, 300))
def test_a_row_is_projected_alike_in_any_company(first: int, count: int) -> None:
    features = _COMPANY
    fitted = _COMPANY_SPACE
    part = features[first : first + count]
    np.testing.assert_array_equal(
        project(fitted, part), project(fitted, features)[first : first + count]
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([np.float16, np.float32]))
def test_products_of_widened_rows_are_exact(seed: int, kind: type) -> None:
    rows = np.random.default_rng(seed).standard_normal((3, 400))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(kind)
    wide = widen(rows)
    np.testing.assert_allclose(wide, rows.astype(np.float64), atol=2.0**-25)
    exact = [[Fraction(value) for value in row] for row in wide.tolist()]
    for left, products in zip(exact, (wide @ wide.T).tolist(), strict=True):
        for right, product in zip(exact, products, strict=True):
            assert product == sum(x * y for x, y in zip(left, right, strict=True))


_COMPANY = blobs(per_blob=100, poses=6, columns=700)[0]
_COMPANY_SPACE = fit_pose_space(_COMPANY, ids(600), clusters=4, dimensions=65, seed=0)


def test_the_same_input_gives_the_same_bytes_and_they_read_back() -> None:
    features, _ = blobs(per_blob=50, poses=4, columns=40)
    first, second = (fit_pose_space(features, ids(200), clusters=6, seed=5) for _ in range(2))
    data = first.to_bytes()
    assert data == second.to_bytes()
    read = PoseSpace.from_bytes(data)
    for name in ("mean", "components", "centroids"):
        np.testing.assert_array_equal(getattr(read, name), getattr(first, name))
    other = fit_pose_space(features, ids(200), clusters=6, seed=6)
    np.testing.assert_array_equal(other.components, first.components)


def test_threads_are_restored() -> None:
    faiss.omp_set_num_threads(2)
    with threadpoolctl.threadpool_limits(limits=2):
        before = [
            (pool["filepath"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()
        ]
        with space_module.single_thread():
            assert faiss.omp_get_max_threads() == 1
            assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
        after = [
            (pool["filepath"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()
        ]
        assert after == before
        assert faiss.omp_get_max_threads() == 2


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_identical_rows_make_a_space_without_nan(rows: int) -> None:
    features = np.full((rows, 12), 0.25, np.float16)
    fitted = fit_pose_space(features, ids(rows), clusters=min(rows, 3), seed=0)
    assert fitted.components.shape == (max(1, min(rows - 1, 12)), 12)
    assert np.isfinite(fitted.centroids).all()
    assert not np.any(project(fitted, features))
    assert set(assign(fitted, project(fitted, features)).tolist()) == {0}


def test_as_many_clusters_as_rows() -> None:
    features, _ = blobs(per_blob=1, poses=7, columns=30)
    fitted = fit_pose_space(features, ids(7), clusters=7, seed=0)
    assert sorted(assign(fitted, project(fitted, features)).tolist()) == list(range(7))


def test_fewer_rows_than_clusters_names_the_setting() -> None:
    with pytest.raises(ValueError, match=r"pose\.clusters = 5, but there are only 4"):
        fit_pose_space(np.eye(4, dtype=np.float16), ids(4), clusters=5, seed=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_must_be_finite(value: float) -> None:
    features = np.eye(6, dtype=np.float16)
    features[3, 2] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_pose_space(features, ids(6), clusters=2, seed=0)
    fitted = fit_pose_space(np.eye(6, dtype=np.float16), ids(6), clusters=2, seed=0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        project(fitted, features)


def test_rows_must_be_sorted_and_fit_the_ids() -> None:
    features = np.eye(3, dtype=np.float16)
    for crop_ids in (["b", "a", "c"], ["a", "a", "b"]):
        with pytest.raises(ValueError, match="sorted by crop id"):
            fit_pose_space(features, crop_ids, clusters=1, seed=0)
    with pytest.raises(ValueError, match="4 crop ids"):
        fit_pose_space(features, ids(4), clusters=1, seed=0)
    with pytest.raises(ValueError, match="at least 1"):
        fit_pose_space(features, ids(3), clusters=0, seed=0)


def test_bytes_that_are_no_space_are_refused() -> None:
    fitted = fit_pose_space(np.eye(5, dtype=np.float16), ids(5), clusters=2, seed=0)
    wrong = PoseSpace(fitted.mean[:-1], fitted.components, fitted.centroids)
    for data in (b"", b"no safetensors", wrong.to_bytes(), fitted.to_bytes()[:-8]):
        with pytest.raises(ValueError, match="not a pose space"):
            PoseSpace.from_bytes(data)
    with pytest.raises(ValueError, match="the space wants"):
        project(fitted, np.zeros((2, 9), np.float16))
    with pytest.raises(ValueError, match="centroids"):
        assign(fitted, np.zeros((2, 9), np.float32))
