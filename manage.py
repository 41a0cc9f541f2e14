#!/usr/bin/env python
"""Commands of the portal. `manage.py up` starts everything; the others talk to what runs on DATA_DIR."""

import os
import sys

from django.core.management import execute_from_command_line

from deployment.embedded import environment, up


def main() -> None:
    """Run a command."""
    if sys.argv[1:2] == ["up"]:
        sys.exit(up.main(sys.argv[2:]))  # before settings are read: it starts the servers that they name
    environment.adopt()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("SCOPE", "everything")  # who may run commands here may see all
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
