"""Times the embedded compiler, whole process included, on programs that grow.

    python -m tests.bench.bench_compile [--repeats N] [--output FILE]

For each program: the seconds of one process `daphne-bridge compile` from start to
written document (median and spread of the repeats), the processor seconds of the same
process, which other jobs on the machine disturb less, the processor seconds of
`compile_program` alone, the size of the document, and these seconds per megabyte of it,
which would be constant if compiling were linear. The last columns are the original
Daphne's time where it was measured (one run, with the start of its JVM) and how many
times it is the process's processor seconds, and its wall-clock seconds. The package is
compiled to bytecode before, as an installed package is.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from daphne_bridge.compiler import compile_program

ORIGINAL_SECONDS = {
    "state space 10": 3.6,
    "state space 100": 8.4,
    "state space 400": 50.0,
    "state space 800": 286.0,
    "regression 100": 7.4,
    "regression 1000": 57.0,
    "regression 3000": 180.0,
    "convolution 9": 13.0,
    "convolution 17": 36.0,
    "hidden Markov 200": 23.0,
    "independent 3000": 15.0,
}


def numbers(count: int) -> str:
    """Return `count` fixed pseudo-random numbers as a vector."""
    random = Random(count)
    return "[" + " ".join(f"{random.gauss(0, 1):.3f}" for _ in range(count)) + "]"


def state_space(steps: int) -> str:
    """Return a linear Gaussian state-space model of `steps` steps."""
    return f"""
(defn step [t xs ys]
  (let [x (sample (normal (* 0.9 (last xs)) 1.0))]
    (observe (normal x 0.5) (get ys t))
    (conj xs x)))
(let [ys {numbers(steps)}
      x0 (sample (normal 0.0 1.0))]
  (loop (count ys) [x0] step ys))"""


def hidden_markov(steps: int) -> str:
    """Return a hidden Markov model of `steps` steps."""
    return f"""
(defn advance [t zs ys trans means]
  (let [z (sample (discrete (get trans (last zs))))]
    (observe (normal (get means z) 1.0) (get ys t))
    (append zs z)))
(let [trans [[0.8 0.1 0.1] [0.2 0.6 0.2] [0.1 0.3 0.6]]
      means [-2.0 0.0 2.0]
      ys {numbers(steps)}
      z0 (sample (discrete [1.0 1.0 1.0]))]
  (loop (count ys) [z0] advance ys trans means))"""


def regression(points: int) -> str:
    """Return a linear regression on `points` points."""
    return f"""
(let [xs {numbers(points)}
      ys {numbers(points)}
      w (sample (normal 0 5))
      b (sample (normal 0 5))]
  (foreach (count xs) [x xs y ys] (observe (normal (+ (* w x) b) 1) y))
  [w b])"""


def independent(count: int) -> str:
    """Return `count` latents that have nothing to do with each other."""
    return f"(let [n {count}] (foreach n [] (sample (normal 0 1))))"


def convolution(size: int) -> str:
    """Return a convolution of a random image of `size` by `size`, stride 2."""
    side = (size - 3) // 2 + 1
    rows = " ".join(numbers(side) for _ in range(side))
    return f"""
(defn dot-step [k acc u v] (+ acc (* (get u k) (get v k))))
(defn dot [u v] (loop (count u) 0 dot-step u v))
(defn row-step [k acc a b] (+ acc (dot (get a k) (get b k))))
(defn frob [a b] (loop (count a) 0 row-step a b))
(defn patch [img size i j]
  (foreach size [row (subvec img (* i 2) (+ size (* i 2)))]
    (subvec row (* j 2) (+ size (* j 2)))))
(let [img (foreach {size} [] (foreach {size} [] (sample (normal 0 1))))
      ker [[0.82 -0.01 0.13] [-0.29 -0.77 -0.29] [-0.65 -0.76 -0.68]]
      out (foreach {side} [i (range {side})]
            (foreach {side} [j (range {side})] (frob (patch img 3 i j) ker)))]
  (foreach {side} [means out ys [{rows}]]
    (foreach {side} [m means y ys] (observe (normal m 1) y)))
  img)"""


PROGRAMS = {
    **{f"state space {n}": state_space(n) for n in (10, 100, 400, 800, 1000, 5000)},
    "hidden Markov 200": hidden_markov(200),
    **{f"regression {n}": regression(n) for n in (100, 1000, 3000, 10000)},
    "independent 3000": independent(3000),
    **{f"convolution {n}": convolution(n) for n in (9, 17, 28)},
}


def measure(name: str, repeats: int, folder: Path) -> dict[str, float | int | str]:
    """Return one row of the table."""
    program, output = folder / "program.daphne", folder / "document.json"
    program.write_text(PROGRAMS[name])
    command = [sys.executable, "-m", "daphne_bridge", "compile", str(program)]
    command += ["-o", str(output), "--format", "json"]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, check=True, capture_output=True, env=environment)
    whole, processor, alone = [], [], []
    for _ in range(repeats):
        before = child_seconds()
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        whole.append(time.perf_counter() - start)
        processor.append(child_seconds() - before)
        start = time.process_time()
        document = compile_program(PROGRAMS[name], "program.daphne").document
        alone.append(time.process_time() - start)
    seconds = statistics.median(whole)
    megabytes = output.stat().st_size / 1e6
    row: dict[str, float | int | str] = {
        "program": name,
        "nodes": len(document[1]["V"]),
        "megabytes": megabytes,
        "process_seconds": seconds,
        "process_spread_seconds": max(whole) - min(whole),
        "processor_seconds": statistics.median(processor),
        "compile_seconds": statistics.median(alone),
        "compile_seconds_per_megabyte": statistics.median(alone) / megabytes,
    }
    if name in ORIGINAL_SECONDS:
        row["original_seconds"] = ORIGINAL_SECONDS[name]
        row["times_faster"] = ORIGINAL_SECONDS[name] / statistics.median(processor)
        row["times_faster_by_the_clock"] = ORIGINAL_SECONDS[name] / seconds
    return row


def child_seconds() -> float:
    """Return the processor seconds of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure every program, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/bench/compile.json"))
    arguments = parser.parse_args()
    rows = []
    print(
        "| program | nodes | MB | process s | processor s | compile s | s/MB "
        "| original s | ratio | by the clock |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in PROGRAMS:
            row = measure(name, arguments.repeats, Path(folder))
            rows.append(row)
            original = row.get("original_seconds", "")
            ratio = f"{row['times_faster']:.0f}" if original else ""
            clock = f"{row['times_faster_by_the_clock']:.0f}" if original else ""
            print(
                f"| {name} | {row['nodes']} | {row['megabytes']:.2f} "
                f"| {row['process_seconds']:.2f} ± {row['process_spread_seconds']:.2f} "
                f"| {row['processor_seconds']:.2f} | {row['compile_seconds']:.3f} "
                f"| {row['compile_seconds_per_megabyte']:.2f} | {original} | {ratio} "
                f"| {clock} |"
            )
    record = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "repeats": arguments.repeats,
        "rows": rows,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
