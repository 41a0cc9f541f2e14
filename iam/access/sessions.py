"""Sessions: when they end, which a person has, and ending them.

A session ends `IDLE_SECONDS` after its last page and `LIMIT_SECONDS` after its sign-in, whichever is first. Both
are told to the session store, so that an ended session is not loaded any more, wherever it is asked for.
"""

import time
from typing import Any

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from audit import services as audit
from iam.access import notices
from iam.access.models import User
from iam.access.session_store import SessionStore

IDLE_SECONDS = 2 * 3600
LIMIT_SECONDS = 12 * 3600
TOUCH_SECONDS = 60  # a session is written once a minute at most
SIGNED_IN, TOUCHED = "signed_in_at", "touched_at"


def begin(request: HttpRequest) -> None:
    """Start the limits of a session that has just begun, and enter it in its person's list."""
    request.session[SIGNED_IN] = request.session[TOUCHED] = int(time.time())
    request.session.set_expiry(min(IDLE_SECONDS, LIMIT_SECONDS))
    UserSession.objects.create_from_request(request)


def keep(request: HttpRequest) -> None:
    """Hold the session of a request to its limits; when it is over, the request is a stranger's."""
    session = request.session
    shown = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    if shown and session.session_key and shown != session.session_key:
        rename_session(former=shown, key=session.session_key)  # Django changes it when SECRET_KEY was changed
    if SIGNED_IN not in session:
        begin(request)
        return
    now = int(time.time())
    rest = session[SIGNED_IN] + LIMIT_SECONDS - now
    if rest <= 0:
        _leave(request)
    elif now - session[TOUCHED] >= TOUCH_SECONDS and not _asks_by_itself(request):
        # One that was ended while the cache did not answer may still be there, but not in the list.
        if not UserSession.objects.filter(session_key=session.session_key).update(last_seen_at=timezone.now()):
            _leave(request)
            return
        session[TOUCHED] = now
        session.set_expiry(min(IDLE_SECONDS, rest))


def _asks_by_itself(request: HttpRequest) -> bool:
    """Whether a part of an open page asks, as it does without anybody in front of it."""
    return request.headers.get("HX-Request") == "true"


@transaction.atomic
def sign_out(request: HttpRequest) -> None:
    """End the session of a request because its person asks for it."""
    user = request.user
    if isinstance(user, User):
        UserSession.objects.filter(session_key=request.session.session_key).delete()
        details = {"sessions": 1, "why": "sign-out"}
        audit.record(actor=user.username, action="session.end", object=f"person/{user.pk}", details=details)
    logout(request)


def _leave(request: HttpRequest) -> None:
    request.session.flush()
    request.user = AnonymousUser()


def sessions_of(user: User) -> list[UserSession]:
    """Return the sessions of a person that have not ended, the last seen first."""
    alive = UserSession.objects.purge_and_list(user)
    return sorted(alive, key=lambda session: session.last_seen_at, reverse=True)


def rename_session(*, former: str, key: str) -> None:
    """Keep a session in its person's list after its key was changed."""
    UserSession.objects.filter(session_key=former).update(session_key=key)


@transaction.atomic
def end_sessions(*, user: User, actor: str, but: str = "", only: int | None = None) -> int:
    """End the sessions of a person - but the one with the key `but`, only the one with the id `only` - and return
    how many: their next request is refused."""
    rows: QuerySet[Any] = UserSession.objects.filter(user=user).exclude(session_key=but)
    if only is not None:
        rows = rows.filter(pk=only)
    store = SessionStore()
    ended = 0
    for row in rows.select_for_update():
        store.delete(row.session_key)
        row.delete()
        ended += 1
    if ended:
        audit.record(actor=actor, action="session.end", object=f"person/{user.pk}", details={"sessions": ended})
        if actor != user.username:
            notices.tell(user, "sessions")
    return ended
