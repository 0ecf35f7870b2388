"""What other packages add: found by name when asked for, told by name when it is broken."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from installed import install
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

import qcomp
from qcomp.cli import main
from qcomp.errors import CalibrationError, ExtensionError, PassError, TargetError, UnsupportedOp
from qcomp.extensions import ESTIMATORS, ONNX_RULES, PASSES, REGISTRIES, TARGETS, Registry
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.ir.tensor import DType, TensorType
from qcomp.passes.events import PassLog
from qcomp.pipeline import STAGES

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = np.random.default_rng(0).uniform(size=(8, 1, 8, 8)).astype(np.float32)
FAST = qcomp.QuantizationConfig(recipe="fast")
MODULE = """
import dataclasses
from typing import ClassVar
from qcomp.ir.form import Form

print("imported")

@dataclasses.dataclass(frozen=True)
class Nothing:
    name: ClassVar[str] = "acme.nothing"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT
    after: ClassVar[str] = "fuse-activation"
    times: int = 1

    def run(self, graph, log):
        for _ in range(self.times):
            log.did("nothing")

class Misnamed(Nothing):
    name = "acme.other"

def whole(distribution, grid):
    return distribution.extremes

def twice(node):
    from qcomp.ir.ops import Add
    node.add(Add(inputs=(node.x(), node.x()), output=node.out()))

number = 7
"""


@dataclass(frozen=True)
class Does:
    """A pass of a function, in a form."""

    change: Callable[[Graph, PassLog], None]
    needs: Form = Form.FLOAT
    gives: Form = Form.FLOAT
    name: str = "acme.does"

    def run(self, graph: Graph, log: PassLog) -> None:
        self.change(graph, log)


def nothing(graph: Graph, log: PassLog) -> None:
    log.did("nothing")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two packages that are installed as long as the test lasts; the second can't be imported."""
    points = {
        "qcomp.passes": {"acme.nothing": "acme_q:Nothing", "acme.misnamed": "acme_q:Misnamed"},
        "qcomp.estimators": {"acme.whole": "acme_q:whole", "acme.number": "acme_q:number"},
        "qcomp.onnx_rules": {"acme.Twice": "acme_q:twice"},
        "qcomp.targets": {"acme.npu": "acme_q:Nothing"},
    }
    install(tmp_path, "acme_q", MODULE, points)
    broken = {"acme.broken": "broken_q:f", "acme.gone": "broken_q_gone:f", "minmax": "broken_q:f"}
    install(tmp_path, "broken_q", "import no_such_module", {"qcomp.estimators": broken})
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("acme_q", None)


@pytest.fixture
def model(examples: Path) -> Path:
    return examples / "digits.onnx"


def compiled(model: Path | onnx.ModelProto, **options: Any) -> qcomp.CompiledNetwork:
    return qcomp.compile(model, calibration=SAMPLES, name="net", **{"config": FAST, **options})


# ------------------------------------------------------------------- registries


def test_nothing_is_looked_up_or_imported_for_names_that_are_qcomps_own(
    package: Path, examples: Path
) -> None:
    code = f"""
import sys, qcomp
loaded = "importlib.metadata" in sys.modules
config = qcomp.QuantizationConfig(recipe="fast", range="minmax")
qcomp.compile({str(examples / "digits.onnx")!r}, config=config,
              calibration={str(examples / "digits_calibration.npz")!r})
from qcomp.extensions import REGISTRIES
print(loaded, [bool(r._listed) for r in REGISTRIES], "acme_q" in sys.modules)
"""
    path = f"import sys; sys.path.insert(0, {str(package)!r})\n"
    command = [sys.executable, "-c", path + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"False {[False] * len(REGISTRIES)} False"


@pytest.mark.usefixtures("package")
def test_an_entry_point_is_imported_when_its_name_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ESTIMATORS.names()["acme.whole"] == "acme_q:whole of acme_q 1.2"
    assert ESTIMATORS.has("acme.whole")
    assert "acme_q" not in sys.modules
    found = ESTIMATORS.find("acme.whole")
    assert found.source == "acme_q:whole of acme_q 1.2"
    assert ESTIMATORS.find("acme.whole") is found
    assert capsys.readouterr().out == "imported\n"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acme.broken", r"estimator 'acme.broken', broken_q:f of broken_q 1.2, can't be imported: "
         "ModuleNotFoundError: No module named 'no_such_module'"),
        ("acme.gone", "can't be imported: ModuleNotFoundError: No module named 'broken_q_gone'"),
        ("acme.number", "expected something to call, got 7"),
        ("acme.whol", r"no estimator 'acme.whol' is known: .*qcomp.estimators.*did you mean "
         "'acme.whole'"),
    ],
)  # fmt: skip
def test_a_broken_entry_point_is_named_and_the_others_work(name: str, message: str) -> None:
    with pytest.raises(ExtensionError, match=message):
        ESTIMATORS.find(name)
    assert callable(ESTIMATORS.find("acme.whole").value)


