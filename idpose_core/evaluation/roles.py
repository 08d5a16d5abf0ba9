"""No network serves two of retrieval, training loss, metric and ID score in one experiment.

A metric over the loss's own network was trained on; one over the retrieval's network prefers the
pairs that the retrieval chose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from idpose_core.evaluation.lpips import LPIPS_NETWORKS
from storage.errors import ToldError

UNKNOWN = "retrieval by an unknown network"
"""The role of a dataset that is gone."""


class RoleError(ToldError):
    """One network in two roles; the message names both."""


def check_roles(roles: Mapping[str, Collection[str]]) -> None:
    """Refuse an experiment in which one network serves in two roles.

    Args:
        roles: The networks of every role, by its name. What has no learned weights (pixels,
            silhouettes, exact truth) is no network and is not named here.

    Raises:
        RoleError: A network serves in two roles, or may do so unseen.
    """
    if UNKNOWN in roles and roles.get("metric"):
        raise RoleError(
            f"the dataset that the model was trained on is not here: {', '.join(roles['metric'])} "
            "may have chosen its triplets; put the dataset's manifest back to measure with it"
        )
    seen: dict[str, str] = {}
    for role, networks in roles.items():
        for network in dict.fromkeys(networks):
            if network in seen:
                raise RoleError(
                    f"{network} serves as {seen[network]} and as {role}: what was trained or "
                    "chosen with a network cannot be measured with it; take another one for either"
                )
            seen[network] = role


def network_of(metric: str) -> str | None:
    """The network that a metric's name stands for; None where it needs none.

    Judges and scores are networks of their own, trained for nothing else: they never clash.
    """
    if metric in LPIPS_NETWORKS:
        return LPIPS_NETWORKS[metric]
    # The stand-in was efficientnet-lite0 in evaluations that are kept.
    for features in ("inception", "efficientnet-lite2", "efficientnet-lite0"):
        if features in metric:
            return features
    return None


_WITHOUT_WEIGHTS = {"pixel-l1", "grey-pixels", "silhouette", "random-alexnet"}
EMBEDDER_NETWORKS: Mapping[str, tuple[str, ...]] = {"car-view": ("efficientnet-lite0",)}
"""The networks behind an embedder whose kind is not itself the name of its only network."""


def networks_used(
    dataset_config: Mapping[str, object] | None, model_config: Mapping[str, object]
) -> dict[str, list[str]]:
    """The networks behind a dataset's retrieval and a model's loss, by role.

    Args:
        dataset_config: ``config`` of the dataset's manifest; None where it is gone: any network
            may have chosen its triplets then.
        model_config: ``config`` of the published model.
    """
    if dataset_config is None:
        return {**networks_used({}, model_config), UNKNOWN: []}
    embedder, perceptual = dataset_config.get("embedder"), model_config.get("perceptual")
    retrieval, loss = [], []
    if isinstance(embedder, Mapping):
        kind = embedder.get("kind")
        retrieval = [*EMBEDDER_NETWORKS.get(str(kind), (kind,))]
        retrieval += ["car-azimuth"] if embedder.get("reads_azimuth") else []
    if isinstance(perceptual, Mapping):
        loss = [perceptual.get("kind")]
    found = {
        role: [kind for kind in kinds if isinstance(kind, str) and kind not in _WITHOUT_WEIGHTS]
        for role, kinds in (("retrieval", retrieval), ("training loss", loss))
    }
    return {role: kinds for role, kinds in found.items() if kinds}
