"""This file makes rows for latents without a prior: digits, MNIST files, npz files.

- `digit_images`: scikit-learn's digits as they are.
- `digit_patches`: scikit-learn's 1,797 handwritten digits of 8x8 pixels, enlarged to
  9x9 by linear interpolation (extra ``digits``).
- `read_idx`: an IDX file of images, the format of MNIST, gzipped or not; `shrink` makes
  9x9 patches of its images by averaging.
- `load_arrays`: an npz file with an array per latent.
- `latent_arrays`: any of these, as ``--latents-from`` names it.

Grey values are integers. A uniform draw of one grey step is added, as a flow cannot fit
the density of a number that never varies, and all pixels together are then brought to
mean 0 and standard deviation 1, the scale of the program's own prior.

References:
    LeCun, Cortes, Burges, "The MNIST database of handwritten digits" (IDX format).
    Theis, van den Oord, Bethge, "A note on the evaluation of generative models", ICLR
    2016 (uniform noise for integer data).
"""

import gzip
import io
import math
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped

from ..errors import ArtifactError
from ..optional import require
from .folders import read_file

__all__ = [
    "DIGITS",
    "Arrays",
    "digit_images",
    "digit_patches",
    "latent_arrays",
    "load_arrays",
    "read_idx",
    "shrink",
    "split_rows",
    "standardise",
    "vary",
]

DIGITS = "digits"
"""What names scikit-learn's digits where a file could stand."""

Arrays = dict[str, np.ndarray]
"""Rows by name of a latent, or by the common name of several."""

SIZE = 9
_LIMIT = 2**31
_IDX_BYTES = 8
_GREY_STEP = 1.0
_PIXEL = "pixel"
_HELD_OUT = 0.15
_MOST_HELD_OUT = 400


def latent_arrays(source: str, *, seed: int) -> Arrays:
    """Return rows for latents: `DIGITS`, an npz file, or an IDX file of images.

    Digits and images become rows of the latents `pixel`.

    Args:
        source: `DIGITS` or a path.
        seed: of the noise of a grey step; npz files are taken as they are.

    Raises:
        ArtifactError: If the source cannot be read.
    """
    if source == DIGITS:
        return {_PIXEL: digit_patches(seed=seed)}
    path = Path(source)
    if path.suffix == ".npz":
        return load_arrays(path)
    return {_PIXEL: shrink(read_idx(path), seed=seed)}


def split_rows(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """Return the rows to train on, and the last ones, held out: 15 %, 400 at most.

    A single row is in both.
    """
    count = min((len(each) for each in arrays.values() if each.ndim), default=0)
    kept_back = min(_MOST_HELD_OUT, max(1, int(_HELD_OUT * count)))
    first = slice(None, -kept_back) if count > 1 else slice(None)
    return (
        {name: each[first] if each.ndim else each for name, each in arrays.items()},
        {
            name: each[-kept_back:] if each.ndim else each
            for name, each in arrays.items()
        },
    )


def digit_images() -> Float[np.ndarray, "image row column"]:
    """Return scikit-learn's digits, grey values from 0 to 16.

    Raises:
        FlowsError: If scikit-learn is not installed.
    """
    require("sklearn", extra="digits", where=DIGITS, instead="a file of patches")
    datasets: Any = import_module("sklearn.datasets")
    return np.asarray(datasets.load_digits().images)


def digit_patches(*, seed: int) -> Float[np.ndarray, "image row column"]:
    """Return scikit-learn's digits as 9x9 patches, standardised.

    Raises:
        FlowsError: If scikit-learn is not installed.
    """
    images = torch.from_numpy(digit_images())
    enlarged = torch.nn.functional.interpolate(
        images[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=True
    )
    return standardise(enlarged[:, 0].numpy(), step=_GREY_STEP, seed=seed)


def shrink(
    images: Shaped[np.ndarray, "image row column"], *, seed: int
) -> Float[np.ndarray, "image row column"]:
    """Return images of integers as 9x9 patches of averages, standardised."""
    whole = torch.from_numpy(images.astype(np.float64))
    small = torch.nn.functional.adaptive_avg_pool2d(whole[:, None], SIZE)
    return standardise(small[:, 0].numpy(), step=_GREY_STEP, seed=seed)


def standardise(
    images: Float[np.ndarray, "image row column"], *, step: float, seed: int
) -> Float[np.ndarray, "image row column"]:
    """Return images with noise of a grey step, at mean 0 and standard deviation 1."""
    noise = np.random.default_rng(seed).uniform(0.0, step, images.shape)
    noisy = images + noise
    return np.asarray((noisy - noisy.mean()) / noisy.std(), dtype=np.float64)


def vary(
    patches: Float[np.ndarray, "image row column"], *, copies: int, seed: int
) -> Float[np.ndarray, "copy row column"]:
    """Return the patches, and copies of each turned, scaled and moved a little.

    Turned by up to 14 degrees, scaled by up to 15 %, moved by up to 0.8 pixels; the
    border is continued outwards.

    Args:
        patches: images of equal size.
        copies: of each patch, besides itself.
        seed: of the variations.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.from_numpy(patches).repeat(copies, 1, 1)[:, None]

    def spread(size: float, *more: int) -> torch.Tensor:
        shape = (len(images), *more)
        draws = torch.rand(shape, generator=generator, dtype=images.dtype)
        return size * (2.0 * draws - 1.0)

    angle, scale, move = spread(0.25), 1.0 + spread(0.15), spread(0.175, 2)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = ((cosine, -sine, move[:, 0]), (sine, cosine, move[:, 1]))
    maps = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = torch.nn.functional.affine_grid(
        maps, list(images.shape), align_corners=False
    )
    moved = torch.nn.functional.grid_sample(
        images, grid, padding_mode="border", align_corners=False
    )
    return np.concatenate([patches, moved[:, 0].numpy()])


def read_idx(path: Path | str) -> Shaped[np.ndarray, "image row column"]:
    """Return the images of an IDX file of bytes.

    Raises:
        ArtifactError: If the file is none, or cut off.
    """
    content = read_file(path, "an IDX file of images", limit=_LIMIT)
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ArtifactError.at(str(path), f"not gzip: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _IDX_BYTES:
        raise ArtifactError.at(
            str(path),
            "not an IDX file of bytes",
            "it to begin with 00 00 08",
            content[:3].hex(" "),
        )
    rank = content[3]
    if rank != 3:
        raise ArtifactError.at(
            str(path), "not images", "3 dimensions", f"{rank} dimensions"
        )
    start = 4 + 4 * rank
    if len(content) < start:
        raise ArtifactError.at(str(path), "the header is cut off")
    shape = tuple(np.frombuffer(content[4:start], dtype=">u4").tolist())
    size = math.prod(shape)
    if len(content) - start != size or not size:
        raise ArtifactError.at(
            str(path),
            "the file is cut off, too long or empty",
            f"{size} bytes of images",
            f"{len(content) - start}",
        )
    return np.frombuffer(content[start:], dtype=np.uint8).reshape(shape)


def load_arrays(path: Path | str) -> Arrays:
    """Return the arrays of an npz file by name; nothing in it is run.

    Raises:
        ArtifactError: If it is no npz file of plain arrays.
    """
    content = read_file(path, "an npz file", limit=_LIMIT)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                raise ArtifactError.at(
                    str(path), "one array without a name", "an npz file"
                )
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError.at(str(path), f"not an npz file: {error}") from None
