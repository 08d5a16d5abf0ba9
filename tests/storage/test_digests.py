"""Digests: known values, and no dependence on layout, order or process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.digests import _text, canonical, content_digest, digest, file_sha256, sha256

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_the_canonical_text_is_this_one() -> None:
    value = {"b": [1, 2.5, None, True], "a": "ü", "c": b"\x01\xff", "d": {"y": (1,), "x": 0.1}}
    assert canonical(value) == (
        '{"a":"ü","b":[1,2.5,null,true],"c":"01ff","d":{"x":0.1,"y":[1]}}'.encode()
    )


def test_the_digest_is_blake2b_of_it() -> None:
    assert digest([1]) == hashlib.blake2b(b"[1]", digest_size=16).hexdigest()


@given(VALUES)
def test_dictionary_order_does_not_enter(value: object) -> None:
    def reverse(v: object) -> object:
        if isinstance(v, dict):
            return {k: reverse(v[k]) for k in reversed(list(v))}
        return [reverse(x) for x in v] if isinstance(v, list) else v

    assert canonical(value) == canonical(reverse(value))


@given(st.dictionaries(st.text(), VALUES | st.binary(max_size=4), max_size=3))
def test_a_row_of_a_table_has_the_canonical_text(row: dict[str, object]) -> None:
    assert _text(row) == canonical(row)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        canonical({"x": value})


def test_types_without_a_canonical_form_are_refused() -> None:
    with pytest.raises(TypeError, match="Path"):
        canonical(Path("x"))


def test_sets_do_not_depend_on_the_hash_seed() -> None:
    program = "from storage.digests import digest; print(digest(frozenset('abcdefgh')))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1


@given(st.permutations(range(6)), st.integers(0, 6))
def test_row_order_and_chunks_do_not_enter(order: list[int], cut: int) -> None:
    table = pa.table({"a": list(range(6)), "b": [str(i % 2) for i in range(6)], "c": [0.5] * 6})
    shuffled = table.take(order)
    shuffled = pa.concat_tables([shuffled.slice(0, cut), shuffled.slice(cut)])
    columns = {"t": ["a", "b", "c"]}
    assert content_digest({"t": shuffled}, columns) == content_digest({"t": table}, columns)


def test_every_named_column_enters_and_no_other() -> None:
    table = pa.table({"a": [1, 2], "b": [3, 4]})
    other = pa.table({"a": [1, 2], "b": [3, 5]})
    assert content_digest({"t": table}, {"t": ["a"]}) == content_digest({"t": other}, {"t": ["a"]})
    both = {"t": ["a", "b"]}
    assert content_digest({"t": table}, both) != content_digest({"t": other}, both)


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"abc" * 1_000_000)
    assert file_sha256(file) == sha256(file.read_bytes())
