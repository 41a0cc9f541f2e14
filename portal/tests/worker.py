"""The tasks that wait in Redis, done here and now as a worker does them."""

import json
from queue import Empty

from config.celery import app


def work() -> int:
    """Do the tasks that wait and return how many there were."""
    done = 0
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("celery")
        while True:
            try:
                message = queue.get(block=False)
            except Empty:
                break
            arguments, named, _embed = json.loads(message.body)
            app.tasks[message.headers["task"]](*arguments, **named)
            message.ack()
            done += 1
        queue.close()
    return done
