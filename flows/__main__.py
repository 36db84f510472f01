"""This file runs the command line: `python -m flows`."""

from .cli import main

if __name__ == "__main__":
    main()
