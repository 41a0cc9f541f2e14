"""An identity provider as a process: OpenID Connect with discovery, code flow with PKCE, signed tokens, userinfo.

`python -m portal.tests.identity_provider PORT CLIENT SECRET`. It asks nobody for a password: `POST /person` says
who is in front of it, and may spoil what it answers (`spoil`).
"""

import base64
import hashlib
import json
import secrets
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from portal.tests.processes import free_port

ANOTHER = RSAKey.generate_key(2048, {"kid": "tests", "use": "sig", "alg": "RS256"})
KEY = RSAKey.generate_key(2048, {"kid": "tests", "use": "sig", "alg": "RS256"})


class Provider(ThreadingHTTPServer):
    """What the provider knows: its client, who is in front of it, the codes and access tokens it gave."""

    def __init__(self, port: int, client: str, secret: str) -> None:
        super().__init__(("127.0.0.1", port), Door)
        self.issuer = f"http://localhost:{port}"
        self.client, self.secret = client, secret
        self.person: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        }

    def id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": self.client,
            "sub": self.person["sub"],
            "iat": now,
            "exp": now + 300,
            "auth_time": now if asked.get("prompt") == "login" and asked.get("max_age") == "0" else now - 3600,
            **({"nonce": asked["nonce"]} if "nonce" in asked else {}),
            **self.person.get("spoil_token", {}),
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return self._signed(claims, self.person.get("spoil_signature", ""))

    def _signed(self, claims: dict[str, Any], spoil: str) -> str:
        if spoil == "another key":
            return jwt.encode({"alg": "RS256", "kid": "tests"}, claims, ANOTHER)
        if spoil == "unknown key":
            return jwt.encode({"alg": "RS256", "kid": "unknown"}, claims, ANOTHER)
        if spoil == "shared secret":
            return jwt.encode({"alg": "HS256", "kid": "tests"}, claims, OctKey.import_key(self.secret))
        token = jwt.encode({"alg": "RS256", "kid": "tests"}, claims, KEY)
        head, body, signature = token.split(".")
        if spoil == "none":
            head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"tests"}').rstrip(b"=").decode()
            signature = ""
        if spoil == "another body":
            body = base64.urlsafe_b64encode(json.dumps({**claims, "iat": claims["iat"] - 1}).encode()).decode()
            body = body.rstrip("=")
        return f"{head}.{body}.{signature}"


class Door(BaseHTTPRequestHandler):
    """The endpoints."""

    server: Provider

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query))
        if path == "/.well-known/openid-configuration":
            self._json(self.server.metadata())
        elif path == "/jwks":
            self._json({"keys": [KEY.as_dict(private=False)]})
        elif path == "/authorize":
            self._authorize(query)
        elif path == "/userinfo":
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            claims = self.server.tokens.get(token)
            self._json(claims if claims else {"error": "invalid_token"}, 200 if claims else 401)
        else:
            self._json({"error": "not_found"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/person":
            self.server.person = json.loads(body)
            self._json({})
        elif self.path == "/token":
            self._token(dict(parse_qsl(body)))
        else:
            self._json({"error": "not_found"}, 404)

    def _authorize(self, query: dict[str, str]) -> None:
        right = (
            query.get("response_type") == "code"
            and query.get("client_id") == self.server.client
            and "openid" in query.get("scope", "").split()
            and query.get("code_challenge_method") == "S256"
            and query.get("code_challenge")
            and query.get("state")
        )
        if not right:
            self._json({"error": "invalid_request", "query": query}, 400)
            return
        answer = {"state": query["state"]}
        if error := self.server.person.get("error"):
            answer["error"] = error
        else:
            answer["code"] = secrets.token_urlsafe(16)
            self.server.codes[answer["code"]] = query
        self.send_response(302)
        self.send_header("Location", f"{query['redirect_uri']}?{urlencode(answer)}")
        self.end_headers()

    def _token(self, form: dict[str, str]) -> None:
        asked = self.server.codes.pop(form.get("code", ""), None)
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            not self._is_client(form)
            or asked is None
            or form.get("grant_type") != "authorization_code"
            or form.get("redirect_uri") != asked["redirect_uri"]
            or base64.urlsafe_b64encode(challenge).rstrip(b"=").decode() != asked["code_challenge"]
        ):
            self._json({"error": "invalid_grant"}, 400)
            return
        token = secrets.token_urlsafe(16)
        person = self.server.person
        self.server.tokens[token] = {name: value for name, value in person.items() if name != "spoil_token"}
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": 300}
        if not person.get("no_token"):
            answer["id_token"] = self.server.id_token(asked)
        self._json(answer)

    def _is_client(self, form: dict[str, str]) -> bool:
        told = self.headers.get("Authorization", "")
        if told.startswith("Basic "):
            client, _, secret = base64.b64decode(told.removeprefix("Basic ")).decode().partition(":")
        else:
            client, secret = form.get("client_id", ""), form.get("client_secret", "")
        return (client, secret) == (self.server.client, self.server.secret)

    def _json(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


class RunningProvider:
    """The process, for a test."""

    client, secret = "portal", "a-secret-of-the-tests"

    def __init__(self) -> None:
        self.port = free_port()
        self.issuer = f"http://localhost:{self.port}"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", __name__, str(self.port), self.client, self.secret]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _attempt in range(200):
            try:
                requests.get(f"{self.issuer}/jwks", timeout=2)
            except requests.ConnectionError:
                time.sleep(0.1)
            else:
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)

    def stand_before(self, **person: Any) -> None:
        """Say who is in front of the provider: claims, or `error`.

        `spoil_token` has wrong claims for the ID token (None: without it), `spoil_signature` says how its signature
        is wrong, `no_token` leaves it out.
        """
        requests.post(f"{self.issuer}/person", json=person, timeout=5).raise_for_status()


if __name__ == "__main__":
    Provider(int(sys.argv[1]), sys.argv[2], sys.argv[3]).serve_forever()
