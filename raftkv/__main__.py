"""`python -m raftkv` is the `raftkv` command."""

from __future__ import annotations

from raftkv.cli import main

if __name__ == "__main__":
    main()
