"""The `cesta` command: the pipeline's stages, the server and a question to it."""

import csv
import errno
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console

from ensemble.server import ServerError
from export_scripts.errors import CestaError
from export_scripts.gateway import commands as gateway
from export_scripts.memory import keep_freed_memory
from export_scripts.releases import commands
from export_scripts.settings import Settings, load_settings

# Of the extra "train"; who serves releases need not have them.
TRAINING = {"faiss", "jinja2", "numba", "onnxruntime", "pandas", "pyarrow", "scipy", "torch"}
ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(commands.app, name="release")
app.add_typer(gateway.app, name="keys")

Out = Annotated[Path, typer.Option(help="Folder of everything that is generated.")]
File = Annotated[Path | None, typer.Option("--settings", help="A toml with what differs from pipeline.toml.")]
Transactions = Annotated[Path | None, typer.Option(help="csv or parquet; without it the Complete Journey.")]
Products = Annotated[Path | None, typer.Option(help="csv or parquet, optional.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, e.g. --set data.columns.user_id=customer; repeatable."),
]
Ids = Annotated[
    list[str] | None,
    typer.Option(help="An item id; repeatable, or several as a csv line: a,b or '\"Milk, 2%\",b'."),
]
Excluded = Annotated[list[str] | None, typer.Option(help="An item id never to come back; likewise.")]
Repository = Annotated[
    str | None, typer.Option(help="Where releases go: a folder, s3://… or gs://…; by default OUT/repository.")
]
Categories = Annotated[list[str] | None, typer.Option(help="Recommend only from this category; repeatable.")]


def main(command: str | None = None) -> None:
    """Entry point: one sentence per error, no traceback for what the user can mend.

    ``command`` is named by ``python -m export_scripts.train``, which is ``cesta train``.
    """
    keep_freed_memory()
    try:
        app(sys.argv[1:] if command is None else [command, *sys.argv[1:]], prog_name="cesta")
    except (CestaError, ServerError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(_disk_trouble(error), file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        print(_not_installed(error), file=sys.stderr)
        sys.exit(1)


def _not_installed(error: ModuleNotFoundError) -> str:
    """Which extra brings a module that is missing; some other one is our own mistake and is raised."""
    module = (error.name or "").partition(".")[0]
    if module not in TRAINING:
        raise error
    return f"this command needs {module}; run: pip install 'cesta[train]'"


def _disk_trouble(error: OSError) -> str:
    """A file system's refusal in a sentence; numpy reports a full disk without number and name."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, None)
    way_out = "free some space" if full else "choose another folder"
    return f"{error.filename or 'the output'}: {error.strerror or error}; {way_out}"


@app.callback()
def _logging() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(
                [structlog.dev.ConsoleRenderer(colors=True, pad_event_to=0)]
                if sys.stderr.isatty()
                else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
            ),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is then: tests exchange it
    )


def _settings(
    path: Path | None,
    transactions: Path | None = None,
    products: Path | None = None,
    changes: list[str] | None = None,
) -> Settings:
    overrides: dict[str, Any] = {
        "data.transactions": str(transactions.absolute()) if transactions else None,
        "data.products": str(products.absolute()) if products else None,
    }
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise CestaError(f"--set {change}: write it as table.key=value, e.g. --set train.seed=8")
        overrides[name] = _value(value)
    return load_settings(path, overrides)


def _value(text: str) -> Any:
    """A number, list or boolean as JSON reads it; anything else is the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


@app.command()
def etl(
    out: Out = ARTIFACTS,
    settings: File = None,
    transactions: Transactions = None,
    products: Products = None,
    change: Changes = None,
) -> None:
    """Receipts and products → interactions and catalog (OUT/data)."""
    from export_scripts.etl import etl as run

    print(run(_settings(settings, transactions, products, change), out))


@app.command()
def train(out: Out = ARTIFACTS, settings: File = None, change: Changes = None) -> None:
    """Interactions → checkpoint (OUT/checkpoint.pt)."""
    from export_scripts.outputs import Outputs
    from export_scripts.train import train as run

    o = Outputs(out)
    print(run(_settings(settings, changes=change), o.data, o.checkpoint))


@app.command()
def evaluate(
    out: Out = ARTIFACTS,
    settings: File = None,
    change: Changes = None,
    rivals: Annotated[
        bool,
        typer.Option("--all", help="Other libraries' models too: ten minutes and 4 GB for the demo's data."),
    ] = False,
) -> None:
    """Checkpoint → metrics on the test period beside simple rankers (OUT/metrics.json, OUT/report.html)."""
    from export_scripts.evaluate import evaluate as run
    from export_scripts.outputs import Outputs
    from export_scripts.report import NAME, print_report

    o = Outputs(out)
    metrics = run(_settings(settings, changes=change), o.data, o.checkpoint, o.metrics, rivals)
    print_report(metrics, Console(width=110))
    print(metrics.with_name(NAME))


@app.command()
def export(
    out: Out = ARTIFACTS,
    settings: File = None,
    change: Changes = None,
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="Have TensorRT answer too, as the CPU does; needs a GPU.")
    ] = False,
) -> None:
    """Checkpoint → run folder with ONNX graph, sampler arrays and manifest (OUT/run)."""
    from export_scripts.export import export as run
    from export_scripts.outputs import Outputs

    o = Outputs(out)
    print(run(_settings(settings, changes=change), o.data, o.checkpoint, o.metrics, o.run, tensorrt))


