from __future__ import annotations

import pytest

from idpose_core.evaluation.roles import RoleError, check_roles, network_of, networks_used


def test_one_network_in_two_roles_is_refused() -> None:
    with pytest.raises(RoleError, match="st-vgg16 serves as training loss and as metric"):
        check_roles({"training loss": ["st-vgg16"], "metric": ["st-alex", "st-vgg16"]})
    with pytest.raises(RoleError, match="st-alex serves as retrieval and as training loss"):
        check_roles({"retrieval": ["st-alex"], "training loss": ["st-alex"]})


def test_different_networks_are_fine_and_one_role_may_use_one_twice() -> None:
    check_roles({"retrieval": ["rotnet"], "training loss": ["vgg19"], "metric": ["alexnet"] * 2})


@pytest.mark.parametrize(
    ("metric", "network"),
    [
        ("lpips-st-alex", "st-alex"),
        ("lpips-alex-v0.1", "alexnet"),
        ("fid-inception-5k", "inception"),
        ("kid-inception-5000", "inception"),
        ("fd-efficientnet-lite2", "efficientnet-lite2"),
        ("precision-efficientnet-lite2-k3", "efficientnet-lite2"),
        ("fd-efficientnet-lite0", "efficientnet-lite0"),
        ("id-score-small", None),
        ("azimuth-hit", None),
    ],
)
def test_a_metrics_name_says_its_network(metric: str, network: str | None) -> None:
    assert network_of(metric) == network


def test_what_dataset_and_model_used() -> None:
    found = networks_used(
        {"embedder": {"kind": "st-alex"}}, {"perceptual": {"kind": "st-vgg16"}, "generator": {}}
    )
    assert found == {"retrieval": ["st-alex"], "training loss": ["st-vgg16"]}
    assert (
        networks_used({"embedder": {"kind": "silhouette"}}, {"perceptual": {"kind": "pixel-l1"}})
        == {}
    )
    assert networks_used({}, {}) == {}


def test_what_reads_azimuths_belongs_to_the_retrieval() -> None:
    for kind, others in (("st-alex", ["st-alex"]), ("silhouette", [])):
        config = {"embedder": {"kind": kind, "reads_azimuth": True}}
        assert networks_used(config, {}) == {"retrieval": [*others, "car-azimuth"]}


def test_what_chose_the_pairs_by_views_of_cars_is_not_what_measures_sets() -> None:
    used = networks_used({"embedder": {"kind": "car-view"}}, {})
    assert used == {"retrieval": ["efficientnet-lite0"]}
    check_roles({**used, "metric": [str(network_of("fd-efficientnet-lite2"))]})
    with pytest.raises(RoleError, match="efficientnet-lite0 serves as retrieval and as metric"):
        check_roles({**used, "metric": [str(network_of("fd-efficientnet-lite0"))]})


def test_a_dataset_that_is_gone_may_have_used_any_network() -> None:
    found = networks_used(None, {"perceptual": {"kind": "st-vgg16"}})
    check_roles(found)
    with pytest.raises(RoleError, match="st-alex may have chosen its triplets"):
        check_roles({**found, "metric": ["st-alex"]})
