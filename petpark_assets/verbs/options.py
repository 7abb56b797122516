"""What the verbs have in common: their options, the home they work in.

Not here: the verbs (cli.py, and a module a noun beside this one), or how answers are printed (terminal.py).
"""

from pathlib import Path
from typing import Annotated

import typer

from petpark_assets.domain.recipes import RECIPES
from petpark_assets.resources.environments import Environment, enter_profile
from petpark_assets.terminal import refusing

HomeOption = Annotated[Path | None, typer.Option("--home", help="The home, instead of PETPARK_HOME.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
RecipeOption = Annotated[str, typer.Option("--recipe", help=f"One of {', '.join(RECIPES)}.")]
LakeOption = Annotated[str, typer.Option("--lake", help="The labelled photos: a folder, or s3://bucket/prefix.")]
LabelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        metavar="SOURCE",
        help="Where labels come from, best first; give it several times. Without it: as in the newest version, and "
        "in the first by folder and file names.",
    ),
]
VersionArgument = Annotated[str, typer.Argument(help="A dataset version: v0001, or 1.")]
ModelArgument = Annotated[str, typer.Argument(help="A model version (3 or v3) or an alias (champion).")]


def enter(home: Path | None, *, as_json: bool) -> Environment:
    """Work in a home: this process, and whatever it starts. What cannot be is refused as verbs refuse."""
    with refusing(as_json=as_json, errors_folder=home or Path()):  # what the environment names is not known yet
        return enter_profile(home)
