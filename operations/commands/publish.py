"""`cesta publish`: a run becomes a release."""

from typing import Annotated

import typer

from operations.commands.options import ADDRESS, Address, Force, Offline, Out, Repository, SettingsFile
from operations.outputs import ARTIFACTS, Outputs
from operations.settings import load_bars


def publish(
    out: Out = ARTIFACTS,
    repository: Repository = None,
    settings: SettingsFile = None,
    promote: Annotated[bool, typer.Option("--promote", help="Have the release served.")] = False,
    address: Address = ADDRESS,
    offline: Offline = False,
    force: Force = False,
) -> None:
    """Run folder → the next release of a repository.

    The first release of a repository is promoted. Exit code 3 says that the
    release is published, but could not be promoted.
    """
    from operations.releases.activation import activate
    from operations.releases.publish import publish as run
    from operations.releases.repository import active_release
    from operations.releases.stores.store import open_repository

    outputs = Outputs(out)
    target = open_repository(repository or outputs.repository)
    release = run(outputs.run, target)
    print(f"release {release} in {target}")
    if promote or active_release(target) is None:
        activate(target, release, None if offline else address, bars=load_bars(settings), force=force)
    else:
        print(f'not active yet: "cesta release promote {release}"')
