"""Leases on a store, without a node around it."""
