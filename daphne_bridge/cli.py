"""This file is the command `daphne-bridge`: compile, check, invert, show."""

from pathlib import Path
from typing import Any

import click

from . import __version__
from .clojure import run_daphne
from .command_line import (
    PATH,
    Commands,
    data_option,
    guarded,
    json_option,
    print_json,
    setting,
    warn,
)
from .compiler import (
    HOPPL_ACTIONS,
    compile_program,
    desugar_program,
    factor_graph,
    hoppl_program,
    parse_data,
    show_edn,
)
from .consumers import treatment
from .errors import DocumentError, shortened
from .files import check_file_place, check_no_input
from .graph.deep_json import dumps
from .graph.document import (
    GraphDocument,
    NodeNames,
    dump_document,
    dump_names,
    format_document,
    load_document,
    names_path,
    read_text,
    write_text,
)
from .graph.drawing import graph_to_dot, show_graph
from .graph.graph import Graph
from .inversion.document import dump_inverse, format_inverse, parse_inverse
from .inversion.drawing import inverse_to_dot, inverse_to_svg, show_inverse
from .inversion.nami import invert
from .reading import read_model

__all__ = ["main"]


@click.group("daphne-bridge", cls=Commands)
@click.version_option(__version__, prog_name="daphne-bridge")
def main() -> None:
    """Compile Daphne programs to graph documents, check them and invert them.

    \b
    daphne-bridge compile model.daphne -o graph.json   program -> graph document
    daphne-bridge check graph.json                     everything wrong or odd in it
    daphne-bridge invert graph.json -o inverse.json    its minimal faithful inverse
    daphne-bridge show graph.json                      either file, as text or DOT

    Exit codes: 0 done, 2 bad input, 1 failure, 130 interrupted.
    """  # noqa: D301 - the command line library reads \\b as a character


@main.command("compile")
@click.argument("program", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="File to write.")
@setting(
    "--action",
    click.Choice(["graph", "desugar", "factor-graph", *HOPPL_ACTIONS]),
    "graph",
    "What to write, as in Daphne.",
)
@click.option(
    "--format",
    "layout",
    type=click.Choice(["pretty-json", "json", "edn"]),
    default="pretty-json",
    show_default=True,
    help="How to write it.",
)
@data_option
@click.option(
    "--daphne", type=PATH, help="Checkout of the original Daphne that compiles instead."
)
@json_option
@guarded
def compile_command(
    program: Path,
    output: Path,
    action: str,
    layout: str,
    data: Path | None,
    daphne: Path | None,
    *,
    as_json: bool,
) -> None:
    """Compile PROGRAM to a graph document.

    Beside OUTPUT a file NAME.names.json keeps the program's own names of the nodes;
    it may be deleted. PROGRAM may be - for standard input, OUTPUT - for standard
    output, which then takes the document alone.
    """
    to_stdout = str(output) == "-"
    if to_stdout and (as_json or daphne is not None):
        raise click.UsageError("-o - goes without --json and --daphne")
    if not to_stdout:
        for place in (output, names_path(output)):
            check_no_input(place, (program, data), DocumentError)
        check_file_place(output, DocumentError)
    if daphne is not None:
        if action != "graph" or layout == "edn" or data is not None:
            raise click.UsageError(
                "--daphne goes with --action graph and a JSON format, without --data"
            )
        run_daphne(daphne, program, output)
        names_path(output).unlink(missing_ok=True)
        _report_compiled(load_document(output), output, as_json=as_json)
        return
    text = read_text(program, "a program")
    bound = None
    if data is not None:
        bound = parse_data(read_text(data, "data"), str(data))
    if action != "graph":
        if action == "factor-graph":
            value: Any = factor_graph(text, str(program), bound)
        elif action == "desugar":
            value = desugar_program(text, str(program))
        else:
            value = hoppl_program(text, str(program), action)
        if to_stdout:
            click.echo(_written(value, layout), nl=False)
            return
        write_text(output, _written(value, layout))
        if as_json:
            print_json({"ok": True, "output": str(output)})
        return
    compiled = compile_program(text, str(program), bound)
    document = GraphDocument.from_triple(compiled.document, str(output))
    names = NodeNames(compiled.labels, compiled.positions)
    if to_stdout:
        text = (
            format_document(document)
            if layout == "pretty-json"
            else _written(document.to_json(), layout)
        )
        click.echo(text, nl=False)
        return
    if layout == "pretty-json":
        dump_document(document, output)
    else:
        write_text(output, _written(document.to_json(), layout))
    if layout != "edn":
        dump_names(names, document, output)
    _report_compiled(document, output, as_json=as_json)


