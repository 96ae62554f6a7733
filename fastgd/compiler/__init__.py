"""trace -> program -> passes (fuse, memory) -> lower -> plan.

The compiler knows operations only through their declarations (``ops/registry.py``); it imports
nothing of ``ops``.
"""
