"""``python -m dff_edge``: the ``dff-edge`` command, for where it is not on the path."""

from __future__ import annotations

from dff_edge.cli import main

if __name__ == "__main__":
    main(prog_name="python -m dff_edge")
