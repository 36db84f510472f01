"""This file runs the command line: `daphne-flows` or `python -m flows`."""

from daphne_bridge.start import start


def main() -> None:
    """Run the command `daphne-flows`."""
    start("flows.cli")


if __name__ == "__main__":
    main()
