"""Stream transforms: one file, one gadget or one method, each usable alone."""
