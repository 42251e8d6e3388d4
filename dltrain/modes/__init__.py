"""One file a verb: what `mode=` can be. What only one of them needs stands beside it: `predict_files.py`."""
