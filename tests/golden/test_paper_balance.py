"""Triplets balanced as in the paper are those that were drawn before there was another balance."""

from __future__ import annotations

from flows.build_dataset import build_dataset
from flows.progress import TerminalProgress
from idpose_core.config import parse_config
from storage.datasets import content_columns, read_manifest, read_table
from storage.digests import digest
from storage.objects import Store
from storage.schemas import CONTENT_COLUMNS, TABLES
from tests.flows.builds import InThisProcess
from tests.golden.test_stage_versions import CONFIG, rounded

BEFORE = "9dad489a51d0c55ad8ff587dc6742420"
"""The digest of version 1 of the stage over the same crops."""


def test_balanced_as_in_the_paper_triplets_and_content_are_as_before() -> None:
    root = f"memory://golden-{id(object())}"
    config = parse_config({**CONFIG, "triplets": {"top_k": 2, "balance": "paper"}})
    build_dataset(config, root, InThisProcess(), TerminalProgress())
    store = Store(root)
    manifest = read_manifest(store, "golden")
    triplets = read_table(store, manifest, "triplets")
    added = ["target_cluster", "trust"]
    rows = triplets.drop_columns(added).to_pylist()
    assert digest(sorted(digest(rounded(row)) for row in rows)) == BEFORE
    # Nothing is read here, so that the added columns do not enter the version's name either.
    for name in TABLES:
        assert content_columns(name, read_table(store, manifest, name)) == CONTENT_COLUMNS[name]
