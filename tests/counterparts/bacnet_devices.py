#!/usr/bin/env python3
"""BACnet/IP devices of bacpypes3 on loopback: several good ones, and several with faults.

  bacnet_devices.py PORT ORDERS

All listen on PORT of an address of their own, 127.0.0.2 to .9; broadcasts go to 127.255.255.255. What is asked of them is
printed, a line for each. ORDERS is a file that is followed while it grows, an order on each line:

  set INSTANCE OBJECT PROPERTY VALUE     changes a property, which subscribers are told
  silence INSTANCE                       the device answers nothing any more
  speak INSTANCE                         it answers again
"""
import asyncio
import math
import socket
import sys

from bacpypes3.app import Application
from bacpypes3.appservice import ApplicationServiceAccessPoint
from bacpypes3.basetypes import Prescale, Scale, StatusFlags
from bacpypes3.comm import bind
from bacpypes3.ipv4 import IPv4DatagramServer
from bacpypes3.ipv4.app import BBMDApplication, NormalApplication
from bacpypes3.ipv4.link import NormalLinkLayer
from bacpypes3.local.analog import AnalogInputObject, AnalogValueObject
from bacpypes3.local.binary import BinaryInputObject
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.object import Object as LocalObject
from bacpypes3.netservice import NetworkServiceAccessPoint, NetworkServiceElement
from bacpypes3.object import AccumulatorObject, LargeAnalogValueObject, PositiveIntegerValueObject
from bacpypes3.pdu import GlobalBroadcast, IPv4Address, LocalStation
from bacpypes3.primitivedata import ObjectIdentifier
from bacpypes3.service.device import WhoIsIAmServices
from bacpypes3.service.object import ReadWritePropertyMultipleServices, ReadWritePropertyServices
from bacpypes3.vlan import VirtualNetwork, VirtualNode

PORT = int(sys.argv[1])
ORDERS = sys.argv[2]
SILENT = set()
DEVICES = {}


def loopback_like_a_wire():
    """Puts every unicast on the wire: bacpypes3 takes each 127.x.x.x on its own port for itself."""
    original = IPv4DatagramServer.indication

    async def indication(self, pdu):
        to = pdu.pduDestination
        place = (socket.inet_ntoa(to.addrAddr[:4]), int.from_bytes(to.addrAddr[4:], "big")) if to.addrAddr else None
        if place is None or place == self.local_address:
            return await original(self, pdu)
        await self._local_transport_ready.wait()
        if self.local_address[0] == "127.0.0.6":
            for garbage in (b"\x81", b"\xff" * 1400, b"\x81\x0a\x00\x0c\x01\x00\x30\x01\x0e\xff\xff\xff"):
                self.local_transport.sendto(garbage, place)
        self.local_transport.sendto(pdu.pduData, place)

    IPv4DatagramServer.indication = indication


class Telling:
    """Prints what is asked, and keeps silent where it was told to."""

    async def indication(self, apdu):
        instance = self.device_object.objectIdentifier[1]
        about = getattr(apdu, "objectIdentifier", None) or getattr(apdu, "monitoredObjectIdentifier", "")
        lifetime = getattr(apdu, "lifetime", "")
        print(f"{instance} asked {type(apdu).__name__} {about} {lifetime}".rstrip(), flush=True)
        if instance not in SILENT:
            await super().indication(apdu)


class Controller(Telling, NormalApplication):
    """Everything that is usual."""


class Simple(Telling, NormalApplication):
    """Knows neither many properties at once nor subscriptions, and announces itself to everybody."""

    do_ReadPropertyMultipleRequest = None
    do_SubscribeCOVRequest = None

    def i_am(self, address=None):
        super().i_am(GlobalBroadcast())


class Deaf(Telling, NormalApplication):
    """Announces itself and answers nothing else."""

    do_ReadPropertyRequest = None

    async def indication(self, apdu):
        if type(apdu).__name__ == "WhoIsRequest":
            await super().indication(apdu)


class Broadcasting(Telling, BBMDApplication):
    """A broadcast device."""


class Behind(
    Telling, Application, WhoIsIAmServices, ReadWritePropertyServices, ReadWritePropertyMultipleServices
):
    """A device on another network, behind a router."""

    def __init__(self, device, station, network):
        Application.__init__(self)
        self.asap = ApplicationServiceAccessPoint(device, self.device_info_cache)
        self.nsap = NetworkServiceAccessPoint()
        self.nse = NetworkServiceElement()
        bind(self.nse, self.nsap)
        bind(self, self.asap, self.nsap)
        self.nsap.bind(VirtualNode(LocalStation(station), network), address=LocalStation(station))
        self.add_object(device)


class LargeAnalogValue(LocalObject, LargeAnalogValueObject):
    """A double."""


class ByHand(AnalogInputObject):
    """A value that somebody set by hand; bacpypes3 itself never says so."""

    @property
    def statusFlags(self):
        return StatusFlags([0, 0, 1, 0])

    @statusFlags.setter
    def statusFlags(self, value):
        pass


class PositiveInteger(LocalObject, PositiveIntegerValueObject):
    """A counter."""


class Accumulator(LocalObject, AccumulatorObject):
    """A counter whose scale has several parts."""


