"""The one exception of the laboratory. Nothing else lives here."""

from __future__ import annotations

from raftkv.errors import RaftkvError


class LabError(RaftkvError):
    """A local cluster cannot do what was asked. One line that names what is wrong; log lines may follow it."""
