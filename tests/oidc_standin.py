"""A stand-in for an OpenID Connect provider on 127.0.0.1, which speaks as Hugging Face's does.

    with Provider("a-client", "its secret", "https://app.example/oauth2callback") as provider:
        provider.account = {"sub": "5f0c", "preferred_username": "ada"}   # who sits before the browser
        provider.spoil = "expired"                                        # what is wrong with the next id_tokens
        ...                                                               # an app set up with provider.url
        provider.answered        # the answers of the token endpoint

It is as strict as a real one: a client has to show its secret and the verifier of its challenge (RFC 7636), and a code
opens once. Tokens are put together here, byte by byte, and by none of the libraries that read them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.hub_standin import OneAnswer

SECONDS = 3600  # that a token is good for
SPOILED = (
    "another key", "no signature", "the public key as a secret", "changed after signing", "expired",
    "another audience", "another audience beside ours", "another audience, through us", "another issuer",
    "another nonce", "no nonce", "no id_token",
)  # fmt: skip


class Provider:
    """One client, one account at a time. Everybody who comes to sign in is let through at once."""

    def __init__(self, client: str, secret: str, redirect: str) -> None:
        self.client, self.secret, self.redirect = client, secret, redirect
        self.account: dict[str, object] = {}
        self.spoil = ""  # one of SPOILED
        self.asked: list[dict[str, str]] = []  # what came to be authorized
        self.answered: list[dict[str, object]] = []
        self.refused: list[str] = []  # why the token endpoint gave nothing
        self._codes: dict[str, dict[str, str]] = {}
        self._key = rsa.generate_private_key(65537, 2048)
        self._other = rsa.generate_private_key(65537, 2048)

    def __enter__(self) -> Provider:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"provider": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def discovery(self) -> dict[str, object]:
        """What the client is to know."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/oauth/authorize",
            "token_endpoint": f"{self.url}/oauth/token",
            "userinfo_endpoint": f"{self.url}/oauth/userinfo",
            "jwks_uri": f"{self.url}/oauth/jwks",
            "scopes_supported": ["openid", "profile", "email"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def keys(self) -> dict[str, object]:
        """The public key that tokens are checked with."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1"}
        return {"keys": [key | {"n": _number(numbers.n), "e": _number(numbers.e)}]}

    def authorize(self, query: dict[str, str]) -> str:
        """The address that the browser is sent back to. Raises `Refused` for what a real provider would not take."""
        self.asked.append(query)
        if (query.get("client_id"), query.get("redirect_uri")) != (self.client, self.redirect):
            raise Refused("this client does not go back there")
        if query.get("response_type") != "code" or "openid" not in query.get("scope", "").split():
            raise Refused("this is not OpenID Connect's way with a code")
        if query.get("code_challenge_method") != "S256" or not query.get("code_challenge"):
            raise Refused("there is no challenge")
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        return f"{self.redirect}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: Mapping[str, str], authorization: str) -> dict[str, object]:
        """Tokens for a code. Raises `Refused`."""
        # RFC 6749, 2.3.1: both halves are encoded as in forms before they are joined
        shown = base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":")
        if [unquote(part) for part in shown] != [self.client, self.secret]:
            raise Refused("invalid_client")
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or form.get("redirect_uri") != self.redirect:
            raise Refused("invalid_grant")
        challenge = _text(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if challenge != asked["code_challenge"]:
            raise Refused("invalid_grant")
        answer = {"access_token": secrets.token_urlsafe(16), "token_type": "bearer", "expires_in": SECONDS,
                  "scope": asked["scope"], "id_token": self._id_token(asked)}  # fmt: skip
        if self.spoil == "no id_token":
            del answer["id_token"]
        self.answered.append(answer)
        return answer

    def _id_token(self, asked: Mapping[str, str]) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": self.client, "iat": now, "exp": now + SECONDS, **self.account}
        claims |= {"nonce": asked["nonce"]} if "nonce" in asked else {}
        other: dict[str, dict[str, object]] = {
            "expired": {"iat": now - 2 * SECONDS, "exp": now - SECONDS},
            "another audience": {"aud": "another-client"},
            "another audience beside ours": {"aud": [self.client, "another-client"], "azp": "another-client"},
            "another audience, through us": {"aud": ["another-client"], "azp": self.client},
            "another issuer": {"iss": "https://issuer.example"},
            "another nonce": {"nonce": secrets.token_urlsafe(16)},
        }
        claims |= other.get(self.spoil, {})
        if self.spoil == "no nonce":
            del claims["nonce"]
        if self.spoil == "no signature":
            return _signed(claims, "none", lambda text: b"")
        if self.spoil == "the public key as a secret":
            public = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            return _signed(claims, "HS256", lambda text: hmac.digest(public, text, "sha256"))
        key = self._other if self.spoil == "another key" else self._key
        signed = _signed(claims, "RS256", lambda text: key.sign(text, padding.PKCS1v15(), hashes.SHA256()))
        if self.spoil == "changed after signing":
            head, _, signature = signed.split(".")
            return ".".join([head, _text(json.dumps(claims | {"name": "Another"}).encode()), signature])
        return signed


class Refused(Exception):
    """What a real provider would refuse as well."""


def _signed(claims: Mapping[str, object], algorithm: str, sign: Callable[[bytes], bytes]) -> str:
    """A JSON Web Token, RFC 7519."""
    head = {"typ": "JWT", "alg": algorithm, "kid": "1"}
    text = f"{_text(json.dumps(head).encode())}.{_text(json.dumps(claims).encode())}"
    return f"{text}.{_text(sign(text.encode()))}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class _Handler(OneAnswer):
    provider: Provider

    def _answer(self) -> None:
        where = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        try:
            match where.path:
                case "/.well-known/openid-configuration":
                    self._say(200, self.provider.discovery())
                case "/oauth/jwks":
                    self._say(200, self.provider.keys())
                case "/oauth/authorize":
                    self._say(302, {}, self.provider.authorize(dict(parse_qsl(where.query))))
                case "/oauth/token":
                    form = dict(parse_qsl(body))
                    self._say(200, self.provider.token(form, self.headers.get("Authorization", "")))
                case "/oauth/userinfo":  # whatever the id_token says, this is who sits there
                    self._say(200, self.provider.account)
                case _:
                    self._say(404, {})
        except Refused as reason:
            self.provider.refused.append(str(reason))
            self._say(400, {"error": str(reason)})

    def _say(self, status: int, value: Mapping[str, object], location: str = "") -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
