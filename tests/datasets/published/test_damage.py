"""Published sets that are not as they were published: one clear error, or one row with a reason."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from idpose_core.datasets.published.files import within
from idpose_core.datasets.published.matlab import read_arrays, read_words
from storage.reasons import Status, Unusable
from tests.worlds.published import (
    SETS,
    car_arrays,
    car_name,
    chair_name,
    numbers,
    picture,
    write_chairs3d,
)

BAD = Status.NOT_AS_PUBLISHED


def outcome(name: str, folder: Path, at: int = 0) -> tuple[Status, str]:
    """What becomes of one of the objects of training."""
    found = SETS[name][0](str(folder))
    wanted = [o for o in found.objects() if o.split == "train"][at]
    try:
        found.views(wanted.name, wanted.location)
    except Unusable as error:
        return error.status, error.detail
    return Status.OK, ""


def refusal(name: str, folder: Path) -> str:
    with pytest.raises(ValueError) as told:
        SETS[name][0](str(folder)).objects()
    return str(told.value)


# ---- 3D Cars: what a .mat can be


def saved(arrays: dict[str, object], **options: object) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, arrays, **options)  # type: ignore[arg-type]
    return file.getvalue()


def good() -> dict[str, np.ndarray]:
    return car_arrays(1)


def swapped() -> bytes:
    arrays = good()
    return saved({"im": np.moveaxis(arrays["im"], -1, 0), "mask": arrays["mask"]})


def bomb() -> bytes:
    """A file of 100 kB whose variable would take 100 MB."""
    head = saved({"im": np.zeros(1)})[:128]
    body = zlib.compress(struct.pack("<II", 14, 100_000_000) + bytes(100_000_000))
    return head + struct.pack("<II", 15, len(body)) + body


def claim() -> bytes:
    """A variable of a few bytes that says it has the published shape."""
    data = bytearray(saved({"im": np.zeros((1, 1, 3, 24, 4), np.uint8)}, do_compression=False))
    at = data.index(struct.pack("<2i", 1, 1))
    data[at : at + 8] = struct.pack("<2i", 128, 128)
    return bytes(data)


def many() -> bytes:
    """A variable of more parts than any list has."""
    parts = struct.pack("<II", 2 | 1 << 16, 0) * 20_000
    return saved({"im": np.zeros(1)})[:128] + struct.pack("<II", 14, len(parts)) + parts


def flipped() -> bytes:
    data = bytearray(saved(good(), do_compression=True))
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    return bytes(data)


def no_corner() -> bytes:
    arrays = good()
    arrays["mask"][0, 0, 3, 1] = 1
    return saved(arrays)


MATS: dict[str, tuple[Callable[[], bytes], Status, str]] = {
    "empty": (lambda: b"", Status.EMPTY_FILE, car_name(1)),
    "text": (lambda: b"<!doctype html><title>404</title>" * 50, Status.DECODE_FAILED, ".mat"),
    "noise": (lambda: np.random.default_rng(0).bytes(999), Status.DECODE_FAILED, "no .mat file"),
    "pickle": (lambda: b"cos\nsystem\n(S'touch pwned'\ntR." * 9, Status.DECODE_FAILED, ""),
    "cut off": (lambda: saved(good(), do_compression=True)[:-99], Status.DECODE_FAILED, "cut off"),
    "header only": (lambda: saved(good())[:128], BAD, "no variable im"),
    "half a header": (lambda: saved(good())[:60], Status.DECODE_FAILED, ""),
    "damaged inside": (flipped, Status.DECODE_FAILED, ""),
    "a bomb": (bomb, Status.DECODE_FAILED, "more than"),
    "many parts": (many, Status.DECODE_FAILED, "10000 parts"),
    "a false claim": (claim, Status.DECODE_FAILED, "claims"),
    "version 7.3": (lambda: b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + bytes(99), BAD, "7.3"),
    "other names": (lambda: saved({"image": good()["im"]}), BAD, "no variable im"),
    "other shape": (lambda: saved({"im": good()["im"][:64]}), BAD, "(64, 128, 3, 24, 4)"),
    "swapped axes": (swapped, BAD, "(4, 128, 128, 3, 24)"),
    "floats": (lambda: saved({"im": good()["im"] / np.float32(255)}), BAD, "float32"),
    "a cell": (lambda: saved({"im": np.array([1, "a"], object)}), BAD, "holds no numbers"),
    "a struct": (lambda: saved({"im": {"a": 1}}), BAD, "holds no numbers"),
    "wrong mask": (lambda: saved({**good(), "mask": np.ones((128, 128))}), BAD, "mask is"),
    "empty mask": (lambda: saved({**good(), "mask": good()["mask"] * 0}), BAD, "no object"),
    "mask at a corner": (no_corner, BAD, "azimuth 3, elevation 1: the mask reaches"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MATS)
def test_a_damaged_car_is_a_row(kind: str, tmp_path: Path) -> None:
    number = numbers("cars3d", "train", 1)[0]
    place = SETS["cars3d"][1](tmp_path, [])
    write, status, words = MATS[kind]
    (place / f"{car_name(number)}.mat").write_bytes(write())
    found, detail = outcome("cars3d", tmp_path)
    assert (found, words in detail) == (status, True), detail
    assert not Path("pwned").exists()


def test_a_mask_of_either_sense_or_none_gives_the_same_views(tmp_path: Path) -> None:
    number = numbers("cars3d", "train", 1)[0]
    place = SETS["cars3d"][1](tmp_path, [])
    arrays, views = car_arrays(number), []
    for mask in (arrays["mask"], 1 - arrays["mask"], arrays["mask"] * 255.0, None):
        wanted = {"im": arrays["im"]} | ({} if mask is None else {"mask": mask})
        (place / f"{car_name(number)}.mat").write_bytes(saved(wanted))
        found = SETS["cars3d"][0](str(tmp_path))
        first = found.objects()[0]
        views.append(found.views(first.name, first.location))
    for other in views[1:]:
        for a, b in zip(views[0], other, strict=True):
            assert np.array_equal(a.mask, b.mask)  # type: ignore[arg-type]


NUMBERS = [
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.arange(24).reshape(2, 3, 4) / 7,
    np.arange(24, dtype=np.float32).reshape(4, 6),
    np.arange(-9, 9, dtype=np.int16).reshape(2, 9),
    np.array([[2**40, -1]]),
    np.array([[7]], np.uint8),
    np.array([[True, False]]),
    np.zeros((0, 3)),
]


@pytest.mark.parametrize("compressed", [True, False])
def test_numbers_and_words_are_those_of_the_reference_reader(
    compressed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "x.mat"
    words = np.array(["a", "b" * 40, "\u00e9t\u00e9"], object)
    arrays = {f"x{place}": array for place, array in enumerate(NUMBERS)}
    path.write_bytes(saved({**arrays, "words": words}, do_compression=compressed))
    reference = scipy.io.loadmat(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    found = read_arrays(path, shapes, largest=10_000)
    for name in arrays:
        assert found[name].dtype == reference[name].dtype
        assert np.array_equal(found[name], reference[name])
    assert read_words(path, "words", largest=10_000) == words.tolist()


def test_files_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    name, values = b"im", struct.pack(">6h", *range(6))
    parts = [(6, struct.pack(">II", 10, 0)), (5, struct.pack(">2i", 2, 3)), (1, name), (3, values)]
    body = b"".join(
        struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8) for kind, data in parts
    )
    path = tmp_path / "x.mat"
    path.write_bytes(
        b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + struct.pack(">II", 14, len(body)) + body
    )
    found = read_arrays(path, {"im": (2, 3)}, largest=1000)["im"]
    assert found.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_variables_beside_the_wanted_ones_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(saved({"im": np.zeros((2, 3)), "other": {"a": np.array([1, "a"], object)}}))
    assert set(read_arrays(path, {"im": (2, 3), "mask": (1,)}, largest=2000)) == {"im"}


def test_no_damage_does_more_than_give_a_reason(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    whole = [
        saved(values, do_compression=packed)
        for packed in (True, False)
        for values in (
            {"im": np.zeros((4, 4, 3), np.uint8), "mask": np.ones((4, 4))},
            {"words": np.array([f"word {n}" for n in range(20)], object)},
        )
    ]
    path, outcomes = tmp_path / "x.mat", Counter[str]()
    for turn in range(2000):
        data = bytearray(whole[turn % 4])
        for place in random.integers(120, len(data), random.integers(1, 9)):
            data[place] = random.choice([0, 1, 5, 9, 14, 15, 127, 128, 255])
        path.write_bytes(data[: len(data) - int(random.integers(0, 9)) * (turn % 3 == 0)])
        for read in (
            lambda: read_arrays(path, {"im": (4, 4, 3), "mask": (4, 4)}, largest=10_000),
            lambda: read_words(path, "words", largest=10_000),
        ):
            try:
                read()
                outcomes["read"] += 1
            except Unusable as error:
                outcomes[error.status.value] += 1
    assert outcomes["decode_failed"] > 500
    assert outcomes["read"] > 100


# ---- Pictures


def png(size: tuple[int, int] = (600, 600)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(size, 255, 1, 0, 0)[0]).save(file, "PNG")
    return file.getvalue()


def huge() -> bytes:
    """A PNG whose header says 50,000 x 50,000."""
    data = bytearray(png())
    data[16:24] = struct.pack(">II", 50_000, 50_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def blank() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (600, 600), "white").save(file, "PNG")
    return file.getvalue()


PICTURES: dict[str, tuple[bytes, Status, str]] = {
    "empty": (b"", Status.EMPTY_FILE, "image_000"),
    "text": (b"404 not found" * 9, Status.DECODE_FAILED, "image_000"),
    "cut off": (png()[:-300], Status.DECODE_FAILED, "image_000"),
    "another format": (b"GIF89a" + bytes(99), Status.DECODE_FAILED, ""),
    "another size": (png((64, 64)), BAD, "64x64 pixels and not 600x600"),
    "huge": (huge(), Status.DECODE_FAILED, ""),
    "nothing on it": (blank(), BAD, "shows no object"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_damaged_picture_of_a_chair_is_a_row(kind: str, tmp_path: Path) -> None:
    number = numbers("chairs3d", "train", 1)[0]
    place = write_chairs3d(tmp_path, [number])
    data, status, words = PICTURES[kind]
    path = place / chair_name(number) / "renders" / "image_000_p020_t000_r096.png"
    assert path.exists()
    path.write_bytes(data)
    found, detail = outcome("chairs3d", tmp_path)
    assert (found, words in detail) == (status, True), detail


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    number = numbers("chairs3d", "train", 1)[0]
    renders = write_chairs3d(tmp_path, [number]) / chair_name(number) / "renders"
    image, mask = picture((600, 600), 0, number, 0, 0)
    path = renders / "image_000_p020_t000_r096.png"
    Image.fromarray(np.dstack([image, mask * np.uint8(255)])).save(path)
    found = SETS["chairs3d"][0](str(tmp_path))
    first = found.objects()[0]
    view = found.views(first.name, first.location)[0]
    assert np.array_equal(view.mask, mask)  # type: ignore[arg-type]
    assert (view.image[~mask] == 255).all()


# ---- Half-extracted archives, odd names, duplicates


def test_what_is_not_there_is_a_row(tmp_path: Path) -> None:
    for name, number in (("cars3d", 1), ("chairs3d", 0), ("epfl-cars", 0)):
        folder = tmp_path / name
        SETS[name][1](folder, [])
        status, detail = outcome(name, folder, number)
        assert (status, "not there" in detail) == (BAD, True), detail


def test_a_half_extracted_object_is_a_row(tmp_path: Path) -> None:
    for name, pattern, words in (
        ("chairs3d", "image_04*", "52 of 62"),
        ("eth80", "car1-09*.png", "25 of 41"),
        ("epfl-cars", "*_005.jpg", "_005.jpg is not there"),
    ):
        folder = tmp_path / name
        SETS[name][1](folder, numbers(name, "train", 1))
        for path in folder.rglob(pattern):
            path.unlink()
        status, detail = outcome(name, folder)
        assert (status, words in detail) == (BAD, True), detail


def test_a_photograph_without_its_mask_is_a_row(tmp_path: Path) -> None:
    place = SETS["eth80"][1](tmp_path, [1])
    (place / "car1" / "maps" / "car1-090-022-map.png").unlink()
    assert outcome("eth80", tmp_path) == (BAD, "car1-090-022-map.png is not there")


@pytest.mark.parametrize(
    ("name", "extra", "words"),
    [
        ("chairs3d", "image_099_p020_t011_r096.png", "show one view"),
        ("chairs3d", "image_001_p020_t011_r096 (1).png", "is no picture of the set"),
        ("chairs3d", "image_001_p070_t011_r096.png", "is no picture of the set"),
        ("eth80", "car1-066-153 copy.png", "is no picture of"),
        ("eth80", "car2-066-153.png", "is no picture of eth80-car1"),
        ("eth80", "car1_pol066_az153.jpg", "show one view"),
    ],
)
def test_an_odd_picture_is_a_row(name: str, extra: str, words: str, tmp_path: Path) -> None:
    SETS[name][1](tmp_path, numbers(name, "train", 1))
    [beside, *_] = tmp_path.rglob("*_t011_*" if name == "chairs3d" else "car1-066-153.png")
    (beside.parent / extra).write_bytes(b"x")
    status, detail = outcome(name, tmp_path)
    assert (status, words in detail) == (BAD, True), detail


@pytest.mark.parametrize("name", SETS)
def test_what_systems_leave_behind_does_not_matter(name: str, tmp_path: Path) -> None:
    place = SETS[name][1](tmp_path, numbers(name, "train", 1))
    before = [o.sha256 for o in SETS[name][0](str(tmp_path)).objects()]
    for folder in (place, *(p for p in place.rglob("*") if p.is_dir())):
        for file in (".DS_Store", "Thumbs.db", "._image_001_p020_t011_r096.png"):
            (folder / file).write_bytes(b"x")
    assert outcome(name, tmp_path) == (Status.OK, "")
    assert [o.sha256 for o in SETS[name][0](str(tmp_path)).objects()] == before


def test_other_objects_than_the_published_ones_are_refused(tmp_path: Path) -> None:
    place = SETS["cars3d"][1](tmp_path / "a", [])
    (place / "car_001_mesh (1).mat").write_bytes(b"x")
    assert "car_001_mesh (1).mat is no model" in refusal("cars3d", tmp_path / "a")
    (write_chairs3d(tmp_path / "b", []) / "my chair").mkdir()
    assert "my chair is no model" in refusal("chairs3d", tmp_path / "b")
    place = SETS["eth80"][1](tmp_path / "c", [1])
    (place / "car4").mkdir()
    assert "no car 4" in refusal("eth80", tmp_path / "c")
    (place / "car4").rename(place / "car01")
    assert "car01 and car1 are one car" in refusal("eth80", tmp_path / "c")
    (place / "car01").rename(place / "car1 copy")
    assert "car1 copy is no car" in refusal("eth80", tmp_path / "c")


def test_a_list_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    place = SETS["cars3d"][1](tmp_path / "a", [1])
    text = (place / "list.txt").read_text()
    for changed in (text[:-400], text + "car_001_mesh\n", text.replace("car_0", "../c_0"), ""):
        (place / "list.txt").write_text(changed)
        assert "183 of the form car_NNN_mesh" in refusal("cars3d", tmp_path / "a")
    (place / "list.txt").write_bytes(b"\xff\xfe" * 50)
    assert "cannot be read" in refusal("cars3d", tmp_path / "a")
    (place / "list.txt").unlink()
    assert "list.txt is missing, and there are 1 models" in refusal("cars3d", tmp_path / "a")

    place = write_chairs3d(tmp_path / "b", [])
    index = place / "all_chair_names.mat"
    data = index.read_bytes()
    for changed, words in (
        (data[:-99], "cannot be read"),
        (b"x", "cannot be read"),
        (saved({"instance_names": np.array(["a"], object)}), "no variable folder_names"),
        (saved({"folder_names": np.array(["a", "b"], object)}), "published are 1393"),
        (saved({"folder_names": np.eye(3)}), "no list of words"),
        (saved({"folder_names": np.array([f"../{i}" for i in range(1393)], object)}), "1393"),
    ):
        index.write_bytes(changed)
        assert words in refusal("chairs3d", tmp_path / "b")


def test_the_lists_are_not_needed_where_all_models_are_there(tmp_path: Path) -> None:
    place = SETS["cars3d"][1](tmp_path / "a", [])
    found = SETS["cars3d"][0](str(tmp_path / "a"))
    before = [(o.name, o.split) for o in found.objects()]
    for name in (place / "list.txt").read_text().split():
        (place / f"{name}.mat").touch()
    (place / "list.txt").unlink()
    assert [(o.name, o.split) for o in found.objects()] == before


TABLES = [
    ("tripod-seq.txt", lambda text: text.replace("20 376 250", "20 376"), "not as published"),
    ("tripod-seq.txt", lambda text: text.replace("20 376 250", "19 376 250"), "20 sequences"),
    ("tripod-seq.txt", lambda text: text.replace("20 376 250", "20 0 250"), "20 sequences"),
    ("tripod-seq.txt", lambda text: text[:-30], "20 sequences"),
    ("tripod-seq.txt", lambda text: text.replace("bbox_%02d", "../../x_%02d%n"), "other files"),
    ("tripod-seq.txt", lambda text: text.replace(" -1", " 2"), "sense 2"),
    ("tripod-seq.txt", lambda text: text.replace("9 9 9", "9 1 9", 1), "sequence 2: 1 frames"),
    ("tripod-seq.txt", lambda text: text.replace("3 3 3", "3 11 3", 1), "front 11"),
    ("tripod-seq.txt", lambda text: "", "not as published"),
    ("times.txt", lambda text: text.replace("0 8", "0 x", 1), "sequence 1: could not"),
    ("times.txt", lambda text: text.replace("0 8", "9 8", 1), "seconds that rise"),
    ("times.txt", lambda text: text.replace("88", "nan", 1), "seconds that rise"),
    ("times.txt", lambda text: text.replace(" 88", "", 1), "not 10 seconds"),
    ("times.txt", lambda text: "\n".join([" ".join("0" * 10)] * 20), "takes no time"),
    ("times.txt", lambda text: text + "0 1\n", "21 lines"),
]


@pytest.mark.parametrize(("file", "change", "words"), TABLES)
def test_a_damaged_table_of_the_epfl_cars_is_refused(
    file: str, change: Callable[[str], str], words: str, tmp_path: Path
) -> None:
    path = SETS["epfl-cars"][1](tmp_path, []) / file
    text = change(path.read_text())
    assert text != path.read_text()
    path.write_text(text)
    assert words in refusal("epfl-cars", tmp_path)


def test_a_missing_table_of_the_epfl_cars_is_refused(tmp_path: Path) -> None:
    place = SETS["epfl-cars"][1](tmp_path, [])
    (place / "times.txt").unlink()
    assert "times.txt cannot be read" in refusal("epfl-cars", tmp_path)
    (place / "tripod-seq.txt").unlink()
    assert "tripod-seq.txt is in" in refusal("epfl-cars", tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("5 10 30", "unpack"),
        ("5 10 30 12 1", "unpack"),
        ("a b c d", "could not convert"),
        ("5 10 0 12", "line 1: no box"),
        ("5 10 -30 12", "line 1: no box"),
        ("400 10 30 12", "line 1: no box"),
        ("nan 10 30 12", "line 1: no box"),
        ("0 0 1e9 1e9", "line 1: no box"),
        ("", "9 boxes for 10 frames"),
    ],
)
def test_boxes_that_are_none_are_a_row(line: str, words: str, tmp_path: Path) -> None:
    path = SETS["epfl-cars"][1](tmp_path, [1]) / "bbox_01.txt"
    path.write_text("\n".join([line, *path.read_text().splitlines()[1:]]))
    status, detail = outcome("epfl-cars", tmp_path)
    assert (status, words in detail) == (BAD, True), detail


# ---- Folders


@pytest.mark.parametrize("name", SETS)
def test_a_folder_that_is_not_the_sets_is_refused(name: str, tmp_path: Path) -> None:
    assert "no such folder" in refusal(name, tmp_path / "none")
    assert "is it the folder of the extracted archive?" in refusal(name, tmp_path)
    archive = tmp_path / "set.tar.gz"
    archive.write_bytes(b"x")
    assert "extract the archive" in refusal(name, archive)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    place = SETS["epfl-cars"][1](tmp_path, [1])
    (place / "tripod_seq_01_002.jpg").chmod(0)
    found = SETS["epfl-cars"][0](str(tmp_path))
    assert found.objects()[0].sha256 is None
    assert outcome("epfl-cars", tmp_path)[0] is Status.UNREADABLE


def test_a_folder_in_the_place_of_a_file_is_a_row(tmp_path: Path) -> None:
    number = numbers("cars3d", "train", 1)[0]
    (SETS["cars3d"][1](tmp_path, []) / f"{car_name(number)}.mat").mkdir()
    assert outcome("cars3d", tmp_path) == (BAD, f"{car_name(number)}.mat is not there")


def test_corners_tell_the_background() -> None:
    mask = np.zeros((5, 5), bool)
    mask[2, 2] = True
    assert np.array_equal(within(mask, "x"), mask)
    assert np.array_equal(within(~mask, "x"), mask)
    mask[0, 0] = True
    with pytest.raises(Unusable, match="x: the mask reaches a corner"):
        within(mask, "x")
