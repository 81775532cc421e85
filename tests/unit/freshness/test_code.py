"""An edit of the code runs the stages that use it, and no others: tried on a copy of the source tree."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from export_scripts import build as build_module
from export_scripts.build import build
from export_scripts.freshness import inputs
from export_scripts.freshness.code import ROOT, SourceTree
from export_scripts.freshness.inputs import STAGES
from export_scripts.settings import load_settings
from operations.outputs import Outputs
from operations.records import sampler_code

FOLDERS = ("export_scripts", "operations", "ensemble", "model_repository")
ALL = list(STAGES)
AFTER_ETL = ALL[1:]

Edit = Callable[[str], str]


def code(text: str) -> str:
    return text + "\nADDED = 1\n"


def comment(text: str) -> str:
    return "# A comment.\n" + text + "# Another one.\n"


def docstring(text: str) -> str:
    return text.replace('"""', '"""Put another way. ', 1)


def half_a_line(text: str) -> str:
    return text + "\ndef (\n"


def larger_batches(text: str) -> str:
    return text.replace("max_batch_size: 64", "max_batch_size: 32")


def other_default(text: str) -> str:
    return text.replace("= 0 ", "= 1 ")


def paragraph(text: str) -> str:
    return text + "\n<p>more</p>\n"


@dataclass(frozen=True)
class Checkout:
    """A copy of the source tree, and a build of its code with stages that only write a result."""

    root: Path

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    def build(self, **results: str) -> list[str]:
        """Build; the stages that ran. Each writes its text of ``results``, or always the same."""
        out, ran = Outputs(self.root / "out"), list[str]()
        places = {"etl": out.data / "meta.json", "train": out.checkpoint, "evaluate": out.metrics}
        places["export"] = out.run / "manifest.json"

        def stage(name: str) -> Callable[..., Path]:
            def write(*_: object, **__: object) -> Path:
                ran.append(name)
                places[name].parent.mkdir(parents=True, exist_ok=True)
                places[name].write_text(json.dumps({"fingerprint": results.get(name, "the same")}))
                return places[name]

            return write

        with pytest.MonkeyPatch.context() as patch:
            for name in places:
                patch.setattr(build_module, name, stage(name))
            patch.setattr(inputs, "SourceTree", lambda: SourceTree(self.tree))
            patch.setattr(sampler_code, "SAMPLER_CODE", self.tree / "ensemble" / "candidate_sampler")
            patch.setattr(build_module, "published_as", lambda *_: 1)
            build(load_settings(overrides={"data.transactions": "sales.csv"}), out.root, promotion=None)
        return ran


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Built once."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, checkout.tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    assert checkout.build() == ALL
    assert checkout.build() == []
    return checkout


@pytest.fixture
def checkout(built: Checkout, tmp_path: Path) -> Checkout:
    """A built one, to be edited."""
    shutil.copytree(built.root, tmp_path / "checkout")
    return Checkout(tmp_path / "checkout")


@pytest.mark.parametrize(
    ("path", "edit", "stages"),
    [
        ("export_scripts/etl.py", code, ["etl"]),
        ("export_scripts/receipts/tables.py", code, ["etl"]),
        ("export_scripts/receipts/__init__.py", code, ALL),
        ("export_scripts/receipts/shop.py", code, AFTER_ETL),
        ("export_scripts/snapshots/retrieval/tower.py", code, AFTER_ETL),
        ("export_scripts/scorer/resume.py", code, ["train", "evaluate"]),  # the rivals of evaluate train too
        ("export_scripts/train.py", code, ["train"]),
        ("export_scripts/freshness/code.py", code, ["train"]),
        ("export_scripts/quality/metrics.py", code, ["evaluate"]),
        ("export_scripts/quality/rivals.py", code, ["evaluate"]),
        ("export_scripts/quality/report.html.j2", paragraph, ["evaluate"]),
        ("export_scripts/evaluate.py", code, ["evaluate"]),
        ("export_scripts/scorer/tensorrt.py", code, ["export"]),
        ("export_scripts/export.py", code, ["export"]),
        ("export_scripts/paper/measure.py", code, []),
        ("export_scripts/build.py", code, []),
        ("export_scripts/freshness/inputs.py", code, []),
        ("export_scripts/freshness/ledger.py", code, []),
        ("export_scripts/commands/pipeline.py", code, []),
        ("operations/records/contract.py", code, AFTER_ETL),
        ("operations/records/sampler_code.py", code, ["export"]),
        ("operations/server/process.py", code, []),
        ("operations/releases/promote.py", code, []),
        ("operations/supervisor/watchdog.py", code, []),
        ("operations/gateway/items.py", code, []),
        ("operations/stack/run.py", code, []),
        ("ensemble/reference.py", code, ["evaluate", "export"]),
        ("ensemble/candidate_sampler/kernels.py", code, AFTER_ETL),
        ("ensemble/candidate_sampler/kernels.py", comment, ["export"]),
        ("ensemble/candidate_sampler/kernels.py", docstring, ["export"]),
        ("ensemble/candidate_sampler/adapter.py", code, ["export"]),
        ("ensemble/onnx_backend/model.py", code, []),
        ("model_repository/candidate_sampler/config.pbtxt", larger_batches, AFTER_ETL),
        ("model_repository/candidate_sampler/config.pbtxt", comment, []),
        ("model_repository/candidate_sampler/config.pbtxt", half_a_line, AFTER_ETL),
        ("model_repository/ncf_scorer/configs/tensorrt.pbtxt", comment, []),
        ("export_scripts/pipeline.toml", comment, []),
        ("operations/release.toml", other_default, []),
        ("export_scripts/README.md", code, []),
        *((f"export_scripts/{stage}.py", comment, []) for stage in STAGES),
        *((f"export_scripts/{stage}.py", docstring, []) for stage in STAGES),
        ("export_scripts/snapshots/counts.py", comment, []),
        ("export_scripts/snapshots/counts.py", docstring, []),
        ("operations/supervisor/watchdog.py", comment, []),
        ("export_scripts/snapshots/counts.py", half_a_line, AFTER_ETL),
    ],
)
def test_an_edit_runs_exactly_its_stages(
    checkout: Checkout, path: str, edit: Edit, stages: list[str]
) -> None:
    """The stages repeat their results here, so that none runs only because an earlier one did."""
    file = checkout.tree / path
    before = file.read_text()
    file.write_text(edit(before))
    assert file.read_text() != before
    assert checkout.build() == stages


@pytest.mark.parametrize(
    ("path", "results", "stages"),
    [
        ("export_scripts/etl.py", {"etl": "other data"}, ALL),
        ("export_scripts/train.py", {"train": "other weights"}, AFTER_ETL),
        ("export_scripts/evaluate.py", {"evaluate": "other metrics"}, ["evaluate", "export"]),
    ],
)
def test_a_changed_result_runs_the_stages_that_read_it(
    checkout: Checkout, path: str, results: dict[str, str], stages: list[str]
) -> None:
    file = checkout.tree / path
    file.write_text(code(file.read_text()))
    assert checkout.build(**results) == stages


@pytest.mark.parametrize(
    "statement",
    [
        "def late():\n    from export_scripts.quality.extra import x\n",
        "def late():\n    import export_scripts.quality.extra\n",
        "from export_scripts.quality import extra\n",
        "from .quality import extra\n",
        "from .quality.extra import x\n",
        "if False:\n    from .quality import *\n    from . import quality as q, complete_journey\n"
        "    import export_scripts.quality.extra as extra\n",
    ],
)
def test_any_form_of_import_counts(checkout: Checkout, statement: str) -> None:
    """Inside a function too; and the module may be missing at first."""
    scripts = checkout.tree / "export_scripts"
    evaluate, extra = scripts / "evaluate.py", scripts / "quality" / "extra.py"
    evaluate.write_text(evaluate.read_text() + statement)
    assert checkout.build() == ["evaluate"]
    extra.write_text("x = 1\n")
    assert checkout.build() == ["evaluate"]
    extra.write_text("x = 2\n")
    assert checkout.build() == ["evaluate"]
    extra.write_text("x = 2  # still\n")
    assert checkout.build() == []
    extra.unlink()
    assert checkout.build() == ["evaluate"]


def test_what_a_package_imports_counts(checkout: Checkout) -> None:
    """A name may come by way of the package."""
    package = checkout.tree / "export_scripts" / "quality"
    (package / "__init__.py").write_text("from .extra import x\n")
    (package / "extra.py").write_text("x = 1\n")
    assert checkout.build() == ["evaluate", "export"]
    (package / "extra.py").write_text("x = 2\n")
    assert checkout.build() == ["evaluate", "export"]


def test_no_stage_uses_what_serves() -> None:
    """A change around the running server makes nothing stale. Evaluate opens the active release, too."""
    served = ("operations/supervisor/", "operations/gateway/")
    opened = ("operations/releases/", "operations/server/")
    source = SourceTree()
    for stage in STAGES:
        paths = source.paths(f"export_scripts.{stage}")
        others = served if stage == "evaluate" else (*served, *opened)
        assert [path for path in paths if path.startswith(others)] == []


def test_every_data_file_of_the_pipeline_belongs_to_a_stage(checkout: Checkout) -> None:
    """A module that puts a file's name together from parts would hide it."""
    packages = ("export_scripts", "operations/records", "ensemble/candidate_sampler")
    apart = {".py", ".toml", ".md"}  # code, settings, documents
    files = [file for name in packages for file in (checkout.tree / name).rglob("*.*")]
    verbs = ("export_scripts/flows", "export_scripts/drift")  # no stages: flows, and a page of `cesta drift`
    no_stage = {file for folder in verbs for file in (checkout.tree / folder).iterdir()}
    data = [file for file in files if file.suffix not in apart and file not in no_stage]
    assert data
    for file in data:
        file.write_text(file.read_text() + "more")
        assert checkout.build() != [], file


def test_a_stage_without_a_module_is_an_error() -> None:
    """Renaming a stage's module must not leave it fresh for ever."""
    with pytest.raises(LookupError, match=r"no module export_scripts\.shipping below"):
        SourceTree().digest("export_scripts.shipping")


def test_a_wheel_s_layout_is_read_too(checkout: Checkout) -> None:
    """site-packages has the client beside the others, and model_repository/ in a package."""
    packages = checkout.tree
    shutil.move(packages / "model_repository", packages / "operations" / "shipped" / "model_repository")
    shutil.copytree(ROOT / "client" / "src" / "cesta_client", packages / "cesta_client")
    before = SourceTree(packages)
    assert before.paths("cesta_client._recommender") >= {"cesta_client/__init__.py", "cesta_client/_call.py"}
    config = packages / "operations" / "shipped" / "model_repository" / "ncf_scorer" / "config.pbtxt"
    stage = "export_scripts.export"
    digest = before.digest(stage)
    config.write_text(larger_batches(config.read_text()))
    assert SourceTree(packages).digest(stage) != digest
