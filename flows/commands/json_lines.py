"""This file answers lines of JSON with draws of a flow.

A request is one line, an object with

    num_particles   how many draws, a whole number from 1
    seed            of the draws, a whole number from 0; equal seeds give equal draws
    observe         optional: values by name of a node; others keep the document's
    id              optional: text or a number that comes back with the answer

and its answer is one line, an object with

    latents         values by the document's name, one entry per draw
    log_q           log density of each draw, in nats, relative to a standard normal on
                    the nuisances of the flow
    log_joint       log p(latents, observed) of each draw
    log_weights     log_joint - log_q

A number that is not finite is null. Whatever else the line holds, the answer is
`{"error": {"where", "what", "expected", "got"}}`. One line in, one line out.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from daphne_bridge.command_line import problem_json
from daphne_bridge.errors import BridgeError, shortened
from daphne_bridge.graph.deep_json import JsonError, loads

from ..errors import FlowsError, Problem
from ..inference.importance import MOST_SEED
from ..inference.log_weight import checked_log_weights
from ..proposals.flow import FlowProposal

__all__ = ["LINE_LIMIT", "Server", "request_lines"]

LINE_LIMIT = 2**20
"""Most bytes of a request."""

_KEYS = ("observe", "num_particles", "seed", "id")
_DEEPEST = 4
_LONGEST_ID = 200
_MOST_ID = 2**63 - 1
_MOST_NUMBER = 10**300


def request_lines(stream: BinaryIO, limit: int = LINE_LIMIT) -> Iterator[bytes | None]:
    """Yield the lines of a stream; None for each that is longer than `limit`.

    No more than `limit` bytes are held at a time.
    """
    while True:
        line = stream.readline(limit + 1)
        if not line:
            return
        if len(line) <= limit or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(limit + 1)
        yield None


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """Answers requests; every answer depends on its request alone.

    Attributes:
        proposal: What draws come from.
        max_particles: Most draws of one request.
    """

    proposal: FlowProposal
    max_particles: int

    def answer(self, line: bytes | None) -> str:
        """Return the answer to a line, one line of JSON without its end.

        Args:
            line: A request, or None for one that was too long to be read.
        """
        identity: Any = None
        try:
            request = _request(line)
            identity = _identity(request)
            answer = self._draws(request)
        except BridgeError as error:
            answer = _error(error.problems[0])
        except (ArithmeticError, RuntimeError, ValueError, MemoryError) as error:
            # The process outlives every request.
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            answer = _error(Problem("request", f"failed: {what[:200]}"))
        if identity is not None:
            answer = {"id": identity, **answer}
        return json.dumps(answer, allow_nan=False)

    def _draws(self, request: Mapping[str, Any]) -> dict[str, Any]:
        num = _whole(request, "num_particles", 1, self.max_particles)
        seed = _whole(request, "seed", 0, MOST_SEED)
        values = request.get("observe", {})
        if not isinstance(values, dict):
            raise _wrong("observe", "not an object", "values by name", values)
        model = self.proposal.model
        data = model.observation(
            {
                name: _data(value, f"observe {name}"[:80])
                for name, value in values.items()
            }
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            draw = self.proposal.rsample_and_log_prob(data, num, generator=generator)
            log_weights = checked_log_weights(model, draw, data, where="request")
        return {
            "latents": {
                variable.name: _plain(
                    draw.latents[:, variable.start : variable.stop].reshape(
                        num, *variable.shape
                    )
                )
                for variable in model.layout.latents
            },
            "log_q": _plain(draw.log_prob),
            "log_joint": _plain(draw.log_prob + log_weights),
            "log_weights": _plain(log_weights),
        }


def _request(line: bytes | None) -> dict[str, Any]:
    """Return the object of a line."""
    if line is None:
        raise FlowsError.at(
            "request", "the line is too long", f"{LINE_LIMIT} bytes at most"
        )
    try:
        request = loads(line.decode())
    except UnicodeDecodeError as error:
        byte = f"byte {error.object[error.start]:#04x}"
        raise FlowsError.at("request", "not UTF-8 text", "JSON", byte) from None
    except JsonError as error:
        where = f"request:1:{error.column}"
        what = f"not JSON: {error}"[:200]
        raise FlowsError.at(where, what, "one JSON object in a line") from None
    except ValueError:  # a number of more digits than Python reads
        raise FlowsError.at(
            "request", "a number is too long", "a finite number"
        ) from None
    if not isinstance(request, dict):
        raise _wrong("request", "not an object", "an object", request)
    for key in request:
        if key not in _KEYS:
            raise FlowsError.at("request", "unknown key", ", ".join(_KEYS), _shown(key))
    return request


def _identity(request: Mapping[str, Any]) -> str | int | None:
    value = request.get("id")
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value is None or (isinstance(value, str) and len(value) <= _LONGEST_ID):
        return value
    if is_number and abs(value) <= _MOST_ID:
        return int(value)
    expected = f"text of up to {_LONGEST_ID} characters, or a whole number"
    raise _wrong("id", "not a name of a request", expected, value)


def _whole(request: Mapping[str, Any], key: str, least: int, most: int) -> int:
    if key not in request:
        raise FlowsError.at(key, "missing", f"a whole number from {least}")
    value = request[key]
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not least <= value <= most:
        expected = f"a whole number from {least} to {most}"
        raise _wrong(key, "not a number in range", expected, value)
    return int(value)


def _data(value: Any, where: str) -> Any:
    """Return an observed value with vectors as tuples, its numbers in range."""
    level = [value]
    for _ in range(_DEEPEST):
        for item in level:
            if isinstance(item, dict):
                raise _wrong(where, "not a value", "a number, text or a list", item)
            if isinstance(item, float) and not math.isfinite(item):
                raise _wrong(where, "the number is too large", "a finite number", item)
            if isinstance(item, int) and abs(item) > _MOST_NUMBER:
                raise _wrong(where, "the number is too large", "a finite number", item)
        level = [part for item in level if isinstance(item, list) for part in item]
        if not level:
            return _as_tuples(value)
    expected = "a number, vector or matrix"
    got = f"lists of more than {_DEEPEST} levels"
    raise FlowsError.at(where, "nested too deep", expected, got)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _plain(values: Tensor) -> Any:
    """Return lists of numbers, null for what is not finite."""
    if bool(torch.isfinite(values).all()):
        return values.tolist()
    if values.dim() > 1:
        return [_plain(row) for row in values]
    return [number if math.isfinite(number) else None for number in values.tolist()]


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and abs(value) > _MOST_ID:
        return "a larger number"
    return shortened(json.dumps(value))


def _wrong(where: str, what: str, expected: str, value: Any) -> FlowsError:
    return FlowsError.at(where, what, expected, _shown(value))


def _error(problem: Problem) -> dict[str, Any]:
    return {"error": problem_json(problem)}
