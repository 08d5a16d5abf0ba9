"""``python -m flows`` is the command line, for ``torchrun`` and for tests."""

from flows.cli import main

if __name__ == "__main__":
    main()
