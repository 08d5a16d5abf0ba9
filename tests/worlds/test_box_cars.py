"""Box cars: the truth that is written is the truth that is seen."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idpose_core.video.annotations import read_annotations
from tests.worlds.box_car_model import BoxCar, Face, car_faces, random_car
from tests.worlds.box_car_scene import Camera, Scene, draw_view, random_scene
from tests.worlds.box_cars import BoxCarTruth, write_box_car_videos

SIZE = (320, 240)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BoxCarTruth]:
    folder = tmp_path_factory.mktemp("cars")
    return folder, write_box_car_videos(folder, videos=2, seconds=1.5, cars_per_video=2)


def world(seed: int) -> tuple[Scene, BoxCar, list[list[Face]]]:
    random = np.random.default_rng(seed)
    car = random_car(random)
    return random_scene(random, SIZE), car, car_faces(car)


def silhouette(scene: Scene, car: BoxCar, layers: list[list[Face]], camera: Camera) -> np.ndarray:
    """Where the car is: the pixels that change with its colour."""
    pictures = []
    for grey in (0, 255):
        plain = [[replace(f, colour=(grey,) * 3, finish="glow") for f in faces] for faces in layers]
        pictures.append(draw_view(scene, car, plain, camera)[0].astype(int))
    return np.abs(pictures[0] - pictures[1]).max(axis=2) > 128


def test_the_middle_and_the_size_of_things_follow_the_pinhole() -> None:
    camera = Camera(90, 0, 10, (0, 0), SIZE)
    points = np.array([[0, 0, 0.6], [2, 0, 0.6], [0, 0, 1.6]], np.float64)
    middle, front, higher = camera.project(points)
    assert middle == pytest.approx([160, 120])
    assert front == pytest.approx([160 - 300 * 2 / 10, 120])  # from its left a car drives left
    assert higher == pytest.approx([160, 120 - 300 / 10])
    assert Camera(30, 12, 8, (0.1, -0.05), SIZE).project(points[:1])[0] == pytest.approx([184, 108])


def test_far_ground_meets_the_horizon() -> None:
    camera = Camera(200, 15, 8, (0, 0.02), SIZE)
    away = -camera.place * 1e6
    assert camera.project(np.array([[away[0], away[1], 0.0]]))[0, 1] == pytest.approx(
        camera.horizon, abs=0.01
    )


@given(st.integers(0, 10_000), st.floats(0, 360), st.floats(8, 25))
@settings(max_examples=25)
def test_the_box_is_that_of_the_pixels(seed: int, azimuth: float, elevation: float) -> None:
    scene, car, layers = world(seed)
    camera = Camera(azimuth, elevation, car.length + 3, (0, 0), SIZE)
    rows, columns = np.nonzero(silhouette(scene, car, layers, camera))
    box = np.array(draw_view(scene, car, layers, camera)[1]) * (320, 320, 240, 240)
    seen = [columns.min(), columns.max() + 1, rows.min(), rows.max() + 1]
    assert box == pytest.approx(seen, abs=2)  # OpenCV also fills the border of a polygon


@given(st.integers(0, 100_000))
@settings(max_examples=40)
def test_all_faces_are_flat_and_look_outwards(seed: int) -> None:
    random = np.random.default_rng(seed)
    car = random_car(random)
    tyres, body, *_ = car_faces(car)
    for face in (f for layer in car_faces(car) for f in layer):
        assert np.linalg.norm(face.normal) == pytest.approx(1)
        assert np.abs((face.points - face.points.mean(axis=0)) @ face.normal).max() < 0.03
    inside = np.array([0, 0, car.wheel + 0.2])
    assert all(face.normal @ (face.points[0] - inside) > 0 for face in body)
    assert len(tyres) == 4 * 20


@given(st.integers(0, 10_000))
@settings(max_examples=10)
def test_front_and_rear_are_told_apart_by_their_lamps(seed: int) -> None:
    scene, car, layers = world(seed)
    lamps = {}
    for azimuth in (0, 180):
        picture, _ = draw_view(scene, car, layers, Camera(azimuth, 10, 7, (0, 0), SIZE))
        picture = picture.astype(int)
        lamps[azimuth] = [
            int((np.abs(picture - colour).max(axis=2) < 8).sum())
            for colour in ((255, 246, 196), (214, 18, 24))
        ]
    assert lamps[0][0] > 50 > lamps[180][0]
    assert lamps[180][1] > 50 > lamps[0][1]


def test_videos_have_the_frames_of_the_truth(written: tuple[Path, BoxCarTruth]) -> None:
    folder, truth = written
    assert [p.name for p in sorted(folder.glob("*.mp4"))] == ["car-000.mp4", "car-001.mp4"]
    assert len(truth.cars) == 4
    for name in ("car-000", "car-001"):
        with av.open(str(folder / f"{name}.mp4")) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            times = [round(float(f.time) * 1000) for f in container.decode(video=0)]
        assert times == [v.timestamp_ms for v in truth.views if v.video == name]
    assert [v.identity for v in truth.views[::18]] == [0, 1, 2, 3]


def test_annotations_are_read_by_the_reader_and_equal_the_truth(
    written: tuple[Path, BoxCarTruth],
) -> None:
    folder, truth = written
    found = read_annotations(folder / "annotations.csv", classes=["car"])
    assert (found.rows, found.duplicates, found.malformed_count) == (2 * 2 * 3, 0, 0)
    by_time = {(v.video, v.timestamp_ms): v for v in truth.views}
    for name, tracks in found.tracks.items():
        assert [t.object_id for t in tracks] == ["0", "1"]
        for track in tracks:
            assert [t - track.start_ms for t in track.timestamps_ms] == [0, 500, 1000]
            for time, box in zip(track.timestamps_ms, track.boxes, strict=True):
                edges = by_time[name, time].box
                assert box is not None
                assert (box.xmin, box.xmax, box.ymin, box.ymax) == pytest.approx(edges, abs=1e-6)


def test_the_truth_file_is_the_truth_that_is_returned(written: tuple[Path, BoxCarTruth]) -> None:
    folder, truth = written
    with (folder / "truth.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(truth.views)
    for row, view in zip(rows, truth.views, strict=True):
        assert (row["video"], int(row["timestamp_ms"])) == (view.video, view.timestamp_ms)
        assert int(row["identity"]) == view.identity
        assert float(row["azimuth_deg"]) == pytest.approx(view.azimuth_deg, abs=1e-4)
        assert [float(row[n]) for n in ("xmin", "xmax", "ymin", "ymax")] == pytest.approx(
            view.box, abs=1e-6
        )


def test_cameras_turn_by_40_to_180_degrees_and_keep_the_car_in_the_frame(tmp_path: Path) -> None:
    truth = write_box_car_videos(tmp_path, videos=12, seconds=2, fps=3, seed=5)
    for identity in range(12):
        mine = [v for v in truth.views if v.identity == identity]
        azimuths = np.unwrap([v.azimuth_deg for v in mine], period=360)
        assert 36 < abs(azimuths[-1] - azimuths[0]) < 184
        assert all(8 <= v.elevation_deg <= 25 for v in mine)
        for view in mine:
            xmin, xmax, ymin, ymax = view.box
            assert min(xmin, ymin) > 0.01 and max(xmax, ymax) < 0.99
            assert xmax - xmin > 0.2 and ymax - ymin > 0.2


def test_equal_seeds_give_equal_bytes_and_other_seeds_others(tmp_path: Path) -> None:
    contents = []
    for name, videos, seed in (("a", 2, 0), ("b", 1, 0), ("c", 2, 0), ("d", 1, 7)):
        write_box_car_videos(tmp_path / name, videos=videos, seconds=0.5, seed=seed)
        files = sorted((tmp_path / name).iterdir())
        contents.append({p.name: p.read_bytes() for p in files})
    many, one, again, other = contents
    assert many == again
    for _ in range(10):  # an encoder that differs does so in some runs only
        write_box_car_videos(tmp_path / "b", videos=2, seconds=0.5)
        assert (tmp_path / "b" / "car-001.mp4").read_bytes() == many["car-001.mp4"]
    assert many["car-000.mp4"] == one["car-000.mp4"]  # whatever else is written
    assert many["car-000.mp4"] != many["car-001.mp4"]
    assert one["car-000.mp4"] != other["car-000.mp4"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"videos": 0},
        {"fps": 0},
        {"seconds": 0.0},
        {"cars_per_video": 0},
        {"size": (321, 240)},
        {"size": (32, 240)},
    ],
)
def test_what_gives_no_video_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"at least|even"):
        write_box_car_videos(tmp_path, **wrong)  # type: ignore[arg-type]
