"""A device that speaks SNMP version 2c as the file of its community says, at once after each change of it.

Usage: snmp_device.py PORT FOLDER
FOLDER/COMMUNITY.json: {"rows": {"1.3.6…": ["integer", 5], …}, "does": "…"}; other communities are not answered.
"does" is one of the faults below; each was seen on a real device.
"""

import json
import pathlib
import socket
import sys

from pyasn1.codec.ber import decoder, encoder
from pysnmp.proto import api, rfc1902, rfc1905

V2C = api.PROTOCOL_MODULES[api.SNMP_VERSION_2C]
KINDS = {
    "integer": rfc1902.Integer32,
    "gauge": rfc1902.Gauge32,
    "counter32": rfc1902.Counter32,
    "counter64": rfc1902.Counter64,
    "string": rfc1902.OctetString,
}


def oid(text):
    return tuple(int(part) for part in text.split("."))


def following(rows, asked, wanted):
    """The rows after `asked`; the end of the device's objects is one more."""
    found = [(name, value) for name, value in rows if name > asked][:wanted]
    if len(found) < wanted:
        found.append((found[-1][0] if found else asked, rfc1905.endOfMibView))
    return found


def answer(pdu, device):
    does = device.get("does", "")
    rows = sorted((oid(name), KINDS[kind](value)) for name, (kind, value) in device["rows"].items())
    is_bulk = pdu.isSameTypeWith(V2C.GetBulkRequestPDU())
    is_next = pdu.isSameTypeWith(V2C.GetNextRequestPDU())
    asked = [tuple(name) for name, _ in V2C.apiPDU.get_varbinds(pdu)]
    response = V2C.apiPDU.get_response(pdu)
    if does == "refuses bulk" and is_bulk:
        V2C.apiPDU.set_error_status(response, 5)
        return response
    if does == "ignores bulk" and is_bulk:
        return None
    if does == "loops" and asked[0] > rows[len(rows) // 2][0]:
        asked = [rows[0][0]]
    if is_bulk:
        wanted = int(V2C.apiBulkPDU.get_max_repetitions(pdu))
        if does == "is small" and wanted > 2:
            V2C.apiPDU.set_error_status(response, 1)
            return response
        found = following(rows, asked[0], wanted)
    elif is_next:
        found = following(rows, asked[0], 1)
    else:
        table = dict(rows)
        found = [(name, table.get(name, rfc1905.noSuchInstance)) for name in asked]
        if does == "leaves out":
            found = found[:-1]
    V2C.apiPDU.set_varbinds(response, found)
    return response


def main():
    port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", port))
    print("listening", flush=True)
    while True:
        question, sender = listening.recvfrom(65535)
        message, _ = decoder.decode(question, asn1Spec=V2C.Message())
        community = bytes(V2C.apiMessage.get_community(message)).decode()
        try:
            device = json.loads((folder / f"{community}.json").read_text())
        except FileNotFoundError:
            continue
        response = answer(V2C.apiMessage.get_pdu(message), device)
        if response is None:
            continue
        reply = V2C.apiMessage.get_response(message)
        V2C.apiMessage.set_pdu(reply, response)
        sent = encoder.encode(reply)
        if device.get("does") == "cuts":
            sent = sent[:-3]
        listening.sendto(sent, sender)


main()