def device(instance, name, longest=1024, segmentation="segmentedBoth"):
    return DeviceObject(
        objectIdentifier=f"device,{instance}",
        objectName=name,
        vendorIdentifier=999,
        vendorName="Loopback",
        modelName="bench",
        maxApduLengthAccepted=longest,
        segmentationSupported=segmentation,
    )


def analog(instance, name, value, units, of=AnalogInputObject, is_in_service=True, **more):
    kind = "analog-value" if of is AnalogValueObject else "analog-input"
    return of(
        objectIdentifier=f"{kind},{instance}",
        objectName=name,
        presentValue=value,
        units=units,
        covIncrement=0.1,
        statusFlags=[0, 0, 0, 0],
        eventState=more.pop("eventState", "normal"),
        outOfService=not is_in_service,
        **more,
    )


def cooling():
    usual = {"eventState": "normal", "outOfService": False, "statusFlags": [0, 0, 0, 0]}
    return [
        analog(1, "CRAC1_SUPPLY_T", 18.4, "degreesCelsius", reliability="noFaultDetected", eventState="highLimit"),
        analog(2, "CRAC1_RETURN_T", 80.6, "degreesFahrenheit"),
        analog(3, "PDU1_KW", 42.75, "kilowatts"),
        analog(4, "CHW_FLOW", 12.5, "litersPerSecond"),
        analog(5, "NAN_T", math.nan, "degreesCelsius"),
        analog(6, "BROKEN_T", 21.0, "degreesCelsius", reliability="openLoop"),
        analog(7, "OOS_T", 21.0, "degreesCelsius", is_in_service=False),
        analog(8, "HAND_T", 21.0, "degreesCelsius", of=ByHand),
        analog(9, "UNSURE_T", 21.0, "degreesCelsius", reliability="unreliableOther"),
        analog(1, "RATIO", 1.38, "noUnits", of=AnalogValueObject),
        LargeAnalogValue(
            objectIdentifier="large-analog-value,1", objectName="HEAT_MWH", presentValue=1234.567891,
            units="megawattHours", **usual,
        ),
        PositiveInteger(
            objectIdentifier="positive-integer-value,1", objectName="HEAT_WH", presentValue=987654321,
            units="wattHours", **usual,
        ),
        Accumulator(
            objectIdentifier="accumulator,1", objectName="PULSES", presentValue=4711, units="kilowattHours",
            scale=Scale(integerScale=-1), prescale=Prescale(multiplier=1, moduloDivide=10), maxPresValue=999999,
            **usual,
        ),
        BinaryInputObject(objectIdentifier="binary-input,1", objectName="PUMP_ON", presentValue="active", **usual),
    ]


def place(last):
    return IPv4Address(f"127.0.0.{last}/8:{PORT}")


def start(application, instance, *objects):
    for one in objects:
        application.add_object(one)
    DEVICES[instance] = application


def start_router():
    VirtualNetwork("field")
    router = NetworkServiceAccessPoint()
    bind(NetworkServiceElement(), router)
    router.bind(NormalLinkLayer(place(7)), 100, place(7))
    router.bind(VirtualNode(LocalStation(1), "field"), 2001, LocalStation(1))
    behind = Behind(device(2012, "mstp-12", 480, "noSegmentation"), 12, "field")
    start(behind, 2012, analog(1, "FIELD_T", 31.5, "degreesCelsius"))


def start_devices():
    start(Controller(device(1001, "crac"), place(2)), 1001, *cooling())
    many = [analog(at, f"RACK_{at:03}_T", at / 4, "degreesCelsius") for at in range(1, 401)]
    start(Controller(device(1002, "gateway", 480), place(3)), 1002, *many)
    small = device(1003, "simple", 206, "noSegmentation")
    start(Simple(small, place(4)), 1003, analog(1, "SIMPLE_T", 24.25, "degreesCelsius"))
    start(Deaf(device(1004, "deaf"), place(5)), 1004)
    noisy = device(1005, "noisy")
    start(Controller(noisy, place(6)), 1005, analog(1, "NOISY_T", 19.75, "degreesCelsius"))
    start_router()
    bbmd = Broadcasting(device(1008, "bbmd"), place(8))
    start(bbmd, 1008, analog(1, "BBMD_T", 17.5, "degreesCelsius"))
    bbmd.add_peer(place(8))
    original = bbmd.bbmd.register_foreign_device

    def register(address, lifetime):
        print(f"1008 registers {address} for {lifetime}", flush=True)
        return original(address, lifetime)

    bbmd.bbmd.register_foreign_device = register


def obey(order):
    match order.split():
        case ["set", instance, name, attribute, value]:
            one = DEVICES[int(instance)].get_object_id(ObjectIdentifier(name))
            setattr(one, attribute, float(value) if attribute == "presentValue" else value)
        case ["silence", instance]:
            SILENT.add(int(instance))
        case ["speak", instance]:
            SILENT.discard(int(instance))
        case _:
            raise ValueError(order)
    print(f"done: {order}", flush=True)


async def main():
    loopback_like_a_wire()
    start_devices()
    await asyncio.gather(*(
        application.normal.server._local_transport_ready.wait()
        for application in DEVICES.values()
        if hasattr(application, "normal")
    ))
    print("ready", flush=True)
    followed = 0
    while True:
        await asyncio.sleep(0.05)
        with open(ORDERS, encoding="utf-8") as file:
            orders = file.read().split("\n")[:-1]
        for order in orders[followed:]:
            obey(order)
        followed = len(orders)


asyncio.run(main())
