"""The door for models: whatever one was given as becomes one `ResolvedModel` here.

In goes a module, a name of timm's, an architecture, or the path of one; out comes what must be
known to trace it or to measure on it, with copies of it that leave the caller's model alone. Start
at `resolve`.
"""
