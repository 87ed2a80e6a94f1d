"""`geomfeat monitor`: what a monitored training has done so far, as text and as a page that may follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command


@app.command()
def monitor(
    folder: Annotated[Path, typer.Argument(help="Folder of a gf.Monitor.", parser=options.path_of, metavar="FOLDER")],
    serve: Annotated[
        bool, typer.Option("--serve", help="Show a page that follows the training, to this machine only, until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve; default any free one.")] = 0,
    out: Annotated[Path | None, options.path("Path of the page; default FOLDER/monitor.html.")] = None,
    debug: options.Debug = False,
) -> None:
    """Print where a monitored training is, and write its page and table; works while the training runs."""
    with command(debug, "The page that was written last is still there."):
        from geomfeat.monitoring.folder import PAGE, SETTINGS, TABLE
        from geomfeat.monitoring.result import load_monitored
        from geomfeat.report.pages.monitor import write_monitor_page
        from geomfeat.storage.atomic import read_json, write_parquet
        from geomfeat.storage.owned_files import replace_file

        record = load_monitored(folder)
        settings = read_json(folder / SETTINGS)
        typer.echo(str(record))
        path = write_monitor_page(record, out or folder / PAGE, settings=settings)
        replace_file(folder / TABLE, lambda draft: write_parquet(draft, record.table))
        typer.echo(f"\npage: {path}")
        if serve:
            _serve(folder, port)


def _serve(folder: Path, port: int) -> None:
    from geomfeat.monitoring.folder import SETTINGS
    from geomfeat.monitoring.result import load_monitored
    from geomfeat.monitoring.rows_file import ROWS
    from geomfeat.report.live_page import LivePage
    from geomfeat.report.pages.monitor import render
    from geomfeat.storage.atomic import read_json

    def state() -> str:
        rows = folder / ROWS
        return f"{rows.stat().st_size}" if rows.exists() else "0"

    with LivePage(
        lambda now: render(load_monitored(folder), read_json(folder / SETTINGS), live=now), state, port
    ) as server:  # fmt: skip
        typer.echo(f"following the training at {server.url} until Ctrl-C")
        server.serve_forever()