def test_two_packages_with_one_name_are_both_named(package: Path) -> None:
    install(package, "again_q", "", {"qcomp.estimators": {"acme.whole": "again_q:f"}})
    with pytest.raises(ExtensionError, match=r"2 times: .*again_q 1.2.*; expected one"):
        Registry[Any]("qcomp.estimators", "ESTIMATORS", "estimator").find("acme.whole")


def test_names_of_qcomps_own_are_never_taken_by_others(package: Path, model: Path) -> None:
    assert "minmax" not in ESTIMATORS.names()
    with pytest.raises(ExtensionError, match=r"have a dot, such as 'acme.mse'"):
        ESTIMATORS.add("mse", lambda d, g: (0.0, 1.0))
    with pytest.raises(ExtensionError, match="pass 'mine': names of extensions have a dot"):
        compiled(model, passes=[Does(nothing, name="mine")], after="fold-batch-norm")


@pytest.mark.usefixtures("package")
def test_doctor_lists_what_packages_add(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)["extensions"]
    assert found["qcomp.onnx_rules"] == {"acme.Twice": "acme_q:twice of acme_q 1.2"}
    assert set(found["qcomp.estimators"]) == {
        "acme.whole", "acme.number", "acme.broken", "acme.gone",
    }  # fmt: skip
    assert "acme_q" not in sys.modules


# ----------------------------------------------------------------------- passes


PLACES = [(s, name) for s in STAGES for name in s.order if name != "certify-accumulators"]
ANNOTATED = ("annotate-ranges", "narrow-saturated-ranges")


@pytest.mark.few(8)
@pytest.mark.parametrize(("stage", "place"), PLACES, ids=[name for _, name in PLACES])
def test_a_pass_runs_behind_its_place_in_the_form_of_it(
    stage: Any, place: str, model: Path
) -> None:
    forms = {"normalize": Form.FLOAT, "equalize": Form.FLOAT, "quantize": Form.QDQ}
    form = Form.ANNOTATED if place in ANNOTATED else forms.get(stage.name, Form.INTEGER)
    config = replace(FAST, equalize=True)
    net = compiled(model, config=config, passes=[Does(nothing, form, form)], after=place)
    run = [record.name for record in net.records]
    order = [name for s in STAGES for name in s.order]
    before = [name for name in run[: run.index("acme.does")] if name in order]
    behind = [name for name in run[run.index("acme.does") :] if name in order]
    assert max(map(order.index, before)) <= order.index(place) < min(map(order.index, behind))
    assert net.notes[-1].startswith("pass acme.does after")


@pytest.mark.parametrize("form", [f for f in Form if f is not Form.QDQ])
def test_a_pass_of_another_form_than_its_place_is_refused(form: Form, model: Path) -> None:
    with pytest.raises(PassError, match=f"acme.does needs form {form.value}.* has form qdq"):
        compiled(model, passes=[Does(nothing, form, form)], after="insert-quantize")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("fold-batchnorm", r"after 'fold-batchnorm'; expected one of .*did you mean 'fold-batch-"),
        ("certify-accumulators", "expected one of"),
        (None, "nothing says where it runs; expected after="),
    ],
)
def test_a_place_that_is_none_is_refused(place: str | None, message: str, model: Path) -> None:
    with pytest.raises((PassError, ExtensionError), match=message):
        compiled(model, passes=[Does(nothing)], after=place)


