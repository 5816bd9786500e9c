"""Which command of which version of this code is at work."""

import subprocess
import sys
from pathlib import Path

TOP = __name__.partition(".")[0]


def command() -> list[str]:
    """Return the words of the command line as they can be typed again, without the way there."""
    program = Path(sys.argv[0])
    if program.name != "__main__.py":
        return [program.name, *sys.argv[1:]]
    folders = program.parent.parts
    top = max((i for i, folder in enumerate(folders) if folder == TOP), default=-1)
    return ["python", "-m", ".".join(folders[top:]), *sys.argv[1:]]


def ask_git(*arguments: str) -> str | None:
    """Ask git about the checkout this package runs from.

    Args:
        arguments: What stands behind `git` on a command line.

    Returns:
        What git prints, None outside a checkout.
    """
    words = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
