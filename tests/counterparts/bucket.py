"""An object store with users, policies and checked signatures: moto's server over TLS.

usage: bucket.py PORT DIRECTORY

Writes into DIRECTORY the authority's certificate (ca.pem) and the keys of two users (lister.*, nobody.*), fills the
bucket `backups`, and prints one line of JSON with the sums that boto3 finds in it. Then it serves until it is killed.
"""

import datetime
import ipaddress
import json
import os
import sys
import threading
import time

import boto3
import moto.settings
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import run_simple

OBJECTS = 2_500
DARK_DAYS = 180
ODD_KEYS = [
    "odd/a b+c%20d&e<f>\"g'h.tar",
    "odd/grüße/日本.tar",
    "odd//double//slash",
    "odd/trailing/",
    "odd/new\nline",
    "odd/~tilde=equals?question#hash",
    "odd/" + "x" * 1_000,
]


def certificates(directory):
    """An authority, and a certificate of its for 127.0.0.1."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def build(name, key, issuer, issuer_key, extensions):
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=2))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer_key, hashes.SHA256())

    def called(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def write(name, content):
        with open(os.path.join(directory, name), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)

    authority_key = ec.generate_private_key(ec.SECP256R1())
    constraint = x509.BasicConstraints(ca=True, path_length=0)
    authority = build(
        called("site"), authority_key, called("site"), authority_key, [(constraint, True)]
    )
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = build(called("store"), key, called("site"), authority_key, [(names, False)])
    pem = serialization.Encoding.PEM
    write("ca.pem", authority.public_bytes(pem))
    write("server.pem", server.public_bytes(pem))
    plain = serialization.NoEncryption()
    write("server.key", key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


def client(service, port, directory, key=("setup", "setup")):
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
    return boto3.client(
        service,
        endpoint_url=f"https://127.0.0.1:{port}",
        verify=os.path.join(directory, "ca.pem"),
        region_name="us-east-1",
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        config=config,
    )


def user(iam, directory, name, statements):
    iam.create_user(UserName=name)
    document = {"Version": "2012-10-17", "Statement": statements}
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    key = (key["AccessKeyId"], key["SecretAccessKey"])
    for part, content in zip(("id", "secret"), key):
        with open(os.path.join(directory, f"{name}.{part}"), "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content + "\n")
    return key


def fill(s3):
    """Objects of two classes. They are put into the store's memory, which is faster, and lets them be old."""
    s3.create_bucket(Bucket="backups")
    s3.create_bucket(Bucket="empty")
    store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    keys = [f"team{number % 7}/secret-{number:05}.tar" for number in range(OBJECTS)] + ODD_KEYS
    for number, key in enumerate(keys):
        storage_class = "GLACIER" if number % 5 == 0 else "STANDARD"
        stored = store.put_object("backups", key, b"x" * (number % 97), storage=storage_class)
        stored.last_modified = now - datetime.timedelta(days=number % 400, hours=1)


def sums(s3):
    """What the bucket holds, as another client sees it."""
    limit = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=DARK_DAYS)
    found = {"active": [0, 0], "dark": [0, 0], "classes": {}, "pages": 0}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="backups"):
        found["pages"] += 1
        for item in page.get("Contents", []):
            age = found["dark" if item["LastModified"] < limit else "active"]
            age[0] += 1
            age[1] += item["Size"]
            classes = found["classes"]
            classes[item["StorageClass"]] = classes.get(item["StorageClass"], 0) + item["Size"]
    return found


def main():
    port, directory = int(sys.argv[1]), sys.argv[2]
    certificates(directory)
    files = tuple(os.path.join(directory, name) for name in ("server.pem", "server.key"))
    application = DomainDispatcherApplication(create_backend_app)
    serve = threading.Thread(
        target=run_simple,
        args=("127.0.0.1", port, application),
        kwargs={"threaded": True, "ssl_context": files},
        daemon=True,
    )
    serve.start()
    iam = client("iam", port, directory)
    for _ in range(600):
        try:
            iam.list_users()
            break
        except Exception:  # The server is not there yet.
            time.sleep(0.1)
    allowed = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}
    lister = user(iam, directory, "lister", [allowed])
    user(iam, directory, "nobody", [{**allowed, "Action": "s3:GetObject"}])
    fill(client("s3", port, directory))
    moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    print(json.dumps(sums(client("s3", port, directory, lister))), flush=True)
    print("ready", flush=True)
    serve.join()


main()
