"""This file runs the command line: `python -m daphne_bridge`."""

from .cli import main

if __name__ == "__main__":
    main()
