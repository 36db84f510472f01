"""Tests of daphne_bridge.compiler.analysis and of what it writes."""

import pytest

from daphne_bridge.compiler import compile_program, factor_graph
from daphne_bridge.errors import CompileError

from ..refusals import refusal


def compiled(text, data=None):
    return compile_program(text, "p", data)


def result(text, data=None):
    return compiled(text, data).document[2]


def labels(text):
    return list(compiled(text).labels.values())


def refused(text):
    problem = refusal(CompileError, compiled, text)
    return problem.where, problem.what


NODE = "(let [x (sample (normal 0 1))] "


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("(+ 1 (+ 2 x) 0)", ["+", 1, ["+", 2, "sample0"], 0]),
        ("(and true x)", ["and", True, "sample0"]),
        ("(if true x 1)", "sample0"),
        ("(+ 1 (sqrt 2))", ["+", 1, ["sqrt", 2]]),
        ("(+ 0 (Math/floor 2.5))", 2.0),
        ("(Math/floor 2.5)", ["floor", 2.5]),
        ("(mat-mul [[1 2]] [[3] [4]])", 0),
        ("(get (mat-mul [[1 2]] [[3] [4]]) 0)", ["vector", 11.0]),
        ("(get [1 2 3] x)", ["get", ["vector", 1, 2, 3], "sample0"]),
        ("(get [1 2 3] x 9)", ["get", ["vector", 1, 2, 3], "sample0", 9]),
        ("(get [x 2] 5)", ["get", ["vector", "sample0", 2], 5]),
        ("(first (list 1 x))", ["first", ["list", 1, "sample0"]]),
        ("(cons x [2])", ["cons", "sample0", ["vector", 2]]),
        ("(reverse [x 2])", ["reverse", ["vector", "sample0", 2]]),
        ("(concat [x] [2])", ["vector", "sample0", 2]),
        ("(butlast [x 2 3])", ["vector", "sample0", 2]),
        ("(reduce + [x 1 2])", ["+", ["+", "sample0", 1], 2]),
        ("(mapv inc [x 1])", ["vector", ["inc", "sample0"], 2]),
        ("(mapcat vector [x 1] [2 3])", ["vector", "sample0", 2, 1, 3]),
        ("(reductions + [x 1])", ["vector", "sample0", ["+", "sample0", 1]]),
        ("(reductions * 2 [3 4])", ["vector", 2, 6, 24]),
        ("(take-while pos? [1 2 -1 3])", ["vector", 1, 2]),
        ("(drop-while pos? [1 2 -1 3])", ["vector", -1, 3]),
        ("(apply remove [pos? [1 2 -1 3]])", ["vector", -1]),
        ("(apply take-while [pos? [1 2 -1 3]])", ["vector", 1, 2]),
        ("(update [1 x] 1 + 2)", ["vector", 1, ["+", "sample0", 2]]),
        ("(update {:a 1} :b conj 2)", ["hash-map", "a", 1, "b", ["vector", 2]]),
        ("(apply max [x 1])", ["max", "sample0", 1]),
        ("(-> x (- 1) (* 2))", ["*", ["-", "sample0", 1], 2]),
        ("(:b {:a 1 :b x})", "sample0"),
        ("(put {} x 1)", ["hash-map", "sample0", 1]),
        ("(get (put {:b 2} x 1) x)", 1),
        ("(get {:b 2} x)", ["get", ["hash-map", "b", 2], "sample0"]),
        ("(get {x 2} :b)", ["get", ["hash-map", "sample0", 2], "b"]),
        ("(every? pos? [1 2])", True),
        ("(normal x PI)", ["normal", "sample0", 3.141592653589793]),
    ],
)
def test_a_call_is_computed_as_far_as_its_arguments_are_known(body, expected):
    if expected == 0:
        product = ["mat-mul", ["vector", ["vector", 1, 2]]]
        assert result(f"{NODE}{body})")[:2] == product
    else:
        assert result(f"{NODE}{body})") == expected


def test_a_lookup_that_finds_false_decides_a_branch():
    assert result(NODE + "(if (get {:on false :v x} :on) 1 2))") == 2


def test_a_sequence_built_of_random_parts_can_be_counted_and_walked():
    program = """
(defn total [xs] (if (empty? xs) 0 (+ (first xs) (total (rest xs)))))
(let [x (sample (normal 0 1))] (total [1 2 x]))"""
    assert result(program) == ["+", 1, ["+", 2, ["+", "sample0", 0]]]
    loop = NODE + "(foreach (count (cons x [2])) [v (cons x [2])] (* 2 v)))"
    assert result(loop) == ["vector", ["*", 2, "sample0"], 4]


def test_foreach_goes_over_the_rest_of_a_vector():
    program = NODE + "(foreach 2 [y (rest [0 x 2])] (+ y 1)))"
    assert result(program) == ["vector", ["+", "sample0", 1], 3]


