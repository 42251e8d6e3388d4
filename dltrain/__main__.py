"""`python -m dltrain`: the same as the command `dltrain`."""

from dltrain.cli import entry

entry()
