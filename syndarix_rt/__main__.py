"""``python -m syndarix_rt``: the command line."""

from syndarix_rt.cli import main

main()
