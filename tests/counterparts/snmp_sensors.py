"""Sensors for snmpd: a `pass_persist` program that answers for ENTITY-SENSOR-MIB and ENTITY-MIB.

Usage: snmp_sensors.py ROOT
Each line on standard input is a question of snmpd, as its manual describes under pass_persist.
"""

import sys

SENSOR = (1, 3, 6, 1, 2, 1, 99, 1, 1, 1)
NAME = (1, 3, 6, 1, 2, 1, 47, 1, 1, 1, 1, 7)
# Index: name, then type, scale, precision, value and status.
SENSORS = {
    1001: ("inlet", 8, 9, 1, 245, 1),
    1002: ("exhaust", 8, 8, 0, 38250, 1),
    1003: ("gone", 8, 9, 1, 245, 2),
    1004: ("broken", 8, 9, 1, 245, 3),
    1005: ("rack power", 6, 10, 2, 318, 1),
}


def rows(root):
    table = {}
    for index, (name, *cells) in SENSORS.items():
        table[NAME + (index,)] = ("string", name)
        for column, cell in enumerate(cells, 1):
            table[SENSOR + (column, index)] = ("integer", cell)
    return dict(sorted((oid, row) for oid, row in table.items() if oid[: len(root)] == root))


def numbers(text):
    return tuple(int(part) for part in text.strip().strip(".").split("."))


def main():
    table = rows(numbers(sys.argv[1]))
    for line in sys.stdin:
        question = line.strip()
        if question == "PING":
            print("PONG", flush=True)
            continue
        asked = numbers(sys.stdin.readline())
        found = asked if question == "get" and asked in table else None
        if question == "getnext":
            found = next((oid for oid in table if oid > asked), None)
        if found is None:
            print("NONE", flush=True)
            continue
        kind, value = table[found]
        print("." + ".".join(map(str, found)), kind, value, sep="\n", flush=True)


main()