def breaks_a_type(graph: Graph, log: PassLog) -> None:
    tensor = graph.tensor(graph.ops()[0].output)
    graph.update_tensor(replace(tensor, type=TensorType(DType.F32, (1, 2))))


def shortens_a_bias(graph: Graph, log: PassLog) -> None:
    op = next(op for op in graph.ops() if isinstance(op, Weighted))
    bias = graph.add_constant("short", graph.data(op.bias)[:-1])
    graph.set_inputs(op, (op.x, op.weight, bias))


def renames_the_output(graph: Graph, log: PassLog) -> None:
    ((name, id),) = graph.outputs.items()
    del graph.outputs[name]
    graph.outputs["other"] = id


def raises(graph: Graph, log: PassLog) -> None:
    raise KeyError("weights")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shortens_a_bias, r"pass acme.does failed: OperandError: bias f32\[15\] for 16 channels; "
         r"%stem.norm.norm = conv2d\(.*, %short\) \(test_extensions.py, line \d+\)\n"
         r"\(passes already run: .*fold-batch-norm\)"),
        (breaks_a_type, r"pass acme.does left a broken graph: .*\n%stem.conv.nhwc = reshape.*\n"
         r"  expected the result f32\[1,8,8,1\]"),
        (renames_the_output, r"acme.does failed: it changed what the graph takes or gives: output "
         "logits is gone, output other is f32"),
        (raises, r"pass acme.does failed: KeyError: 'weights' \(test_extensions.py, line \d+\)"),
    ],
)  # fmt: skip
def test_what_a_pass_breaks_is_named(
    change: Callable[[Graph, PassLog], None], message: str, model: Path
) -> None:
    with pytest.raises(PassError, match=message):
        compiled(model, passes=[Does(change)], after="fold-batch-norm")


class Lacking:
    name = "acme.lacking"
    after = "fold-batch-norm"


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        ([Lacking()], "pass acme.lacking: needs, gives, run is missing"),
        ([7], "pass 7: name, needs, gives, run is missing"),
        ("acme.nothing", "expected a list of passes"),
        ([Does(nothing, Form.FLOAT, Form.QDQ)], "expected the same form"),
        (["acme.unknown"], "no pass 'acme.unknown' is known"),
    ],
)
def test_what_is_no_pass_is_refused(passes: Any, message: str, model: Path) -> None:
    with pytest.raises(ExtensionError, match=message):
        compiled(model, passes=passes, after="fold-batch-norm")


@pytest.mark.usefixtures("package")
def test_passes_are_recorded_by_name_place_and_fields_and_run_again_by_the_recipe(
    model: Path, tmp_path: Path
) -> None:
    made = PASSES.find("acme.nothing").value(times=3)
    net = compiled(model, passes=[made])
    entry = {"name": "acme.nothing", "after": "fuse-activation", "fields": {"times": 3}}
    assert net.config.passes == (entry,)
    net.save(tmp_path / "net")
    recipe = tmp_path / "net" / "net.recipe.yaml"
    assert "pickle" not in recipe.read_text()
    again = compiled(model, config=None, recipe=recipe)
    assert [r.log.lines for r in again.records if r.name == "acme.nothing"] == [
        ["did  nothing"] * 3
    ]
    assert again.config.passes == (entry,)
    told = "pass acme.nothing after fuse-activation, by acme_q:Nothing: 3 done, 0 left alone"
    assert told in qcomp.load(tmp_path / "net").notes
    assert qcomp.load(tmp_path / "net").config.passes == (entry,)


@pytest.mark.usefixtures("package")
def test_a_class_that_calls_itself_otherwise_or_takes_other_fields_is_refused(model: Path) -> None:
    with pytest.raises(ExtensionError, match=r"'acme.misnamed', .*, calls itself 'acme.other'"):
        compiled(model, passes=["acme.misnamed"])
    entry = {"name": "acme.nothing", "after": "fuse-activation", "fields": {"often": 3}}
    with pytest.raises(ExtensionError, match=r"can't be made with .*often.*TypeError"):
        compiled(model, config=replace(FAST, passes=(entry,)))


