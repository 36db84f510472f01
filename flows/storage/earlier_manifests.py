"""This file gives manifests of earlier versions the form of the newest.

Versions 1 and 2 kept only what the flow reads, under the name `inverse`, with nuisances
in `architecture` and, in version 2, `factors` beside. They knew one kind of flow, and
called nuisances auxiliary. The first autoregressive flows of version 3 had no contexts,
and the first contexts no quadratic forms and no logarithms of data far out.
"""

from collections.abc import Mapping
from typing import Any

from .manifest import VERSION

__all__ = ["VERSIONS", "settings_now", "upgraded"]

VERSIONS = (1, 2, VERSION)
"""All versions that are read."""


def upgraded(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a manifest of any version in the form of the newest, not yet checked.

    It keeps its version. What is missing or strange in it stays so.
    """
    if manifest["version"] == VERSION:
        flow = _as_dict(manifest.get("flow"))
        if "config" not in flow:
            return manifest
        config = settings_now(flow.get("kind"), flow["config"])
        return {**manifest, "flow": {**flow, "config": config}}
    rest = dict(manifest)
    structure = _as_dict(rest.pop("inverse", None))
    config = _as_dict(rest.pop("architecture", None))
    for name, source, target, new in (
        ("auxiliary", config, structure, "nuisances"),
        ("factors", rest, structure, "factors"),
        ("auxiliary_reference", rest, rest, "nuisance_reference"),
    ):
        if name in source:
            target[new] = source.pop(name)
    return {**rest, "structure": structure, "flow": {"kind": "cnf", "config": config}}


def settings_now(kind: Any, settings: Any) -> Any:
    """Return settings of a kind of flow with what earlier versions did not write.

    Example:
        >>> settings_now("autoregressive", {"hidden": 48})
        {'context': 0, 'forms': 0, 'log_beyond': 0.0, 'hidden': 48}
    """
    if kind != "autoregressive" or not isinstance(settings, Mapping):
        return settings
    return {"context": 0, "forms": 0, "log_beyond": 0.0, **settings}


def _as_dict(entry: Any) -> dict[str, Any]:
    return dict(entry) if isinstance(entry, Mapping) else {}
