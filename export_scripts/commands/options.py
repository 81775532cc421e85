"""Options that the offline verbs share, and the settings that result from them.

A verb with ``@takes(stage_options)`` has them behind its ``out``, and gets their settings as ``chosen``.
"""

import inspect
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from export_scripts.settings import Settings, load_settings
from operations.errors import CestaError

File = Annotated[Path | None, typer.Option("--settings", help="A toml with what differs from pipeline.toml.")]
Transactions = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="csv or parquet: a file, a folder, a pattern, or s3://…; default: the Complete Journey.",
    ),
]
Products = Annotated[str | None, typer.Option(metavar="PATH", help="The same, optional.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, e.g. --set data.columns.user_id=customer; repeatable."),
]
EngineName = Annotated[
    Literal["local", "ray"] | None,
    typer.Option("--engine", help="Where partitions are computed: by processes here, or on a Ray cluster."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Partitions computed at once. Counts and metrics stay the same.")
]
Until = Annotated[
    Literal["etl", "train", "evaluate", "export"] | None,
    typer.Option(help="Stop after this stage. No release is published."),
]


Options = Callable[..., Settings]
Verb = Callable[..., None]

CHOSEN: Final = "chosen"  # the parameter of a verb that gets the settings


def takes(options: Options) -> Callable[[Verb], Verb]:
    """Give a verb the options of ``options``, whose settings it gets as its first parameter, ``chosen``."""

    def decorate(verb: Verb) -> Verb:
        own, shared = (dict(inspect.signature(function).parameters) for function in (verb, options))
        del own[CHOSEN]
        out = {"out": own.pop("out")}
        shown = inspect.Signature([*(out | shared | own).values()])

        @wraps(verb)
        def run(**given: Any) -> None:
            settings = options(**{name: given.pop(name) for name in shared})
            verb(settings, **given)

        run.__signature__ = shown  # type: ignore[attr-defined] # what typer makes options of
        run.__annotations__ = {name: parameter.annotation for name, parameter in shown.parameters.items()}
        return run

    return decorate


def receipts_options(
    settings: File = None,
    transactions: Transactions = None,
    products: Products = None,
    change: Changes = None,
    engine: EngineName = None,
    workers: Workers = None,
) -> Settings:
    """The settings of verbs that begin with receipts."""
    return chosen_settings(settings, transactions, products, change, engine, workers)


def stage_options(
    settings: File = None, change: Changes = None, engine: EngineName = None, workers: Workers = None
) -> Settings:
    """The settings of verbs that begin with what an earlier stage wrote."""
    return chosen_settings(settings, changes=change, engine=engine, workers=workers)


def chosen_settings(
    path: Path | None,
    transactions: str | None = None,
    products: str | None = None,
    changes: list[str] | None = None,
    engine: str | None = None,
    workers: int | None = None,
) -> Settings:
    """Return the defaults, changed by the toml in `path`, the options, and then each `table.key=value`.

    Raises CestaError for a change without "=", and BadSettings like load_settings.
    """
    overrides: dict[str, object] = {
        "data.transactions": _absolute(transactions),
        "data.products": _absolute(products),
        "engine.name": engine,
        "engine.workers": workers,
    }
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise CestaError(f"--set {change}: write it as table.key=value, e.g. --set train.seed=8")
        overrides[name] = _value(value)
    return load_settings(path, overrides)


def _absolute(path: str | None) -> str | None:
    """Return a path on this machine from its root on; a URL stays as it is."""
    return str(Path(path).absolute()) if path and "://" not in path else path


def _value(text: str) -> object:
    """Read a number, list or boolean as JSON; any other text stays as it is."""
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value
