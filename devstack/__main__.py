"""``python -m devstack`` is the command ``hybridge``."""

from devstack.cli import main

if __name__ == "__main__":
    main()
