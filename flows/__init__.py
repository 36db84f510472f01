"""Amortised inference for graphical models: a program becomes weighted particles.

    import flows

    model = flows.Model.compile("model.daphne", data="data.csv")
    answer = flows.infer(model, budget="1m", seed=0)       # one data set
    print(answer.summary())

    posterior = flows.train(model, budget="10m", seed=0)   # one flow for every data set
    posterior.save("artifact")
    posterior = flows.load("artifact", model)
    particles = posterior.sample({"x0": -9.7, "x1": 0.85}, 10_000, seed=0)
    bent = posterior.refine({"x0": -9.7, "x1": 0.85})      # one flow for these data

- `Graph`: nodes with link functions, parents, data; `Model`: its p(latents, observed),
  by `Model.compile`, `Model.load`, `Model.from_program` or `Model.from_graph`.
- `infer`: one data set, by the method that fits, which is said; `train`, `load`: a
  `Posterior` for every data set of a model; `refine`: one whose flow is bent to one.
- `learn(model, "rows.csv", ["a", "b"])`: parameters that rows of data share, as
  `Learned`, which holds the model with these constants.
- `Particles`: weighted values of all latents, and what they say.
- `Flow`, `Proposal`: protocols for those who bring their own; `Engine`: what solves a
  continuous flow.
- `FlowsError`: bad input, with one `Problem` (where, what, expected, got) or more;
  `BridgeError`, its base, is raised for a program or document that is wrong, too.

A name is imported when it is used first: `import flows` alone loads no library. The
command line, `daphne-flows`, gives the same numbers for the same seed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daphne_bridge.errors import BridgeError
    from daphne_bridge.graph.graph import Graph

    from .cnf.engine import Engine
    from .errors import FlowsError
    from .flow.protocol import Flow
    from .front.inference import infer
    from .front.learn import learn
    from .front.learned import Learned
    from .front.posterior import Posterior, load, refine
    from .front.train import train
    from .inference.particles import Particles
    from .inference.proposal import Proposal
    from .model.model import Model

__all__ = [
    "BridgeError",
    "Engine",
    "Flow",
    "FlowsError",
    "Graph",
    "Learned",
    "Model",
    "Particles",
    "Posterior",
    "Proposal",
    "infer",
    "learn",
    "load",
    "refine",
    "train",
]

_HOMES = {
    "BridgeError": "daphne_bridge.errors",
    "Engine": "flows.cnf.engine",
    "Flow": "flows.flow.protocol",
    "FlowsError": "flows.errors",
    "Graph": "daphne_bridge.graph.graph",
    "Learned": "flows.front.learned",
    "Model": "flows.model.model",
    "Particles": "flows.inference.particles",
    "Posterior": "flows.front.posterior",
    "Proposal": "flows.inference.proposal",
    "infer": "flows.front.inference",
    "learn": "flows.front.learn",
    "load": "flows.front.posterior",
    "refine": "flows.front.posterior",
    "train": "flows.front.train",
}
"""The module of each public name."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flows' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
