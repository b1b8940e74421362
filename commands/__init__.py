"""The ``nonesuch`` command, one file a subcommand; heavy imports are made late."""
