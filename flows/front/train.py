"""This file is `train`: a model becomes a posterior for every data set of it."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import ArgumentError
from ..flow.kinds import is_solved, kind_of, solved_with
from ..flow.protocol import Flow
from ..marginal.collapsed import CollapsedModel
from ..model.data_backed import DataBackedModel
from ..model.draws import Draws
from ..model.model import Model
from ..storage.artifact import Artifact
from ..storage.checkpoint import RunKey
from ..training.config import CHOSEN, TrainingConfig
from ..training.economy import preparing_draws
from ..training.loop import Fit, fit
from ..training.one_data_set import OneDataSet
from ..training.processes import ALONE, Ranks, local_rank, local_size
from ..training.state import Report
from .arguments import path_of, seed_of
from .chosen import Chosen
from .material import Material, Target, check_trainable, summed_out
from .new_flow import new_flow
from .nuisances import Pilot, check_choosable
from .posterior import Posterior
from .run_folder import RunFolder
from .settings import (
    AUTO,
    OF_ALL_KINDS,
    Settings,
    check_model,
    says_kind,
    training_settings,
)
from .too_large import check_not_too_large, named_if_too_large

__all__ = ["run_settings", "settings_for", "train"]

_CPU = "cpu"
_DATA_SETS = {True: "a flow of all data sets", False: "a flow of one data set"}


def train(
    model: Model,
    *,
    budget: str | float | None = None,
    seed: int = 0,
    config: Settings = None,
    augment: int | str | None = None,
    objective: str | None = None,
    latents_from: Path | str | None = None,
    integrate: str | None = None,
    kind: str | None = None,
    amortised: bool | None = None,
    engine: str = "auto",
    device: str | torch.device = _CPU,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    on_report: Callable[[Report], None] | None = None,
    on_pilot: Callable[[Report], None] | None = None,
    on_compile: Callable[[], None] | None = None,
    on_loss: Callable[[], None] | None = None,
    ranks: Ranks = ALONE,
) -> Posterior:
    """Return the posterior of a model, amortised over all of its data sets.

    The faithful inverse of the model's graph is the structure of a flow, which is
    trained on draws of the model. Equal seeds and iterations give equal flows.

    Args:
        model: The target; discrete latents that are too wide to be summed out get a
            learned head.
        budget: Seconds of work by the wall clock, preparation and certification
            included, or a duration such as `10m`; the configuration's if None.
        seed: Of every draw.
        config: Training settings: a configuration, a mapping, or a TOML file.
        augment: Nuisance columns per latent, instead of the configuration's; auto: as
            many for each as short trainings, three tenths of the budget, find that it
            needs, for no more weights than five for each take.
        objective: What is minimised, instead of the configuration's: symmetric,
            forward, reverse or free-energy.
        latents_from: A file with rows in place of the prior of some latents, which
            then have no density; forward objective only.
        integrate: Which latents the flow is not of, as they are integrated out, instead
            of what the configuration says: auto or none.
        kind: Of flow (`flow.kinds.KINDS`), instead of the configuration's; auto, which
            it is where nothing else is given, for what does best by measurement.
        amortised: Whether the flow is of all data sets, or of the document's alone,
            instead of what the configuration says.
        engine: What solves the flow in training, a name that its kind knows.
        device: Where the flow is trained: cpu, cuda or cuda:N.
        checkpoint: A folder that keeps the state, a log and the configuration.
        resume: Whether the run in that folder, if there is one, is continued, by its
            configuration if none is given.
        on_report: Called with every report of training.
        on_pilot: Called with reports of what comes before, where nuisances are chosen.
        on_compile: Called before a kernel is compiled, which takes a while.
        on_loss: Called, in place of a warning, where an interrupted or damaged run in
            the folder is about to be replaced.
        ranks: The processes that share the run (`training.processes.joined_ranks`);
            reports and files are made by the first.

    Raises:
        FlowsError: If no flow can be trained for the model, or an argument is wrong.

    Example:
        >>> import flows
        >>> program = "(let [m (sample (normal 0 1))] (observe (normal m 1) 0.5) m)"
        >>> model = flows.Model.from_program(program)
        >>> quick = {"budget_seconds": 0.0, "max_iterations": 5, "certify_draws": 100}
        >>> posterior = flows.train(model, config=quick)
        >>> abs(float(posterior.sample(seed=1).mean()) - 0.25) < 0.05
        True
    """
    started = time.perf_counter()
    check_model(model)
    check_trainable(model)
    seed = seed_of(seed)
    folder = None
    if checkpoint is not None:
        folder = RunFolder(path_of("checkpoint", checkpoint))
        folder.check()
        if resume and config is None:
            config = run_settings(folder, kind=kind, amortised=amortised)
    settings = settings_for(
        model,
        config,
        budget=budget,
        augment=augment,
        objective=objective,
        integrate=integrate,
        kind=kind,
        amortised=amortised,
        engine=engine,
        device=device,
    )
    place = _device(device)
    if folder is not None and not resume and ranks.rank == 0:
        _say_loss(folder, on_loss)
    material = Material.of(model, latents_from, settings)
    resolved = {**settings.as_mapping(), **material.origin}
    key = RunKey(model.graph.digest, seed, resolved)
    state = ranks.shared(lambda: folder.state(key) if folder and resume else None)
    final, chosen = settings, None
    if settings.augment == CHOSEN:
        chosen = ranks.shared(lambda: folder.chosen if folder and state else None)
        if folder is not None and state is None and ranks.rank == 0:
            folder.begin(settings.as_mapping())
        pilot = Pilot(
            model,
            material,
            settings,
            seed=seed,
            device=place,
            engine=engine,
            ranks=ranks,
            on_report=on_pilot,
            on_compile=on_compile,
        )
        chosen = chosen or pilot.chosen(started)
        final, started = chosen.settings(settings), time.perf_counter()
    alone, layout = _alone(material.training, final), material.training.layout
    flow, inverse = new_flow(
        model, material, final, seed=seed, alone=alone, ranks=ranks
    )
    draws = preparing_draws(final, flow.structure, len(model.lowered.dag))
    is_begun = alone is not None and _begun(flow, alone, draws, seed)
    flow = flow.to(place)
    waited = time.perf_counter()
    flow = solved_with(flow, engine, on_compile=on_compile, processes=local_size())
    started += time.perf_counter() - waited  # a kernel is compiled once for all runs
    with ExitStack() as held:
        if folder is not None and ranks.rank == 0:
            held.enter_context(folder.owned())
            if chosen is not None:
                folder.keep_chosen(chosen)
        target = alone or material.training

        def drawn() -> Draws:
            return target.sample(draws, generator=torch.Generator().manual_seed(seed))

        with named_if_too_large(flow, drawn, layout, model.graph.source):
            run = fit(
                target,
                flow,
                replace(final, normalisation_draws=draws),
                seed=seed,
                state=state,
                held_out=alone or material.held_out,
                is_trained=is_begun,
                ranks=ranks,
                started=started,
            )
        reports: Iterator[Report] = run
        if folder is not None and ranks.rank == 0:
            kept = folder.reports(
                run, key, settings.as_mapping(), resumed=state is not None
            )
            reports = held.enter_context(closing(kept))
        last: Report | None = None
        for last in reports:
            if on_report is not None and ranks.rank == 0:
                on_report(last)
        if alone is not None and run.state().values["best"] is None:
            generator = torch.Generator().manual_seed(seed)
            prior = alone.model.sample(draws, generator=generator)
            check_not_too_large(prior, layout, model.graph.source)
        flow.load_state_dict(run.best_state_dict())
        artifact = ranks.shared(
            lambda: Artifact.from_flow(
                flow,
                model.graph,
                layout,
                inverse=inverse,
                seed=seed,
                config=resolved,
                metrics=_metrics(run, last, material, settings, flow, chosen),
                without_density=material.without_density,
                data=None if alone is None else alone.observed,
                integrated=material.integrated,
            )
        )
    return Posterior.of(model, artifact, weighted=not material.without_density)


def run_settings(
    folder: RunFolder, *, kind: str | None, amortised: bool | None
) -> Settings:
    """Return the settings of the run that can be resumed; None if there are none.

    Args:
        folder: Of the run.
        kind: Of flow that is asked for, if any is.
        amortised: Whether it is asked for of all data sets, if that is said.

    Raises:
        FlowsError: If the run is of another kind, or of other data sets.
    """
    config = folder.config
    if config is None or (kind is None and amortised is None):
        return config
    own = training_settings(config)
    asked = own.kind if kind is None else training_settings(kind=kind).kind
    if own.kind != asked:
        what, is_own = "of another kind of flow", own.kind
    elif amortised not in (None, own.amortised):
        what = "of other data sets"
        is_own, asked = _DATA_SETS[own.amortised], _DATA_SETS[not own.amortised]
    else:
        return config
    raise ArgumentError.at(
        str(folder.path),
        f"the run in it is {what}",
        f"{is_own}, which --resume alone goes on with; without it training starts anew",
        asked,
    )


def settings_for(
    model: Model,
    config: Settings = None,
    *,
    kind: str | None = None,
    engine: str = AUTO,
    device: str | torch.device = _CPU,
    **given: Any,
) -> TrainingConfig:
    """Return the settings of training a model; see `training_settings`.

    Where nothing says of which kind the flow is, it is of the one that does best;
    nuisances, an engine of solvers alone and a GPU are for the kind `cnf`, but beside
    heads of discrete latents.
    """
    settings = training_settings(config, kind=kind, **given)
    if kind is not None or says_kind(config):
        return settings
    is_any = engine in OF_ALL_KINDS and _named(device).type == _CPU
    if is_any and not given.get("augment"):
        return training_settings(config, kind=AUTO, **given)
    target = summed_out(model, settings)
    if isinstance(target, CollapsedModel) and target.sampled:
        check_choosable(settings, target)
        return training_settings(config, kind=AUTO, **given)
    return settings


def _say_loss(folder: RunFolder, on_loss: Callable[[], None] | None) -> None:
    """Say that a run in a folder will be replaced, if it is not at its end."""
    loss = folder.loss("resume=True")
    if loss and on_loss is not None:
        on_loss()
    elif loss:
        warnings.warn(loss, stacklevel=3)


def _named(name: str | torch.device) -> torch.device:
    """Return the device of a name; the one without memory where there is none."""
    try:
        return torch.device(name)
    except (RuntimeError, TypeError):
        return torch.device("meta")


def _device(name: str | torch.device) -> torch.device:
    """Return the device of a name; with several processes each its own GPU.

    Raises:
        ArgumentError: If there is no such device here.
    """
    device = _named(name)
    count = torch.cuda.device_count()
    if device.type == "cuda" and device.index is None and count:
        device = torch.device("cuda", local_rank() % count)
    if (device.index or 0) >= {_CPU: 1, "cuda": count}.get(device.type, 0):
        known = [_CPU, *(f"cuda:{number}" for number in range(count))]
        raise ArgumentError.at(
            "device", "no such device here", ", ".join(known), str(name)
        )
    return device


def _begun(flow: Flow, alone: OneDataSet, num_draws: int, seed: int) -> bool:
    """Bring a flow of one data set near its posterior, if its kind can."""
    begin = kind_of(flow.kind).begin
    if begin is not None:
        generator = torch.Generator().manual_seed(seed)
        draws = alone.sample(num_draws, generator=generator)
        flow.fit_normalisation(alone.unconstrain(draws.latents)[0], draws.observed)
        begin(flow, alone.model, alone.observed)
    return begin is not None


def _alone(target: Target, settings: TrainingConfig) -> OneDataSet | None:
    """Return a target with its own data, if those are to be the only ones."""
    if settings.amortised or isinstance(target, DataBackedModel):
        return None
    return OneDataSet(target, target.observation())


def _metrics(
    run: Fit,
    last: Report | None,
    material: Material,
    settings: TrainingConfig,
    flow: Flow,
    chosen: Chosen | None,
) -> dict[str, Any]:
    values = run.state().values
    draws = values["certify_draws"]
    few = {"certify_draws": draws} if draws < settings.certify_draws else {}
    ess = values["best_ess"]
    known = {} if ess is None or math.isnan(ess) else {"ess": ess}
    if values["best_error"] is not None:
        known["standard_error"] = values["best_error"]
    lost = values["best_lost"]
    missed = {"without_density": lost, "best_j_of_others": values["best"]}
    steps = {"solver_steps": values["num_steps"]} if is_solved(flow) else {}
    in_vain = values["rollbacks"] > 0 and values["iteration"] == 0
    failed = {"rollbacks": values["rollbacks"]} if in_vain else {}
    if not settings.amortised:
        best = "best_free_energy"
    else:
        best = "best_j" if material.training.has_density else "best_forward"
    return {
        best: None if lost else values["best"],
        "iterations": values["iteration"],
        "seconds": values["seconds"] + (chosen.seconds if chosen else 0.0),
        **known,
        **steps,
        **few,
        **(missed if lost else {}),
        **failed,
        "status": values["status"] or (last.status if last else ""),
    }
