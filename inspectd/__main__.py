"""``python -m inspectd`` is ``inspectd``."""

from inspectd.cli import main

if __name__ == "__main__":
    main()
