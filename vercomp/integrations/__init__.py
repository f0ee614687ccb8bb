"""Other libraries with vercomp: one file for each, which needs that library and says so."""
