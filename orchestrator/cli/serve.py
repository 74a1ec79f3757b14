"""The command `serve`: the report of a store in a browser, while it is written."""

from __future__ import annotations

from typing import Annotated

import typer

from raysweep.orchestrator.cli.options import StoreOption, Where
from raysweep.orchestrator.cli.terminal.output import fail, say, warn

PORT = 8484


def serve(
    store: StoreOption = "results", where: Where = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = PORT,
    host: Annotated[
        str, typer.Option(help="Address to listen on. 0.0.0.0: all of this machine's, so that others can open it.")
    ] = "127.0.0.1",
    token: Annotated[
        bool, typer.Option("--token/--no-token", help="Whether the address of the page contains a random secret.")
    ] = True,
    metric: Annotated[
        list[str] | None, typer.Option(help="A metric to show; may be repeated. Default: chosen by the report.")
    ] = None,
    minimize: Annotated[
        bool | None,
        typer.Option("--minimize/--maximize", help="Whether lower or higher values of the metric are better."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
) -> None:  # fmt: skip
    """Show the report of a store in a browser, while cells run, until Ctrl-C.

    The page has the progress, curves of running cells, failures with logs, and files to download. It reads the store
    only: it can run beside a launch, or on another machine that sees the store.

    raysweep serve

    raysweep serve --store s3://bucket/results --port 9000
    """
    import secrets

    from raysweep.orchestrator.cli.server import Site, server
    from raysweep.orchestrator.store.reader import Store

    better = None if minimize is None else "lower" if minimize else "higher"
    opened = Store(store, skip_damaged=True).require()
    secret = secrets.token_urlsafe(18) if token else None
    site = Site(opened, named=store, where=where, metrics=metric or (), better=better, title=title)
    warn(site.check())
    try:
        listening = server(site, host, port, secret)
    except OSError as error:
        fail(f"--host {host} --port {port}: {error.strerror or error}; give another --port, or 0 for any free one")
    shown = f"[{host}]" if ":" in host else host
    say(f"http://{shown}:{listening.server_address[1]}/{f'{secret}/' if secret else ''}")
    if not listening.is_private:
        warn([f"--host {host}: whoever reaches this machine{' and knows the address' if secret else ''} can read it"])
    with listening:
        listening.serve_forever()
