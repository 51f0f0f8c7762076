"""Meters that speak Modbus, with faults: the counterpart of read_over_modbus.rs.

  modbus_server.py tcp PORT     modbus_server.py rtu+tcp PORT     modbus_server.py rtu DEVICE

Holding (function 3) and input (function 4) registers of every unit:
  0  int16   245 + unit         supply in tenths of a degree C
  1  int16  -123                outdoor in tenths of a degree C
 10  float32 ABCD  8123.5       power in W
 12  float32 CDAB  8123.5
 14  float32 BADC  8123.5
 16  float32 DCBA  8123.5
 20  uint32  ABCD  305419896    energy in Wh
 22  float32 ABCD  NaN          a broken sensor
 24  uint64  ABCD  5e12
 30  bcd32   ABCD  12345678
 40..49      their own addresses; 45 is not there: exception 2 for whatever runs over it
 60..79      twenty values of their own addresses
200  int16   402, 305         supply and return of a heat meter in tenths of a degree C
202  float32 ABCD  7200       its flow in l/h
Coils and discrete inputs 0..15 are on and off in turn.

Units: 1 good, 2 slow (0.3 s), 3 silent, 4 gives the reply to the question before (late by one), 5 wrong transaction or
unit, 6 short, 7 hangs up after each reply (over TCP), 8 garbled, 9 exception 11 (gateway), 10 busy at first, 11 too late
(2.5 s), 20..119 good.
"""

import asyncio
import struct
import sys

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.framer.rtu import FramerRTU
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

SLOW_S = 0.3
TOO_LATE_S = 2.5


def float_words(value):
    return list(struct.unpack(">HH", struct.pack(">f", value)))


def swapped(words):
    return [(word & 0xFF) << 8 | word >> 8 for word in words]


def registers(unit):
    power = float_words(8123.5)
    return [
        SimData(address, values=words, datatype=DataType.REGISTERS)
        for address, words in [
            (0, [245 + unit, -123 & 0xFFFF]),
            (10, power),
            (12, power[::-1]),
            (14, swapped(power)),
            (16, swapped(power[::-1])),
            (20, [0x1234, 0x5678]),
            (22, float_words(float("nan"))),
            (24, list(struct.unpack(">4H", struct.pack(">Q", 5 * 10**12)))),
            (30, [0x1234, 0x5678]),
            (40, [40, 41, 42, 43, 44]),
            (46, [46, 47, 48, 49]),
            (60, list(range(60, 80))),
            (200, [402, 305]),
            (202, float_words(7200.0)),
        ]
    ]


def checked(body):
    """A frame of RTU with its checksum."""
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


class Faults:
    """Bends what one connection sends; units are told apart by the frame itself."""

    def __init__(self, handler, is_tcp):
        self.handler = handler
        self.is_tcp = is_tcp
        self.write = handler.low_level_send
        self.before = b""

    def send(self, frame, addr=None):
        unit = frame[6] if self.is_tcp else frame[0]
        if unit == 3:
            return
        if unit == 4:
            self.before, frame = frame, self.before
            if not frame:
                return
        if unit == 5:
            frame = bytes([frame[0] ^ 0x40]) + frame[1:] if self.is_tcp else checked(bytes([55]) + frame[1:-2])
        if unit == 6:
            frame = self.short(frame)
        if unit == 8:
            frame = b"\x55" * 30 if self.is_tcp else frame[:-1] + bytes([frame[-1] ^ 0xFF])
        if unit == 11:
            asyncio.get_running_loop().call_later(TOO_LATE_S, self.late, frame)
            return
        self.write(frame, addr=addr)
        if unit == 7 and self.is_tcp:
            asyncio.get_running_loop().call_later(0.01, self.handler.close)

    def late(self, frame):
        if self.handler.transport:
            self.write(frame)

    def short(self, frame):
        """Without the last register."""
        if self.is_tcp:
            length = struct.unpack(">H", frame[4:6])[0] - 2
            return frame[:4] + struct.pack(">H", length) + frame[6:8] + bytes([frame[8] - 2]) + frame[9:-2]
        return checked(frame[:2] + bytes([frame[2] - 2]) + frame[3:-4])


def device(unit, was_busy):
    bits = [SimData(0, values=[True, False] * 8, datatype=DataType.BITS)]

    async def act(_function, _start, _address, _count, _registers, _new):
        if unit == 2:
            await asyncio.sleep(SLOW_S)
        if unit == 9:
            return ExcCodes.GATEWAY_NO_RESPONSE
        if unit == 10 and not was_busy:
            was_busy.add(unit)
            return ExcCodes.DEVICE_BUSY
        return None

    return SimDevice(unit, (bits, bits, registers(unit), registers(unit)), action=act)


async def main(kind, place):
    is_tcp, framer = kind == "tcp", FramerType.SOCKET if kind == "tcp" else FramerType.RTU
    was_busy = set()
    devices = [device(unit, was_busy) for unit in [*range(1, 12), *range(20, 120)]]
    if kind == "rtu":
        server = ModbusSerialServer(devices, framer=framer, port=place, baudrate=19200, ignore_missing_devices=True)
    else:
        server = ModbusTcpServer(devices, framer=framer, address=("127.0.0.1", int(place)), ignore_missing_devices=True)
    connect = server.callback_new_connection

    def connected():
        handler = connect()
        faults = Faults(handler, is_tcp)
        handler.low_level_send = faults.send
        return handler

    server.callback_new_connection = connected
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