@app.command()
def publish(
    out: Out = ARTIFACTS,
    repository: Repository = None,
    settings: File = None,
    promote: Annotated[bool, typer.Option("--promote", help="Make it what the next start serves.")] = False,
) -> None:
    """Run folder → the next release of a published repository; the first is promoted."""
    from export_scripts.outputs import Outputs
    from export_scripts.publish import publish as run
    from export_scripts.releases.promote import promote as activate
    from export_scripts.releases.repository import active_release
    from export_scripts.releases.store import open_repository

    o = Outputs(out)
    target = open_repository(repository or o.repository)
    release = run(o.run, target)
    print(f"release {release} in {target}")
    if promote or active_release(target) is None:
        activate(target, release, bars=_settings(settings).release)
    else:
        print(f'not active yet: "cesta release promote {release}"')


@app.command()
def build(
    out: Out = ARTIFACTS,
    settings: File = None,
    transactions: Transactions = None,
    products: Products = None,
    change: Changes = None,
    repository: Repository = None,
    promote: Annotated[bool, typer.Option(help="Have the next start of a server serve the release.")] = True,
) -> None:
    """All five stages; those whose inputs did not change are kept. A running server keeps its release."""
    from export_scripts.build import build as run
    from export_scripts.outputs import Outputs
    from export_scripts.releases.store import open_repository
    from export_scripts.report import print_report

    target = open_repository(repository or Outputs(out).repository)
    release = run(_settings(settings, transactions, products, change), out, promote, target)
    print_report(Outputs(out).metrics, Console(width=110))
    print(f"release {release} in {target}")


@app.command()
def paper(
    train: Annotated[Path, typer.Option(help="Lines of user, item, rating, time stamp; tabs; or its .gz.")],
    test: Annotated[Path, typer.Option(help="The same, one line per user.")],
    negatives: Annotated[Path, typer.Option(help="(user,item) and its negatives, in the test's order.")],
    settings: File = None,
    change: Changes = None,
) -> None:
    """The NCF paper's measure on its own files: HR@10 and NDCG@10 beside the published figures."""
    from export_scripts.paper import paper as run
    from export_scripts.paper import print_report

    print_report(run(_settings(settings, changes=change), train, test, negatives), Console(width=110))


