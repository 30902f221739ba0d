"""The version of the package, in the one place the build reads it from, and the commit it runs from."""

from pathlib import Path

__version__ = "0.1.0"

_ROOT = Path(__file__).parents[2]


def source_commit() -> str | None:
    """Return the commit of the checkout this runs from, with ``-dirty`` where a tracked file differs from it.

    None when the package is installed, when git is not there, or when git does not know the checkout.
    """
    import subprocess

    if not ((_ROOT / "pyproject.toml").is_file() and (_ROOT / ".git").exists()):
        return None
    # Git knows what reading .git by hand does not: packed references and worktrees. Tags are left out of the answer.
    command: list[str | Path] = ["git", "-C", _ROOT, "--no-optional-locks", "describe", "--always", "--dirty"]
    command += ["--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 (fixed)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
