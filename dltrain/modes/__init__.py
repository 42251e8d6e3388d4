"""One file a verb: what `mode=` can be."""