def test_a_collection_in_foreach_is_evaluated_once():
    program = "(foreach 2 [y [(sample (normal 0 1)) 2]] y)"
    assert len(compiled(program).document[1]["V"]) == 1


def test_a_function_does_not_see_the_names_around_its_call():
    where, what = refused("(defn f [] y)\n(let [y 1] (f))")
    assert (where, what) == ("p:1:12", "the name y is not defined")


def test_arguments_are_not_captured_by_names_in_the_body():
    program = "(defn f [a] (let [x 10] (+ a x)))\n" + NODE + "(f (+ x 1)))"
    assert result(program) == ["+", ["+", "sample0", 1], 10]


def test_later_definitions_are_seen_by_earlier_functions():
    assert result("(defn f [] (g)) (defn g [] 7) (f)") == 7


def test_only_the_last_form_counts():
    document = compiled("(sample (normal 0 1)) (sample (normal 5 1))").document
    assert document[1]["V"] == ["sample1"]


def test_a_definition_alone_is_its_name():
    assert compiled("(defn f [x] x)").document == [
        {"f": ["fn", ["x"], "x"]},
        {"V": [], "A": {}, "P": {}, "Y": {}},
        "f",
    ]


def test_node_names_never_collide():
    names = "".join(
        f'(sample "{"x1" if i % 2 else "x"}" (normal 0 1)) ' for i in range(24)
    )
    assert len(compiled(f"[{names}]").document[1]["V"]) == 24
    assert compiled("[:sample0 (sample (normal 0 1))]").document[1]["V"] == ["sample1"]


def test_labels_are_the_names_that_the_program_gives():
    assert labels(NODE + "x)") == ["x"]
    assert labels(NODE + "(let [y x] y))") == ["x"]
    assert labels("(defn f [p] p) (f (sample (normal 0 1)))") == ["p"]
    assert labels("(foreach 2 [] (let [z (sample (flip 0.5))] z))") == ["z[0]", "z[1]"]
    assert labels("(let [v (foreach 2 [] (sample (flip 0.5)))] v)") == ["v[0]", "v[1]"]
    assert labels("[(sample mu (normal 0 1)) (sample (normal 0 1))]") == [
        "mu",
        "sample1",
    ]
    assert labels(NODE + "(observe x (normal x 1) 2))") == ["x[0]", "x[1]"]


def test_positions_are_those_of_the_sites():
    positions = compiled(NODE + "\n  (observe (normal x 1) 2))").positions
    assert positions == {"sample0": "p:1:9", "observe1": "p:2:3"}


def test_guards_nest_and_stand_in_the_link_function():
    program = """
(let [a (sample (flip 0.5)) b (sample (flip 0.5))]
  (if a (if b 1 (observe (normal 0 1) 2)) 3))"""
    link = compiled(program).document[1]["P"]["observe2"]
    guard = ["and", ["and", True, "sample0"], ["not", "sample1"]]
    assert link == ["if", guard, ["observe*", ["normal", 0, 1], 2], 1]


def test_an_observed_constant_expression_is_kept():
    graph = compiled("(observe (normal 0 1) (exp 2))").document[1]
    assert graph["Y"] == {"observe0": ["exp", 2]}


