"""The built-in passes of vercomp."""
