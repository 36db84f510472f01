"""This file is `python -m flows.experiments`: it makes the figures of the paper.

    python -m flows.experiments [--length fast] [-o runs/figures] [--only fig3 ...]

Each figure leaves NAME.json with its numbers and NAME.png; `claims.md` sets the numbers
beside the paper's. A figure's files are written when it is done. Runs of networks and
objectives that are compared, figures 4 to 6 and appendix D, are kept in `runs`: an
interrupted call loses seconds of them, and the same call goes on. Of the others it
loses one figure at most.
"""

import json
from collections.abc import Callable
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import torch
from matplotlib.figure import Figure

from daphne_bridge.command_line import PATH, Command, guarded, setting
from daphne_bridge.inversion.elimination_plans import PUBLISHED
from daphne_bridge.inversion.nami import invert

from ..cnf.engines import EngineFactory, choose_engine
from ..flow.building import build_structure
from ..flow.structure import Structure
from ..model.data_backed import DataBackedModel
from ..model.model import Model
from ..storage.folders import write_file
from ..storage.latent_rows import (
    DIGITS,
    digit_images,
    latent_arrays,
    split_rows,
    vary,
)
from ..training.config import nuisance_counts
from .claims import claims_table
from .comparison import compare_objectives, compare_structures
from .deconvolution import deconvolve, inverse_adjacency
from .digits import black_and_white, compare_posteriors
from .energies import fit_energies
from .figures import (
    draw_adjacency,
    draw_deconvolution,
    draw_digits,
    draw_energies,
    draw_evaluations,
    draw_j_over_iterations,
    draw_marginals,
    draw_natural_steps,
)
from .lengths import LENGTHS, Lengths
from .marginals import compare_marginals
from .natural_gradients import compare_steps

__all__ = ["main"]

_DPI = 130

Drawn = tuple[dict[str, Any], dict[str, Figure]]
"""Numbers, and pictures by name."""


class _Experiments:
    """The experiments by figure's name, with what they share.

    Args:
        lengths: how long they run.
        programs: folder of the programs.
        patches: npz or IDX file of patches; digits if None.
        kept: folder of runs that go on over sittings.
        note: told what is done.
        so_far: nothing of these runs is trained, and figures are of what they reached.
    """

    def __init__(
        self,
        lengths: Lengths,
        programs: Path,
        patches: Path | None,
        kept: Path,
        note: Callable[[str], None],
        *,
        so_far: bool = False,
    ) -> None:
        self.lengths = lengths
        self.programs = programs
        self.patches = patches
        self.kept = kept
        self.note = note
        self.so_far = so_far
        self.makers: dict[str, Callable[[], Drawn]] = {
            "fig3": self.marginals,
            "fig4": self.structures,
            "fig6": self.objectives,
            "fig8": self.adjacency,
            "fig9": self.deconvolution,
            "appendix_d": self.state_space,
            "fig_finite": self.energies,
            "fig_sin": self.natural_steps,
            "fig_digits": self.digits,
        }

    @cached_property
    def engine(self) -> EngineFactory:
        """Engine that trains flows with block structure."""
        return choose_engine(
            "auto", on_compile=lambda: self.note("compiling the training kernel, once")
        )

    def model(self, name: str) -> Model:
        """The model of a program."""
        return Model.compile(self.programs / f"{name}.daphne")

    def published(self, name: str, nuisances: int) -> tuple[Model, Structure]:
        """A model and the structure of its inverse as published."""
        model = self.model(name)
        inverse = invert(model.graph, plans=PUBLISHED)
        return model, build_structure(inverse, model.layout, nuisances)

    def marginals(self) -> Drawn:
        """Figure 3."""
        model = self.model("arithmetic_circuit")
        config = self.lengths.marginals
        numbers = compare_marginals(
            model,
            build_structure(
                invert(model.graph),
                model.layout,
                nuisance_counts(config.augment, model.layout),
            ),
            config,
            num_draws=self.lengths.marginal_draws,
            engine=self.engine,
            note=self.note,
        )
        return numbers, {"fig3": draw_marginals(numbers)}

    def structures(self) -> Drawn:
        """Figures 4 and 5."""
        model, structure = self.published("arithmetic_circuit", 10)
        numbers = compare_structures(
            model,
            structure,
            self.lengths.structures,
            engine=self.engine,
            note=self.note,
            kept=self.kept / "fig4",
            so_far=self.so_far,
        )
        iterations, networks = numbers["iterations"], numbers["networks"]
        return numbers, {
            "fig4": draw_j_over_iterations(iterations, networks),
            "fig5": draw_evaluations(iterations, networks),
        }

    def objectives(self) -> Drawn:
        """Figure 6."""
        return self._objectives("arithmetic_circuit", 5, "fig6")

    def state_space(self) -> Drawn:
        """Appendix D."""
        return self._objectives("state_space", 2, "appendix_d")

    def adjacency(self) -> Drawn:
        """Figure 8."""
        numbers = inverse_adjacency(self.model("convolution").graph)
        return numbers, {"fig8": draw_adjacency(numbers)}

    def deconvolution(self) -> Drawn:
        """Figure 9."""
        model = self.model("convolution")
        source = DIGITS if self.patches is None else str(self.patches)
        arrays = latent_arrays(source, seed=0)
        seen, unseen = split_rows(arrays)
        varied = {
            name: vary(images, copies=self.lengths.deconvolution_copies, seed=1)
            for name, images in seen.items()
        }
        training, held_out = (
            DataBackedModel.from_arrays(model, part, source)
            for part in (varied, unseen)
        )
        numbers = deconvolve(
            model.graph,
            training,
            held_out,
            self.lengths.deconvolution,
            engine=self.engine,
            note=self.note,
        )
        numbers["patches"] = source
        return numbers, {"fig9": draw_deconvolution(numbers)}

    def energies(self) -> Drawn:
        """Finite flows on four energies."""
        names = ("u1", "u2", "u3", "u4")
        models = {name: self.model(f"energies/{name}") for name in names}
        numbers = fit_energies(models, self.lengths.energies, note=self.note)
        return numbers, {"fig_finite": draw_energies(numbers)}

    def natural_steps(self) -> Drawn:
        """Natural and plain gradient steps of a structured Gaussian."""
        names = ("mixture", "dynamics")
        models = {name: self.model(f"natural/{name}") for name in names}
        numbers = compare_steps(models, self.lengths.natural, note=self.note)
        return numbers, {"fig_sin": draw_natural_steps(numbers)}

    def digits(self) -> Drawn:
        """Weights of a deep latent Gaussian model, and posteriors of its latents."""
        numbers = compare_posteriors(
            self.model("learning/digits"),
            black_and_white(digit_images()),
            self.lengths.digits,
            note=self.note,
        )
        return numbers, {"fig_digits": draw_digits(numbers)}

    def _objectives(self, program: str, nuisances: int, name: str) -> Drawn:
        model, structure = self.published(program, nuisances)
        numbers = compare_objectives(
            model,
            structure,
            self.lengths.objectives,
            engine=self.engine,
            note=self.note,
            kept=self.kept / name,
            so_far=self.so_far,
        )
        curves = numbers["objectives"]
        return numbers, {name: draw_j_over_iterations(numbers["iterations"], curves)}


