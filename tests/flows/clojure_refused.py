"""This file writes artifacts that the Clojure reader must refuse."""

import json
import shutil
import struct

import torch
from safetensors.torch import load, save

from .saved_artifact import rewrite
from .storage.test_artifact_checks import CLAIMS, claims_data_of_another_width, same

__all__ = ["write_damaged", "write_misfits"]


def write_damaged(good, bad):
    """Write damaged copies of an artifact, each in one way."""

    def copy(name):
        shutil.copytree(good, bad / name)
        return bad / name

    for file in ("manifest.json", "weights.safetensors", "golden.json"):
        content = (good / file).read_bytes()
        place = len(content) // 2
        flipped = bytearray(content)
        # In text, a digit rather than white space.
        while file.endswith("json") and not chr(flipped[place]).isdigit():
            place += 1
        flipped[place] ^= 1
        (copy(f"flipped-{file}") / file).write_bytes(bytes(flipped))
        (copy(f"cut-{file}") / file).write_bytes(content[:place])
        (copy(f"missing-{file}") / file).unlink()
    manifest = json.loads((good / "manifest.json").read_text())
    for name, change in (
        ("version", {"version": 99}),
        ("format", {"format": "other"}),
        ("base", {"base": "uniform"}),
    ):
        text = json.dumps({**manifest, **change})
        (copy(name) / "manifest.json").write_text(text)
    (copy("deep") / "manifest.json").write_text("[" * 200_000)
    # From here on checksum and digests are right.
    weights = (good / "weights.safetensors").read_bytes()
    lying = struct.pack("<Q", 2**62) + weights[8:]
    rewrite(copy("header"), same, [("weights.safetensors", lying)])
    golden = json.loads((good / "golden.json").read_text())
    golden["free"][0][0] += 0.01
    rewrite(copy("golden"), same, [("golden.json", json.dumps(golden).encode())])
    # The reader does not look at the data that a flow was refined for.
    claims = [each for each in CLAIMS if each is not claims_data_of_another_width]
    whole = (without_density, of_another_kind, of_fewer_latents, with_heads)
    for claim in (*claims, *whole):
        rewrite(copy(claim.__name__), claim)


def write_misfits(good, folder):
    """Write copies of an artifact whose tensors, or settings, are not of its kind.

    Checksums and digests are right.
    """
    tensors = load((good / "weights.safetensors").read_bytes())
    last = max(tensors)
    own = next(name for name in tensors if not name.startswith("normalisation"))
    for name, changed in (
        ("missing", {n: t for n, t in tensors.items() if n != last}),
        ("more", {**tensors, "strange": torch.zeros(1)}),
        ("longer", {**tensors, own: torch.cat([tensors[own]] * 2)}),
        ("shift", {**tensors, "normalisation.shift": torch.zeros(1)}),
    ):
        place = folder / "tensors" / f"{good.parent.name}-{name}"
        shutil.copytree(good, place)
        rewrite(place, same, [("weights.safetensors", save(changed))])
    settings = json.loads((good / "manifest.json").read_text())["flow"]["config"]
    lacking_in_earlier_ones = {"context", "forms", "log_beyond"}
    needed = {*settings} - lacking_in_earlier_ones
    wrong = (
        *({n: v for n, v in settings.items() if n != left} for left in needed),
        {**settings, "strange": 1},
        *({**settings, name: "strange"} for name in settings),
        *({**settings, name: 10**9} for name in ("layers", "hidden")),
        [],
    )
    for number, config in enumerate(wrong):
        place = folder / "settings" / f"{good.parent.name}-{number}"
        shutil.copytree(good, place)
        rewrite(place, lambda m, config=config: m["flow"].update(config=config))


def without_density(manifest):
    """An artifact that is whole, but whose draws have no weights."""
    manifest["model"]["without_density"] = [manifest["layout"]["latents"][0]["name"]]


def of_another_kind(manifest):
    """An artifact that is whole, of a kind of flow that this reader does not know."""
    manifest["flow"] = {"kind": "spline", "config": {"knots": 8}}


def of_fewer_latents(manifest):
    """An artifact that is whole, of a flow beside which others are drawn."""
    manifest["integrated"] = ["sample99"]


def with_heads(manifest):
    """An artifact that is whole, of a flow beside heads of discrete latents."""
    shape = {"layers": 2, "hidden": 8, "last_layer_scale": 0.1}
    cells = {"edges": [0, 1, 2], "has_lower": False, "has_upper": False}
    manifest["heads"] = {"config": shape, "cells": [cells]}
