"""Writes the compose file that names a version's images by digest: services and images of docker-compose.yml.

python deploy/rollout/images_file.py VERSION REFERENCES OUT

REFERENCES is a folder with a file for each image: `cpu`, `gateway` and so on. It holds the reference.
"""

import re
import sys
from pathlib import Path
from typing import Any, Final

Compose = dict[str, Any]

COMPOSE: Final = Path(__file__).resolve().parents[2] / "docker-compose.yml"
REFERENCE: Final = re.compile(r"[a-z0-9.:/_-]+@sha256:[0-9a-f]{64}")
VERSION: Final = re.compile(r"v[0-9][A-Za-z0-9.+-]*")


def images_of(compose: Compose) -> dict[str, str]:
    """Service → name of the image that it builds, the folder below deploy/images."""
    builds = {name: service["build"] for name, service in compose["services"].items() if "build" in service}
    return {name: Path(build["dockerfile"]).parent.name for name, build in builds.items()}


def images_file(version: str, references: dict[str, str], compose: Compose) -> str:
    """The file's text. Raises ValueError for a version or reference that is none, and for a missing image."""
    if not VERSION.fullmatch(version):
        raise ValueError(f'"{version}" is not a version; give a tag such as v0.2.0')
    lines = [f"x-version: {version}", "services:"]
    for service, image in images_of(compose).items():
        reference = references.get(image, "")
        if not REFERENCE.fullmatch(reference):
            raise ValueError(
                f'image {image} has the reference "{reference}"; it must end with @sha256: and a digest'
            )
        lines.append(f"  {service}: {{image: {reference}}}")
    return "\n".join(lines) + "\n"


def main(version: str, references: str, out: str) -> int:
    from ruamel.yaml import YAML  # of the linters' environment: make images-file

    compose = YAML(typ="safe").load(COMPOSE)
    given = {path.name: path.read_text(encoding="utf-8").strip() for path in Path(references).iterdir()}
    try:
        text = images_file(version, given, compose)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