def _written(value: Any, layout: str) -> str:
    if layout == "edn":
        return show_edn(value) + "\n"
    return dumps(value, indent=1 if layout == "pretty-json" else None) + "\n"


def _report_compiled(document: GraphDocument, output: Path, *, as_json: bool) -> None:
    latent = len(document.vertices) - len(document.observations)
    if as_json:
        print_json(
            {
                "ok": True,
                "output": str(output),
                "latents": latent,
                "observed": len(document.observations),
            }
        )
    else:
        click.echo(
            f"{output}: {latent} latent and {len(document.observations)} observed nodes"
        )


def _usable_graph(path: Path, text: str | None = None) -> Graph:
    """Return the graph of a program or document without errors; print warnings.

    Raises:
        GraphError: If the check finds errors.
    """
    report = read_model(path, text=text).report
    graph = report.usable_graph()
    warn(report.warnings)
    return graph


@main.command()
@click.argument("graph", type=PATH)
@data_option
@json_option
@guarded
def check(graph: Path, data: Path | None, *, as_json: bool) -> None:
    """Say all that is wrong or odd in GRAPH.

    GRAPH is a document or a program.

    Exit code 0 if it can be used (warnings do not count), 2 if not. What the installed
    packages make of it is asked too: `daphne-flows infer` takes what is good here, and
    sums out, cuts off and samples the latents that are named.
    """
    read = read_model(graph, data)
    document, report = read.document, read.report
    if report.problems and not as_json:
        warn(report.warnings)
    found = report.usable_graph()
    made = treatment(found)
    if as_json:
        print_json(
            {
                "ok": True,
                "latents": len(found.latents),
                "discrete_latents": sum(
                    found.node(name).is_discrete for name in found.latents
                ),
                "observed": len(found.observed),
                "arcs": sum(len(node.parents) for node in found.nodes),
                "digest": found.digest,
                "document": document.digest(),
                **made,
                "warnings": [str(warning) for warning in report.warnings],
            }
        )
        return
    warn(report.warnings)
    click.echo(
        f"{graph}: good; {len(found.latents)} latent and {len(found.observed)} "
        f"observed nodes, {len(report.warnings)} warnings"
    )
    for what, labels in made.items():
        if labels:
            click.echo(f"{what.replace('_', ' ')}: {shortened(', '.join(labels), 200)}")


@main.command("invert")
@click.argument("graph", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="File to write.")
@json_option
@guarded
def invert_command(graph: Path, output: Path, *, as_json: bool) -> None:
    """Write the minimal faithful inverse of GRAPH.

    GRAPH is a document or a program.

    GRAPH may be - for standard input, OUTPUT - for standard output.
    """
    if str(output) == "-":
        if as_json:
            raise click.UsageError("-o - goes without --json")
        click.echo(format_inverse(invert(_usable_graph(graph))), nl=False)
        return
    check_no_input(output, (graph, names_path(graph)), DocumentError)
    check_file_place(output, DocumentError)
    inverse = invert(_usable_graph(graph))
    dump_inverse(inverse, output)
    if as_json:
        print_json(
            {
                "ok": True,
                "output": str(output),
                "latents": len(inverse.latents),
                "observed": len(inverse.observed),
                "edges": inverse.num_edges,
                "mode": inverse.mode,
            }
        )
    else:
        click.echo(
            f"{output}: {inverse.num_edges} edges into {len(inverse.latents)} latents "
            f"({inverse.mode})"
        )


@main.command()
@click.argument("file", type=PATH)
@click.option("--dot", is_flag=True, help="Write the DOT language of Graphviz.")
@click.option("--svg", is_flag=True, help="Write an inverse's adjacency picture.")
@guarded
def show(file: Path, *, dot: bool, svg: bool) -> None:
    """Show FILE as text, DOT or SVG.

    FILE is a graph document, a program or an inverse.
    """
    if dot and svg:
        raise click.UsageError("--dot and --svg exclude each other")
    text = read_text(file, "a graph, a program or an inverse")
    if text.lstrip().startswith("{"):  # documents are arrays
        inverse = parse_inverse(text, str(file))
        draw = inverse_to_dot if dot else inverse_to_svg if svg else show_inverse
        click.echo(draw(inverse), nl=False)
        return
    if svg:
        raise click.UsageError(
            "--svg draws the adjacency of an inverse, not of a graph"
        )
    graph = _usable_graph(file, text)
    click.echo(graph_to_dot(graph) if dot else show_graph(graph), nl=False)
