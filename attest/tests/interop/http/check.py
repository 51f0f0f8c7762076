"""Checks a submission of ours with another implementation of RFC 9421, and writes one of its own for us to check.

    pip install http-message-signatures==3.0.0
    python check.py ../../requests/golden_headers.txt > ../theirs_headers.txt

Not part of the continuous build: theirs_headers.txt is kept, and golden_headers.txt is pinned by a test.
"""

import datetime
import hashlib
import sys
from base64 import b64encode, urlsafe_b64encode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)

URL = "https://dashboard.example/api/v1/telemetry/ghost-compute"
BODY = b'{"company_id":"acme-corp"}'
SIGNED = datetime.datetime(2026, 1, 16, 15, 45, tzinfo=datetime.timezone.utc)
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
COVERED = ("@method", "@authority", "@path", "content-type", "content-digest", "idempotency-key", "cms-ledger")


class Keys(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id):
        return KEY

    def resolve_public_key(self, key_id):
        return KEY.public_key()


class Message:
    def __init__(self, headers):
        self.method, self.url, self.headers, self.body = "POST", URL, headers, BODY


def verify(headers):
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=Keys())
    # The golden headers are of a fixed day; only their age is not judged.
    verifier.max_clock_skew = datetime.timedelta(days=36_500)
    verifier.validate_created_and_expires = lambda *_args, **_named: None
    return verifier.verify(Message(headers), max_age=datetime.timedelta(days=36_500))


def main():
    ours = dict(line.split(": ", 1) for line in open(sys.argv[1]).read().splitlines())
    results = verify(ours)
    assert len(results) == 1, results
    for name in ("idempotency-key", "cms-ledger", "content-digest"):
        changed = dict(ours, **{name: ours[name].replace("2", "3", 1)})
        try:
            verify(changed)
        except InvalidSignature:
            continue
        raise SystemExit(f"a changed {name} is verified")
    print("ours is verified, and not when a covered header is changed", file=sys.stderr)

    theirs = {name: ours[name] for name in ("content-type", "idempotency-key", "cms-ledger")}
    theirs["content-digest"] = f"sha-256=:{b64encode(hashlib.sha256(BODY).digest()).decode()}:"
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=Keys())
    message = Message(theirs)
    signer.sign(
        message,
        key_id=ours["signature-input"].split('keyid="')[1].split('"')[0],
        created=SIGNED,
        expires=SIGNED + datetime.timedelta(seconds=300),
        nonce=urlsafe_b64encode(b"\x09" * 16).decode().rstrip("="),
        label="cms",
        tag="cms-telemetry",
        include_alg=False,
        use_existing_digest=True,
        covered_component_ids=COVERED,
    )
    for name, value in message.headers.items():
        print(f"{name.lower()}: {value}")


main()