def test_a_pass_whose_fields_no_file_holds_is_to_be_given_again(
    model: Path, tmp_path: Path
) -> None:
    own = Does(nothing)
    compiled(model, passes=[own], after="fold-batch-norm").save(tmp_path / "net")
    recipe = tmp_path / "net" / "net.recipe.yaml"
    with pytest.raises(ExtensionError, match=r"'acme.does' has fields that no recipe holds"):
        compiled(model, config=None, recipe=recipe)
    again = compiled(model, config=None, recipe=recipe, passes=[own])
    assert again.config.passes == (
        {"name": "acme.does", "after": "fold-batch-norm", "fields": None},
    )


@pytest.mark.parametrize(
    "entry",
    [
        "acme.nothing",
        {"name": "acme.nothing"},
        {"name": "nothing", "after": "fold-batch-norm"},
        {"name": "acme.nothing", "after": 7},
        {"name": "acme.nothing", "after": "fold-batch-norm", "fields": [1]},
        {"name": "acme.nothing", "after": "fold-batch-norm", "fields": {"a": float("inf")}},
        {"name": "acme.nothing", "after": "fold-batch-norm", "fields": {"a": {}}},
        {"name": "acme.nothing", "after": "fold-batch-norm", "what": 1},
    ],
)
def test_an_entry_of_a_configuration_that_means_nothing_is_refused(entry: Any) -> None:
    with pytest.raises(qcomp.CompileError, match="passes: "):
        qcomp.QuantizationConfig(passes=(entry,))


@pytest.mark.usefixtures("package")
def test_the_command_line_runs_passes_and_estimators_of_packages(
    model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", SAMPLES)
    command = ["compile", str(model), "-o", str(tmp_path / "net"), "--recipe", "fast"]
    command += ["--calibration", str(tmp_path / "x.npy"), "--range", "acme.whole"]
    command += ["--pass", "acme.nothing@fold-batch-norm", "--pass", "acme.nothing"]
    with pytest.raises(SystemExit) as ended:
        main(["--quiet", *command])
    assert ended.value.code == 0
    config = qcomp.load(tmp_path / "net").config
    assert [p["after"] for p in config.passes] == ["fold-batch-norm"]
    assert config.range == "acme.whole"


# ------------------------------------------------------------------- estimators


@pytest.mark.usefixtures("package")
def test_an_estimator_of_a_package_gives_the_ranges(model: Path) -> None:
    own = compiled(model, config=replace(FAST, range="acme.whole"))
    minmax = compiled(model, config=replace(FAST, range="minmax"))
    assert_array_equal(own(SAMPLES), minmax(SAMPLES))
    overrides = {"conv2d": {"range": "acme.whole"}}
    compiled(model, config=replace(FAST, range="minmax", overrides=overrides))


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("place", ["range", "overrides"])
def test_an_estimator_that_is_not_there_is_told_before_any_work(place: str) -> None:
    config = {"range": "acme.gone"} if place == "range" else {
        "overrides": {"conv2d": {"range": "acme.gone"}}
    }  # fmt: skip
    with pytest.raises(ExtensionError, match=r"acme\.gone"):
        qcomp.compile("no_such_model.onnx", config=replace(FAST, **config))


@pytest.fixture
def told() -> Iterator[Callable[[Any, str, Any], None]]:
    """Adds to a registry as long as the test lasts."""
    added = []

    def tell(registry: Registry[Any], name: str, value: Any) -> None:
        registry.add(name, value)
        added.append((registry, name))

    yield tell
    for registry, name in added:
        registry.remove(name)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda d, g: (1.0, 0.0), r"gives \(1.0, 0.0\); expected finite numbers"),
        (lambda d, g: (0.0, np.nan), "expected finite numbers"),
        (lambda d, g: 7, "estimator acme.wrong, .*: TypeError"),
        (lambda d, g: d.no_such_thing, "estimator acme.wrong, .*: AttributeError"),
    ],
)
def test_what_an_estimator_does_wrong_is_named(
    function: Any, message: str, model: Path, told: Callable[..., None]
) -> None:
    told(ESTIMATORS, "acme.wrong", function)
    with pytest.raises(CalibrationError, match=message):
        compiled(model, config=replace(FAST, range="acme.wrong"))


