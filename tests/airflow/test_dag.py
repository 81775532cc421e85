"""Airflow parses the DAG of docs/schedules.md, which types the same verbs as the flows."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import ROOT

PYTHON = Path(os.environ.get("CESTA_AIRFLOW_ENV", ROOT / "artifacts" / "airflow")) / "bin" / "python"
PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
(dag,) = bag.dags.values()
tasks = dag.topological_sort()
print("DAG", json.dumps([[t.task_id, sorted(t.upstream_task_ids), t.retries, t.bash_command] for t in tasks]))
"""


def test_airflow_parses_the_dag(tmp_path: Path) -> None:
    """Five tasks, one behind the other, each with a verb that cesta has."""
    if not PYTHON.exists():
        pytest.skip(f'no Airflow in {PYTHON}: "make airflow-test" makes an environment that has it')
    text = (ROOT / "docs" / "schedules.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "cesta.py").write_text(source)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    variables |= {"AIRFLOW_HOME": str(tmp_path / "home"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run(
        [PYTHON, "-c", PARSE, str(dags)], env=variables, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    tasks = json.loads(
        next(line for line in done.stdout.splitlines() if line.startswith("DAG")).partition(" ")[2]
    )
    names = [task[0] for task in tasks]
    assert names == ["etl", "train", "evaluate", "export", "retrain"]
    assert [task[1] for task in tasks] == [[], *([name] for name in names[:-1])]
    assert [task[2] for task in tasks] == [2, 2, 2, 2, 0]
    assert all(task[3].endswith(f"--until {task[0]}") for task in tasks[:-1])
    assert "cesta retrain" in tasks[-1][3]
