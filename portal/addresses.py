"""Where a request comes from."""

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the address of the client: of the connection, or as told by the proxy that ends TLS.

    A proxy appends to `X-Forwarded-For`, so only its last entry was not written by the client.
    """
    if settings.SECURE_PROXY_SSL_HEADER and (told := request.headers.get("X-Forwarded-For", "")):
        return told.rpartition(",")[2].strip()
    return str(request.META.get("REMOTE_ADDR", ""))
