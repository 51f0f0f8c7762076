"""A program beside a mount that hangs: a file system in user space that says what its root is and then hears no more.

usage: hung_mount.py DIRECTORY PROGRAM ARGUMENT...

Mounts on DIRECTORY in a mount namespace of its own, which ends with it, and starts the program there. SIGTERM goes on
to the program; its exit status is ours. Speaks the kernel's FUSE protocol itself, so that nothing needs to be installed.
"""

import ctypes
import os
import signal
import struct
import subprocess
import sys
import threading

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE = 16384, 1 << 18
PR_SET_PDEATHSIG = 1
GETATTR, INIT = 3, 26
IN_HEADER = struct.Struct("<IIQQIIII")
OUT_HEADER = struct.Struct("<IiQ")
REQUEST_BYTES_MAX = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)


def call(function, *arguments):
    if function(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function.__name__}: {os.strerror(error)}")


def enter_namespace():
    """Mounts are ours alone from here on; without root, in a user namespace in which we are it."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        call(libc.unshare, CLONE_NEWNS)
    else:
        call(libc.unshare, CLONE_NEWNS | CLONE_NEWUSER)
        for name, content in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(content)
    call(libc.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def mount(directory):
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    call(libc.mount, b"hung", os.fsencode(directory), b"fuse", 0, options.encode())
    return device


def serve(device):
    """Answers until it has said once what its root is. What is asked after that stays in the queue, as where a server is gone."""
    operation = INIT
    while operation != GETATTR:
        request = os.read(device, REQUEST_BYTES_MAX)
        _, operation, unique, node, _, _, _, _ = IN_HEADER.unpack_from(request)
        if operation == INIT:
            major, minor, ahead, _ = struct.unpack_from("<IIII", request, IN_HEADER.size)
            answer = struct.pack("<IIIIHHIIHHIIII", major, min(minor, 31), ahead, 0, 4, 3, 4096, 1, 1, 0, 0, 0, 0, 0)
            answer += bytes(64 - len(answer))
        elif operation == GETATTR and node == 1:
            attributes = struct.pack("<QQQQQQIIIIIIIIII", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
            answer = struct.pack("<QII", 3600, 0, 0) + attributes
        else:
            sys.exit(f"operation {operation} came before the root was asked for")
        os.write(device, OUT_HEADER.pack(OUT_HEADER.size + len(answer), 0, unique) + answer)


def die_with_parent():
    call(libc.prctl, PR_SET_PDEATHSIG, signal.SIGKILL)


def main():
    enter_namespace()
    device = mount(sys.argv[1])
    threading.Thread(target=serve, args=(device,), daemon=True).start()
    program = subprocess.Popen(sys.argv[2:], preexec_fn=die_with_parent)
    signal.signal(signal.SIGTERM, lambda *_: program.send_signal(signal.SIGTERM))
    status = program.wait()
    os._exit(status if status >= 0 else 128 - status)


main()
