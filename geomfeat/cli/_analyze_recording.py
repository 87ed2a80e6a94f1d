"""`geomfeat analyze --recording FILE`: the part of the command that measures a recording."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from geomfeat._version import __version__
from geomfeat.cli._output_folder import PAGE, PARTS, is_finished, replacing, require_replaceable
from geomfeat.cli._recording_spec import dated, recording_of
from geomfeat.errors import BadInput
from geomfeat.study import Study, analyze_recording
from geomfeat.study.recorded_measures import plan_of

# Options of a recording; any other that is given, and differs from its default, is of networks.
TAKEN = ("recording", "out", "measures", "over_time", "groups", "seed", "name", "force", "quiet", "debug")
DEFAULTS = {"reduce": "flatten", "project": "auto", "batch_size": 256, "dry_run": False}


def answer(given: Mapping[str, Any], out: Path, *, force: bool, progress: bool) -> str:
    """Measure the recording of a command's options, and say what was found."""
    return summary_of(*analyzed_recording(request_of(given), out, force=force, progress=progress), out)


def request_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The request of a command's options; BadInput for one that a recording does not take."""
    named = {name: value for name, value in given.items() if name not in TAKEN}
    odd = [name for name, value in named.items() if value != DEFAULTS.get(name)]
    if odd:
        words = "a model" if odd[0] == "named" else f"--{odd[0].replace('_', '-')}"
        raise BadInput(f"{words} is given with --recording, which is measured without any model: leave it out")
    out, measures = given["out"], given["measures"]
    return {
        "recording": given["recording"], "groups": given["groups"] or "auto", "seed": given["seed"],
        "measures": None if measures is None else sorted(set(measures)),
        "over_time": "auto" if given["over_time"] is None else sorted(set(given["over_time"])),
        "name": given["name"] or os.path.basename(os.path.abspath(out)),
    }  # fmt: skip


def analyzed_recording(
    request: Mapping[str, Any], out: Path, *, force: bool = False, progress: bool = True
) -> tuple[Study, bool]:
    """The study of a request, in `out`, and whether it was computed now (False: it was there).

    Raises BadInput before anything is written; OutputExists if `out` holds another request's results.
    """
    plan_of(request["measures"], several_conditions=True)
    found = recording_of(request["recording"], request["seed"])
    dates = {"version": __version__, **request, "recording": dated(request["recording"])}
    if is_finished(out, dates, force):
        there = Study.load(out)
        if there.table.loc[~there.table["ok"]].empty:
            return there, False
    require_replaceable(out)
    groups = None if request["groups"] == "none" else request["groups"]
    courses = None if request["over_time"] == ["none"] else request["over_time"]
    with replacing(out, force):
        study = analyze_recording(
            found, measures=request["measures"], over_time=courses, groups=groups, seed=request["seed"],
            name=request["name"], resume=out / PARTS, progress=progress,
        )  # fmt: skip
        study = replace(study, settings={"request": dates, **study.settings})
        study.save(out)
        study.to_html(out / PAGE)
    return study, True


def summary_of(study: Study, fresh: bool, out: Path) -> str:
    """What was found, the failures, the notes and the path of the page."""
    if not (out / PAGE).is_file():
        study.to_html(out / PAGE)
    lines = [str(study)]
    failed = study.table.loc[~study.table["ok"]]
    if len(failed):
        first = failed.iloc[0]
        lines.append(
            f"\n{len(failed)} of {len(study.table)} values could not be computed; see the report. For example:"
        )
        lines.append(f"  {first['measure']} ({first['layer']}): {first['note']}")
    lines += [f"  note: {note}" for note in study.settings["recording"]["notes"]]
    lines += over_time_lines(study)
    lines.append(f"\n{'page' if fresh else 'results exist, nothing was computed; page'}: {out / PAGE}")
    return "\n".join(lines)


def over_time_lines(study: Study) -> list[str]:
    """What was measured in time bins, when conditions are apart, and notes."""
    facts = study.settings.get("over_time")
    if facts is None:
        return []
    lines = [f"\nover time: {', '.join(facts['measures'])} in {facts['bins']} bins"]
    lines += [
        f"  {cluster['area']}: conditions are apart from {cluster['start']:g} to {cluster['stop']:g} s "
        f"(p = {cluster['p']:.2g}, corrected for all bins)"
        for cluster in facts["clusters"]
    ]
    return lines + [f"  note: {note}" for note in facts["notes"]]
