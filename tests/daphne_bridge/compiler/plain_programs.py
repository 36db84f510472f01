"""This file draws programs that the original compiles rightly.

They mix the whole language, two or three features at a time, but none of the original's
bugs and traps: no name is bound twice, what draws or observes stands alone (as a value
of a let, a statement or a function's body), and the first binding is a number.
"""

from collections.abc import Callable, Mapping
from random import Random

__all__ = ["plain_program"]

NUMBERS = ["0", "1", "2", "3", "10", "-1", "1.5", "-0.25", "2.0", "1/2", "1e-3"]
NUMBERS += ["3.0e2", "2.50M", "7N"]
KNOWN = ["[1 2 3]", "(range 4)", "[0.5 1.5]", "(map inc [1 2])", "(reverse [3 4])"]
ATOMS = ["nil", "true", ":kw", "1/3", '"a text"', "-0.0", "[1 nil]", "{:k [2.5]}"]

Scope = Mapping[str, str]
Draw = Callable[[Scope, int], str]


def plain_program(seed: int, depth: int = 3) -> str:
    """Return the text of the program that belongs to `seed`."""
    return _Drawer(Random(seed)).program(depth)


class _Drawer:
    """Draws expressions of a kind: numbers, truths, vectors, ...

    Attributes:
        random: Decides everything.
        functions: Kinds of the parameters of the functions so far.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.functions: dict[str, list[str]] = {}
        self._count = 0

    def program(self, depth: int) -> str:
        forms = []
        for _ in range(self.random.randrange(3)):
            kinds = self.random.choice([["number"], ["number"] * 2, ["vector"]])
            names = [self.name("p") for _ in kinds]
            scope = dict(zip(names, kinds, strict=True))
            inner, bindings = self.bound(scope, depth - 1, 3)
            statement = self.one("", self.statement(inner, depth - 1))
            body = f"(let [{bindings}] {statement} {self.number(inner, depth - 1)})"
            name = self.name("f")
            forms.append(f"(defn {name} [{' '.join(names)}] {body})")
            self.functions[name] = kinds
        first, start = self.name("k"), self.one("1", "(sample (normal 0 1))", "(exp 1)")
        scope, bindings = self.bound({first: "number"}, depth, 5)
        statements = [self.statement(scope, depth) for _ in range(2)]
        kinds = [self.number, self.vector, self.sequence, self.map, self.atom]
        result = self.random.choice(kinds)(scope, depth)
        body = " ".join([*statements, result])
        return "\n".join([*forms, f"(let [{first} {start} {bindings}] {body})"])

    def name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}x"

    def one(self, *choices: str) -> str:
        return self.random.choice(choices)

    def known_name(self, scope: Scope, kind: str) -> str | None:
        names = [name for name, known in scope.items() if known == kind]
        return self.random.choice(names) if names else None

    def atom(self, scope: Scope, depth: int) -> str:
        return self.random.choice(ATOMS)

    def bound(self, scope: Scope, depth: int, most: int) -> tuple[Scope, str]:
        """Return a scope with more names, and the bindings that make it so."""
        inner, bindings = dict(scope), []
        for _ in range(self.random.randint(1, most)):
            name, kind = self.name("v"), self.one("number", "truth", "vector", "map")
            chance = self.random.random()
            if chance < 0.4:
                site = self.one("", "", '"mu" ', "nm ")
                text = f"(sample {site}{self.distribution(inner, depth - 1)})"
                kind = "number"
            elif chance < 0.6 and self.functions:
                text, kind = self.called(inner, depth), "number"
            elif chance < 0.7:
                drawn = f"(sample {self.distribution(inner, depth - 1)})"
                text, kind = f"(foreach {self.one('2', '3')} [] {drawn})", "vector"
            else:
                text = getattr(self, kind)(inner, depth - 1)
            bindings.append(f"{name} {text}")
            inner[name] = kind
        return inner, " ".join(bindings)

    def number(self, scope: Scope, depth: int) -> str:
        name = self.known_name(scope, "number")
        if depth <= 0 or self.random.random() < 0.15:
            likely = name is not None and self.random.random() < 0.75
            return name if likely and name else self.random.choice(NUMBERS)
        a, b, c = (self.number(scope, depth - 1) for _ in range(3))
        vector, test = self.vector(scope, depth - 1), self.truth(scope, depth - 1)
        known, index = self.random.choice(KNOWN), self.random.randrange(2)
        shapes = [
            f"({self.one('+', '-', '*', 'max', 'min')} {a} {b})",
            f"({self.one('exp', 'tanh', 'abs', 'inc', 'dec', 'sin', '-')} {a})",
            f"(+ {a} {b} {c})",
            f"(/ {a} {self.one('2', '3', '4.0')})",
            f"(/ {a} (+ 1.0 (exp (- {b}))))",
            f"(pow {a} 2)",
            f"({self.one('get', 'nth')} {vector} {index})",
            f"({self.one('first', 'second', 'last', 'count')} {vector})",
            f"(first {self.sequence(scope, depth - 1)})",
            f"(if {test} {a} {b})",
            f"(if (= {self.one(':a', ':b', '3')} {self.one(':a', '3.0')}) {a} {b})",
            f"(get {self.map(scope, depth - 1)} {self.one(':a', ':b')})",
            f"(get (hash-map :a {a} :b {b}) :a)",
            f"(get (get [{vector} [{a} {b}]] {index}) {index})",
            f"(loop {self.random.randrange(4)} {a} +)",
            f"(reduce + 0 {known})",
            f"(apply max {known})",
            f"(get (get (mat-mul [[1 2] [3 4]] [[{a}] [{b}]]) {index}) 0)",
            f"({self.one('mod', 'rem', 'quot')} {self.one('7', '-7')} 3)",
            f"(int {self.one('3.9', '(Math/floor 2.5)', '(/ 7 2)')})",
            f"(let [{self.name('v')} {self.atom(scope, 0)}] {a})",
            self.let(scope, depth),
        ]
        return self.random.choice(shapes)

    def let(self, scope: Scope, depth: int) -> str:
        """Return a let that draws nothing."""
        name, kind = self.name("v"), self.one("number", "truth", "vector", "map")
        inner = {**scope, name: kind}
        value = getattr(self, kind)(scope, depth - 1)
        return f"(let [{name} {value}] {self.number(inner, depth - 1)})"

    def called(self, scope: Scope, depth: int) -> str:
        """Return a call or a loop of a function of the program."""
        name = self.random.choice(list(self.functions))
        kinds = self.functions[name]
        if kinds == ["number", "number"] and self.random.random() < 0.5:
            start = self.number(scope, depth - 1)
            return f"(loop {self.random.randrange(4)} {start} {name})"
        arguments = [getattr(self, kind)(scope, depth - 1) for kind in kinds]
        return f"({' '.join([name, *arguments])})"

    def truth(self, scope: Scope, depth: int) -> str:
        name = self.known_name(scope, "truth") or self.one("true", "false")
        if depth <= 0:
            return name
        a, b = (self.truth(scope, depth - 1) for _ in range(2))
        x, y = (self.number(scope, depth - 1) for _ in range(2))
        shapes = [
            name,
            f"({self.one('and', 'or')} {a} {b})",
            f"(not {a})",
            f"({self.one('<', '>', '<=', '>=', '=', '==')} {x} {y})",
        ]
        return self.random.choice(shapes)

    def vector(self, scope: Scope, depth: int) -> str:
        name = self.known_name(scope, "vector")
        if name and self.random.random() < 0.4:
            return name
        a, b, c = (self.number(scope, depth - 1) for _ in range(3))
        if depth <= 0:
            return f"[{a} {b}]"
        vector = self.vector(scope, depth - 1)
        shapes = [
            f"[{a} {b} {c}]",
            f"(vector {a} {b})",
            f"(conj {vector} {a} {b})",
            f"(append {vector} {a})",
            f"(put {vector} {self.random.randrange(2)} {a})",
            f"(subvec (conj {vector} {a}) {self.random.randrange(2)})",
            f"(get [{vector} [{a} {b}]] {self.random.randrange(2)})",
            f"(foreach {self.one('2', '3')} [] {a})",
            self.each(scope, depth, self.number),
        ]
        return self.random.choice(shapes)

    def each(self, scope: Scope, depth: int, draw: Draw) -> str:
        """Return a foreach over one or two collections."""
        inner, bindings = dict(scope), []
        for _ in range(self.random.randint(1, 2)):
            name = self.name("e")
            inner[name] = "number"
            bindings.append(f"{name} {self.vector(scope, depth - 1)}")
        return f"(foreach 2 [{' '.join(bindings)}] {draw(inner, depth - 1)})"

    def sequence(self, scope: Scope, depth: int) -> str:
        a = self.number(scope, depth - 1)
        v, w = (self.vector(scope, depth - 1) for _ in range(2))
        shapes = [f"(rest {v})", f"(cons {a} {v})", f"(list {a} 1)", f"(take 2 {v})"]
        shapes += [
            f"(flatten [[1 [{self.atom(scope, 0)}]] 2])",
            f"(reverse {v})",
            f"(into [] {v})",
        ]
        shapes += [f"(mapv inc {self.one(*KNOWN)})", f"(conj (rest {v}) {a})"]
        shapes += [f"(repeat 2 {a})", f"(sort {self.one(*KNOWN)})", f"(vec (rest {v}))"]
        if not (scope.keys() & {w, v}):
            shapes.append(f"(concat [{a}] [{a}])")
        return self.random.choice(shapes)

    def map(self, scope: Scope, depth: int) -> str:
        name = self.known_name(scope, "map")
        if name and self.random.random() < 0.5:
            return name
        a, b = (self.number(scope, depth - 1) for _ in range(2))
        more = self.one("", "", f'"s" {a}', "2.5 [nil]")
        text = f"{{:a {a} :b {b} {more}}}"
        key = self.one(":a", ":c")
        return text if self.random.random() < 0.6 else f"(put {text} {key} {b})"

    def distribution(self, scope: Scope, depth: int) -> str:
        a, b = (self.number(scope, depth) for _ in range(2))
        test, name = self.truth(scope, depth - 1), self.name("v")
        shapes = [
            f"(normal {a} {self.one('1', '0.5', f'(exp {b})')})",
            f"(normal {a} 2)",
            f"(laplace {a} 1)",
            f"(exponential (exp {a}))",
            f"(student-t-loc-scale 4 {a} 1)",
            f"(uniform-continuous -1 (exp {a}))",
            f"(poisson (exp {a}))",
            f"(discrete [1.0 (exp {a}) 2])",
            f"(if {test} (normal {a} 1) (laplace {b} 1))",
            f"(let [{name} {a}] (normal {name} 1))",
        ]
        return self.random.choice(shapes)

    def statement(self, scope: Scope, depth: int) -> str:
        if depth <= 0:
            return self.observation(scope, 0)
        once, again = (self.observation(scope, depth - 1) for _ in range(2))
        inner, bindings = self.bound(scope, depth - 1, 2)
        shapes = [
            once,
            f"(if {self.truth(scope, depth - 1)} {once} {self.one('nil', again)})",
            f"(if {self.truth(scope, depth - 1)} {self.statement(scope, depth - 1)})",
            self.each(scope, depth, self.statement),
            f"(let [{bindings}] {self.statement(inner, depth - 1)})",
            f"[{once} {again}]",
        ]
        return self.random.choice(shapes)

    def observation(self, scope: Scope, depth: int) -> str:
        site = self.one("", "", '"y" ', "obs ", ":k ")
        value = self.one("1", "2.5", "1/2", "(+ 1 2)", "(get [1 2.5] 1)", "(exp 1)")
        given = self.distribution(scope, depth)
        means = self.vector(scope, depth)
        a, name = self.number(scope, depth), self.name("e")
        plane = f"[{a} {a}]"
        if self.random.random() < 0.3:
            plane = f"(foreach 2 [{name} {means}] (* {name} {a}))"
        shapes = [f"{given} {value}"] * 5
        shapes += [f"(mvn {plane} [[1 0] [0 1]]) [0.5 {value}]"]
        shapes += [f"(categorical [[:a 1] [:b (exp {a})]]) :a"]
        shapes += ["(flip 0.5) (= 1 1)", "(dirichlet [1 2]) [0.25 3/4]"]
        return f"(observe {site}{self.random.choice(shapes)})"
