"""What the verbs have in common: their options, the home they work in.

Not here: the verbs (cli.py, and a module a noun beside this one), or how answers are printed (terminal.py).
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from petpark_assets.domain.recipes import RECIPES
from petpark_assets.resources.environments import Environment, enter_profile
from petpark_assets.resources.values import is_utf8
from petpark_assets.terminal import refusing


def in_utf8(value: Any) -> Any:
    """What is stored, or shown in JSON, as a person typed it. Raises BadParameter: a file's name may be any bytes."""
    for word in map(str, value if isinstance(value, list) else [value]):
        if not is_utf8(word):
            raise typer.BadParameter(f"{word!a} is not UTF-8: write it in letters that are.")
    return value


HomeOption = Annotated[Path | None, typer.Option("--home", callback=in_utf8, help="The home, instead of PETPARK_HOME.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
RecipeOption = Annotated[str, typer.Option("--recipe", help=f"One of {', '.join(RECIPES)}.")]
LakeOption = Annotated[
    str, typer.Option("--lake", callback=in_utf8, help="The labelled photos: a folder, or s3://bucket/prefix.")
]
LabelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        metavar="SOURCE",
        callback=in_utf8,
        help="Where labels come from, best first; give it several times. Without it: as in the newest version, and "
        "in the first by folder and file names.",
    ),
]
VersionArgument = Annotated[str, typer.Argument(help="A dataset version: v0001, or 1.")]
ByOption = Annotated[str, typer.Option("--by", callback=in_utf8, help="Who decides.")]
ModelArgument = Annotated[str, typer.Argument(help="A model version (3 or v3) or an alias (champion).")]


def enter(home: Path | None, *, as_json: bool) -> Environment:
    """Work in a home: this process, and whatever it starts. What cannot be is refused as verbs refuse."""
    with refusing(as_json=as_json, errors_folder=home or Path()):  # what the environment names is not known yet
        return enter_profile(home)
