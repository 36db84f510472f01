"""This file is `daphne-flows serve`: requests on standard input, draws on output."""

import sys
from pathlib import Path

import click

from daphne_bridge.command_line import PATH, data_option, guarded, setting

from ..errors import FlowsError
from ..proposals.flow import FlowProposal
from .inputs import load_model, load_posterior
from .json_lines import Server, request_lines
from .options import COUNT

__all__ = ["serve_command"]


@click.command("serve")
@click.argument("artifact", type=PATH)
@click.argument("place", metavar="MODEL", type=PATH)
@data_option
@click.option("--stdio", is_flag=True, help="Read requests from standard input.")
@setting("--max-particles", COUNT, 100_000, "Most draws of one request.")
@guarded
def serve_command(
    artifact: Path, place: Path, data: Path | None, max_particles: int, *, stdio: bool
) -> None:
    """Answer lines of JSON with draws from ARTIFACT, a flow of MODEL.

    \b
    {"observe": {"x0": -9.7}, "num_particles": 100, "seed": 1}
    {"latents": {"sample1": [...]}, "log_q": [...], "log_joint": [...],
     "log_weights": [...]}

    MODEL gives supports, names and the target density; data that a request leaves out
    is MODEL's. One answer per line; {"error": {where, what, expected, got}} for a line
    that cannot be answered. Ends with the input.
    """  # noqa: D301 - the command line library reads \\b as a character
    if not stdio:
        raise FlowsError.at("serve", "no way to listen", "--stdio")
    posterior = load_posterior(artifact, load_model(place, data))
    server = Server(FlowProposal(posterior.flow, posterior.target), max_particles)
    output = sys.stdout.buffer
    for line in request_lines(sys.stdin.buffer):
        output.write(server.answer(line).encode() + b"\n")
        output.flush()
