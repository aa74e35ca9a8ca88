"""Tier one: bare cores (`raftkv.raft.Raft`) with the shell's own held proposals, reads, patience and recovery around them.

Disk, network and state machine are fakes that lie as badly as real ones may, and never worse. So little is run besides the
core that a core gets through more than a thousand lives a minute.
"""
