"""The files of Prometheus and Alertmanager, checked by their own tools; each alert has its runbook entry."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))


def rules() -> list[dict[str, object]]:
    text = (PROMETHEUS / "rules" / "alerts.yml").read_text(encoding="utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def run(tool: str, package: str, *arguments: str) -> str:
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed; apt-get install {package}")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_its_config_and_rules() -> None:
    out = run("promtool", "prometheus", "check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert "2 rule files found" in out


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_are_silent_when_not(path: Path) -> None:
    assert "SUCCESS" in run("promtool", "prometheus", "test", "rules", str(path))


def test_alertmanager_accepts_its_config() -> None:
    assert "SUCCESS" in run("amtool", "prometheus-alertmanager", "check-config", str(ALERTMANAGER))


def test_every_alert_is_seen_firing_by_a_rule_test() -> None:
    texts = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULE_TESTS]
    checks = [check for text in texts for test in text["tests"] for check in test.get("alert_rule_test", ())]
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == {
        rule["alert"] for rule in rules()
    }


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_it_is_and_leads_to_its_entry(rule: dict[str, dict[str, str]]) -> None:
    """It has a severity that Alertmanager routes, the value in words, and an anchor whose text names the
    alert.
    """
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert "$value" in rule["annotations"]["description"]
    place, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert place == "{{ $externalLabels.runbooks }}"
    text = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    headings = {h.lower().replace(" ", "-"): h for h in re.findall(r"^## (.+)$", text, flags=re.MULTILINE)}
    entry = text.partition(f"## {headings[anchor]}\n")[2].partition("\n## ")[0]
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", str(rule["alert"])).capitalize()
    assert str(rule["alert"]) in entry or words == headings[anchor]


def test_what_is_inhibited_and_inhibits_exists() -> None:
    """A misspelt alert in Alertmanager's config would silence nothing and give no error."""
    config = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    names = {str(rule["alert"]) for rule in rules()}
    patterns = [
        pattern
        for rule in config["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        if matcher.startswith("alertname")
        for pattern in re.split(r"=~?", matcher)[1].strip(' "').split("|")
    ]
    assert patterns
    for pattern in patterns:
        assert any(re.fullmatch(pattern, name) for name in names), pattern