# ------------------------------------------------------------------------ rules


def network(*ops: tuple[str, str], both: bool = False) -> onnx.ModelProto:
    """A dense layer and a chain of operators (domain, name) behind it."""
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["v0"])]
    for i, (domain, name) in enumerate(ops):
        nodes.append(helper.make_node(name, [f"v{i}"], [f"v{i + 1}"], domain=domain))
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", f"v{len(ops)}")
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [weights])
    opsets = [helper.make_opsetid(domain, 17 if not domain else 1) for domain in ("", "acme")]
    return helper.make_model(graph, opset_imports=opsets)


ROWS = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)


@pytest.mark.usefixtures("package")
def test_a_rule_of_a_package_reads_nodes_of_its_domain() -> None:
    model = network(("acme", "Twice"), ("", "Relu"), ("acme", "Twice"))
    net = qcomp.compile(model, calibration=ROWS, name="net", config=FAST)
    assert np.abs(net(ROWS) - 4 * np.maximum(ROWS, 0)).max() < 0.2
    assert "rule 'acme.Twice', acme_q:twice of acme_q 1.2, reads acme.Twice nodes" in net.notes


def test_a_rule_for_an_operator_of_onnx_that_qcomp_has_none_for(
    told: Callable[..., None],
) -> None:
    told(ONNX_RULES, "ai.onnx.Det", lambda node: node.alias(node.x()))
    told(ONNX_RULES, "ai.onnx.Relu", lambda node: node.alias(node.x()))
    net = qcomp.compile(network(("", "Det"), ("", "Relu")), calibration=ROWS, config=FAST)
    assert net(ROWS).min() == 0  # Relu is qcomp's own


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda node: None, r"Odd node 'v1': rule 'acme.Odd', .*: it gives no v1"),
        (lambda node: node.out(), "rule 'acme.Odd', .*: it gives no v1"),
        (lambda node: node.require(False, "no luck", "luck"), "no luck; accepted: luck"),
        (lambda node: [][1], "rule 'acme.Odd', .*: IndexError"),
    ],
)
def test_what_a_rule_does_wrong_is_the_problem_of_its_node(
    rule: Any, message: str, told: Callable[..., None]
) -> None:
    told(ONNX_RULES, "acme.Odd", rule)
    with pytest.raises(UnsupportedOp) as raised:
        qcomp.compile(network(("acme", "Odd"), ("acme", "Unknown")), calibration=ROWS)
    first, second = raised.value.problems
    assert re.search(message, first), first
    assert "domain 'acme' is unknown" in second


# ---------------------------------------------------------------------- targets


@pytest.mark.usefixtures("package")
def test_targets_of_packages_are_checked_and_listed(model: Path) -> None:
    with pytest.raises(ExtensionError, match=r"target 'acme.npu', .* has no runtime, border"):
        compiled(model, target="acme.npu")
    with pytest.raises(TargetError, match=r"of other packages acme\.npu; did you mean 'acme.npu'"):
        compiled(model, target="acme.nppu")
    with pytest.raises(TargetError, match=r"did you mean 'sse4\.1'"):
        compiled(model, target="sse4.2")


def test_a_directory_of_a_target_that_is_not_there_says_so(
    model: Path, tmp_path: Path, told: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    from own_target import TextTarget

    net = compiled(model, target=TextTarget())
    assert_array_equal(net(SAMPLES), compiled(model)(SAMPLES))
    net.save(tmp_path / "net")
    with pytest.raises(qcomp.CompileError, match=r"unknown target 'acme\.text'"):
        qcomp.load(tmp_path / "net")
    told(TARGETS, "acme.text", TextTarget)
    assert_array_equal(qcomp.load(tmp_path / "net")(SAMPLES), net(SAMPLES))
