"""Where code that is not this package's is looked for: a user's own parts by `_target_`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from admm_exp.app.rerun import names_code


def look_for_parts_here() -> None:
    """Let the current folder come first among those that modules are found in."""
    here = os.getcwd()
    if not (sys.flags.safe_path or here in sys.path):
        sys.path.insert(0, here)


def look_for_confirmed_parts(run_dir: Path, changes: Sequence[str]) -> None:
    """Look in the current folder only if the user confirms code, and it is not the run's folder.

    Python itself looks there first, and a file torch.py in a folder from elsewhere would be run.

    Args:
        run_dir: Folder of the run that is gone on with.
        changes: What stands beside it on the command line.
    """
    here = Path.cwd().resolve()
    if names_code(changes) and not here.is_relative_to(run_dir.resolve()):
        look_for_parts_here()
        return
    sys.path[:] = [place for place in sys.path if place and Path(place).resolve() != here]
    os.environ["PYTHONSAFEPATH"] = "1"  # for the processes that train along