def test_data_binds_names():
    data = {"xs": [1.0, 2.0], "config": {"scale": 3}}
    program = "(sample (normal (get xs 1) (get config :scale)))"
    graph = compiled(program, data).document[1]
    assert graph["P"]["sample0"] == ["sample*", ["normal", 2.0, 3]]
    assert result("(let [xs 1] xs)", data) == 1


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("(sample (normal 0))", "p:1:9", "normal takes 2 parameters"),
        ("(sample (normal 0 0))", "p:1:9", "standard deviation"),
        ("(sample (normal 0 (Math/pow 10 400)))", "p:1:9", "finite number, not inf"),
        ("(sample (normal (- (Math/pow 10 400)) 1))", "p:1:9", "finite number"),
        ("(sample (normal [1] 1))", "p:1:9", "mean of normal"),
        ("(sample (flip 1.5))", "p:1:9", "probability of flip"),
        ("(sample (discrete [0 0]))", "p:1:9", "all zero"),
        ("(sample (uniform-continuous 2 1))", "p:1:9", "below the maximum"),
        ("(sample (mvn [0] [[1 0] [0 1]]))", "p:1:9", "differ in size"),
        ("(sample (mvn [0 0] [[1 0]]))", "p:1:9", "square matrix"),
        ("(sample (categorical {:a -1}))", "p:1:9", "the weight of an entry"),
        ("(sample (categorical {}))", "p:1:9", "at least one entry"),
        ("(sample (categorical [0.5 0.5]))", "p:1:9", "discrete takes weights alone"),
        ("(update [1] 5 identity)", "p:1:1", "index 5 is outside"),
        ("(update [1] 0)", "p:1:1", "update has the wrong number"),
        ("(reductions +)", "p:1:1", "reductions has the wrong number"),
        ("(mapcat inc [1])", "p:1:1", "mapcat needs a collection"),
        ("(sample (categorical-crp [1 -1] 2))", "p:1:9", "entry of the counts"),
        ("(sample (categorical-crp [1 1] 0))", "p:1:9", "the concentration of"),
        ("(sample (normal (normal 0 1) 1))", "p:1:9", "is a distribution"),
        ("(sample)", "p:1:1", "sample has the wrong number of parts"),
        ("(sample (if true 1 2))", "p:1:9", "sample needs a distribution"),
        ("(+ 1 (normal 0 1))", "p:1:1", "not a distribution"),
        ("(foreach 3 [x [1 2]] x)", "p:1:15", "more elements than there are"),
        ("(loop -1 0 f)", "p:1:7", "cannot be unrolled"),
        ("(rest [1])", "p:1:1", "the empty list has no place"),
        ("(* 9000000000 9000000000)", "p:1:1", "integer overflow"),
        ("(let [x 1] (defn f [] x))", "p:1:12", "defn stands at the top"),
        ('(slurp "x")', "p:1:2", "no function or distribution slurp"),
        ("(rand)", "p:1:2", "no function or distribution rand"),
        ("(let [[a] 1] 2)", "p:1:7", "let binds names only"),
        ("(if true 1 2 3)", "p:1:1", "if has the wrong number"),
        ("let", "p:1:1", "let stands only first"),
    ],
)
def test_a_wrong_program_is_refused_where_it_is_wrong(text, where, what):
    found_where, found_what = refused(text)
    assert found_where == where
    assert what in found_what


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ("(let [m x] m)", ["let", ["m", "sample0"], "m"]),
        ("(let [m 2] (* m x))", ["let", ["m", 2], ["*", 2, "sample0"]]),
        ("(let [m 2] (* m m))", 4),
        ("(let [m {:a x}] (get m :b 1))", 1),
        ("(let [m x] 5 m)", ["let", ["m", "sample0"], ["let", ["dontcare0", 5], "m"]]),
        ("(first (let [m x] [m]))", ["first", ["let", ["m", "sample0"], "VECTOR"]]),
        ("(loop 2 x +)", ["let", ["acc0", ["+", 0, "sample0"]], "ACC"]),
        ("(f (let [m x] m))", ["+", "sample0", 1]),
    ],
)
def test_the_lets_of_an_observe_stay_in_its_link_function(distribution, expected):
    functions = "(defn f [y] (+ y 1))\n"
    program = f"{functions}{NODE} (observe (normal {distribution} 1) 3))"
    (link,) = [p for p in compiled(program).document[1]["P"].values() if len(p) == 3]
    texts = {"VECTOR": ["vector", "m"]}
    texts["ACC"] = ["let", ["acc1", ["+", 1, "acc0"]], "acc1"]
    assert link[1][1] == _filled(expected, texts)


def _filled(value, texts):
    if isinstance(value, list):
        return [_filled(item, texts) for item in value]
    return texts.get(value, value)


def test_the_variables_of_a_kept_let_are_parents():
    program = f"{NODE} (observe (normal (let [m x] 0) 1) 3))"
    assert compiled(program).document[1]["A"] == {"sample0": ["observe1"]}


def test_the_factor_graph_has_values_for_the_lets_of_an_observe():
    program = f"{NODE} (observe (normal (let [m (* 2 x)] (+ m 1)) 1) 3))"
    assert "let" not in str(factor_graph(program, "p")["psi"])


def test_a_restaurant_keeps_its_name_in_the_document():
    document = compiled("(sample (categorical-crp [] 1.5))").document
    link = document[1]["P"]["sample0"]
    assert link == ["sample*", ["categorical-crp", ["vector"], 1.5]]


def test_categories_may_be_a_map():
    document = compiled("(sample (categorical {:a 1 :b 2}))").document
    link = document[1]["P"]["sample0"]
    assert link == ["sample*", ["categorical", ["hash-map", "a", 1, "b", 2]]]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (NODE + "(let [gamma x] (sample (gamma 1 1))))", "the distribution gamma"),
        ("(let [beta [1 2]] (sample (beta 1 1)))", "the distribution beta"),
        (NODE + "(let [max x] (max 1 2)))", "the function max"),
        (NODE + "(let [reduce x] (reduce + [1 2])))", "the function reduce"),
    ],
)
def test_a_name_that_hides_what_is_called_is_said(text, hidden):
    # Seen: "this is no function".
    name = hidden.split()[-1]
    what = f"{name} is bound to a value here, which hides {hidden}"
    assert refused(text)[1] == what


def test_a_value_that_hides_nothing_is_no_function():
    assert refused(NODE + "(x 1))")[1] == "this is no function"
    assert refused(NODE + "(map x [1]))")[1] == "the first argument is no function"
