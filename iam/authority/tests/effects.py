"""Actions for tests: their effect is a counter in the database, so what ran twice would show."""

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from bus.models import Counter
from iam.authority import services
from iam.authority.models import Approval

EFFECT = "effects_of_the_tests"


def verify(parameters: Mapping[str, Any]) -> None:
    """Refuse the parameters {"bad": true}."""
    if parameters.get("bad"):
        raise ValueError("These parameters are bad.")


def run(approval: Approval) -> None:
    """Count once; then fail or hang, if the parameters say so."""
    Counter.objects.add({(EFFECT, (("approval", str(approval.pk)),)): 1})
    if approval.parameters.get("fail"):
        raise RuntimeError("The effect failed.")
    if approval.parameters.get("hang") and os.environ.get("HANG"):
        sys.stdout.write("running\n")
        sys.stdout.flush()
        time.sleep(600)


def confirm(approval: Approval) -> bool:
    """Read the count back; {"vanish": true} says that it is not there."""
    return effects(approval) == 1 and not approval.parameters.get("vanish")


def effects(approval: Approval) -> int:
    """Return how often an approval was carried out."""
    counter = Counter.objects.filter(name=EFFECT, labels={"approval": str(approval.pk)}).first()
    return counter.value if counter else 0


services.register_action(name="tests.count", verify=verify, run=run, confirm=confirm)
