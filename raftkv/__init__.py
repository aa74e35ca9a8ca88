"""raftkv: a replicated key-value store that survives the death of its leader, and proves it."""