_NAMES = (
    "fig3",
    "fig4",
    "fig6",
    "fig8",
    "fig9",
    "appendix_d",
    "fig_finite",
    "fig_sin",
    "fig_digits",
)


@click.command("python -m flows.experiments", cls=Command)
@setting(
    "--length",
    click.Choice(tuple(LENGTHS)),
    "usual",
    "Of training: minutes, two hours, or the paper's, most of a day.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=Path("runs/figures"),
    show_default=True,
)
@setting("--programs", PATH, Path("clj-programs"), "Folder of the programs.")
@click.option(
    "--latents-from",
    type=PATH,
    help="Patches of figure 9: an npz file, or MNIST's IDX file of images.",
)
@click.option(
    "--so-far",
    is_flag=True,
    help="Draw figures 4 to 6 and appendix D of what kept runs have reached.",
)
@click.option("--only", multiple=True, type=click.Choice(_NAMES), help="Figures.")
@guarded
def main(
    output: Path,
    programs: Path,
    latents_from: Path | None,
    only: tuple[str, ...],
    length: str,
    *,
    so_far: bool,
) -> None:
    """Make the figures of the paper; fig4 makes figure 5 too."""
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    experiments = _Experiments(
        LENGTHS[length],
        programs,
        latents_from,
        output / "runs",
        lambda text: click.echo(text, err=True),
        so_far=so_far,
    )
    for name in only or _NAMES:
        click.echo(name, err=True)
        numbers, pictures = experiments.makers[name]()
        numbers = {"length": length, **numbers}
        write_file(output / f"{name}.json", json.dumps(numbers, indent=1).encode())
        for picture, figure in pictures.items():
            buffer = BytesIO()
            figure.savefig(buffer, format="png", dpi=_DPI)
            write_file(output / f"{picture}.png", buffer.getvalue())
    results = {
        name: json.loads((output / f"{name}.json").read_text())
        for name in _NAMES
        if (output / f"{name}.json").exists()
    }
    table = claims_table(results)
    write_file(output / "claims.md", table.encode())
    click.echo(table, nl=False)


if __name__ == "__main__":
    main()
