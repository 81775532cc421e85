"""`cesta --version`: what runs here, as one line for a report of a problem."""

import typer


def print_version(is_asked: bool) -> None:
    """Print the versions of cesta and of the tritonserver that it starts, and end; nothing if not asked."""
    if not is_asked:
        return
    from cesta_client import __version__
    from operations.shipped.commit import UNKNOWN, find_commit

    print(f"cesta {__version__} (commit {find_commit() or UNKNOWN}), {_describe_triton()}")
    raise typer.Exit


def _describe_triton() -> str:
    from operations.errors import ServerError
    from operations.server.environment import find_serving_environment
    from operations.server.version import reported_version
    from operations.shipped import command

    try:
        return f"Triton {reported_version(find_serving_environment())}"
    except ServerError:
        return f'no Triton yet: "{command("install")}" installs it'