@app.command()
def serve(
    repository: Annotated[
        str, typer.Option(envvar="CESTA_REPOSITORY", help="A published one: a folder, s3://… or gs://…")
    ] = str(ARTIFACTS / "repository"),
    host: Annotated[
        str, typer.Option(help="Never one that faces a network that is not private.")
    ] = "127.0.0.1",
    http_port: int = 8000,
    grpc_port: int = 8001,
    metrics_port: int = 8002,
    supervisor_port: Annotated[int, typer.Option(help="Of health, status and metrics of its own.")] = 8003,
    config: Annotated[
        str, typer.Option(envvar="CESTA_CONFIG", help="The models' configs/CONFIG.pbtxt, e.g. tensorrt.")
    ] = "",
    response_cache: Annotated[
        str,
        typer.Option(envvar="CESTA_RESPONSE_CACHE", help="Bytes, 0 for none, or redis://[user@]host[:port]."),
    ] = str(64 * 2**20),
    gateway: Annotated[
        Path | None, typer.Option(help="The folder of a gateway to count for and take admins from.")
    ] = None,
    gateway_http: Annotated[
        str, typer.Option(help="Where that gateway listens, host:port; probed for cesta_gateway_up.")
    ] = "127.0.0.1:8080",
) -> None:
    """Serve a published repository in the foreground on loopback; Ctrl-C and SIGTERM drain and stop.

    A server that dies, hangs or no longer recommends is started again with the active release.
    """
    from ensemble.response_cache import parse_cache
    from ensemble.server import ServerSettings
    from export_scripts.gateway.nginx import GatewaySettings
    from export_scripts.releases.repository import read_release
    from export_scripts.releases.store import open_repository
    from export_scripts.supervisor.serve import serve as run

    if "://" in repository:
        read_release(open_repository(repository))  # says better than tritonserver what is missing, and sooner
    ports = {"http_port": http_port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    cache = parse_cache(response_cache)
    settings = ServerSettings(repository=repository, host=host, config=config, response_cache=cache, **ports)
    run(settings, supervisor_port, gateway and GatewaySettings(gateway, http=gateway_http))


@app.command("stack")
def stack_(
    out: Out = ARTIFACTS,
    repository: Annotated[
        str | None, typer.Option(envvar="CESTA_REPOSITORY", help="By default OUT/repository.")
    ] = None,
) -> None:
    """Gateway, supervisor, Triton, Prometheus and Alertmanager on loopback, until Ctrl-C; logs in OUT."""
    from export_scripts.stack import Addresses, serve_stack

    serve_stack(out.absolute(), repository or str(out.absolute() / "repository"), Addresses())


@app.command()
def ask(
    basket: Ids = None,
    user: Annotated[str | None, typer.Option(help="A user id.")] = None,
    exclude: Excluded = None,
    category: Categories = None,
    k: Annotated[int, typer.Option(help="How many.")] = 10,
    address: Annotated[str, typer.Option(help="host:port of the server.")] = "127.0.0.1:8001",
    protocol: Annotated[str, typer.Option(help="grpc or http.")] = "grpc",
    timeout_s: float = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    out: Out = ARTIFACTS,
) -> None:
    """Ask a running server what goes into a basket next. Names come from OUT's catalog, if it is there."""
    import cesta_client
    from export_scripts.demo import answer_table, catalog_of

    try:
        with cesta_client.Recommender(address, protocol=protocol, timeout_s=timeout_s) as shop:  # type: ignore[arg-type]
            answer = shop.recommend(
                basket=_ids("--basket", basket),
                user_id=user,
                k=k,
                exclude=_ids("--exclude", exclude),
                categories=category or None,
            )
    except cesta_client.CestaError as error:
        raise CestaError(str(error)) from None
    if as_json:
        items = [
            {
                "item_id": r.item_id,
                "score": r.score,
                "rank": r.rank,
                "reasons": [x.name.lower() for x in r.reasons],
            }
            for r in answer
        ]
        print(json.dumps({"release": answer.release, "items": items}, ensure_ascii=False))
    else:
        Console(width=110).print(answer_table("What goes in next", answer, catalog_of(out / "data")))


def _ids(option: str, values: list[str] | None) -> list[str]:
    """Ids of all ``values``, each a line of csv: one that holds a comma stands in double quotes."""
    found: list[str] = []
    for value in values or []:
        try:
            rows = list(csv.reader([value], skipinitialspace=True, strict=True))
        except csv.Error as error:
            way_out = """an id with commas or quotes is written as in csv, e.g. '"Milk, 2%",b'"""
            raise CestaError(f"{option} {value} cannot be read ({error}); {way_out}") from None
        found += [part.strip() for row in rows for part in row if part.strip()]
    return found


@app.command()
def demo(out: Out = ARTIFACTS) -> None:
    """Build on the Complete Journey, serve it, ask for a real basket, stop."""
    from export_scripts.demo import demo as run

    run(load_settings(), out, Console(width=110))


if __name__ == "__main__":
    main()
