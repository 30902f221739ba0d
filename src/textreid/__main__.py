"""``python -m textreid`` is the command ``textreid``."""

from textreid.cli import main

if __name__ == "__main__":
    main()
