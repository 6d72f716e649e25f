"""A slow and lossy cable. usage: relay.py DEVICE DEVICE DELAY LOSS

Makes two network devices (TAP) and carries what is sent into either out of the other, DELAY seconds
later, but for a share LOSS of the packets, which depend on their number alone. Writes a line once
the devices exist. SIGUSR1 cuts the cable: everything is lost from then on."""
import fcntl
import os
import random
import selectors
import signal
import struct
import sys
import time
from collections import deque

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
MOST = 1 << 16  # bytes of a packet


def device(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


def send(fd, packet):
    try:
        os.write(fd, packet)
    except OSError:  # the other end is down: lost
        pass


def main():
    delay, loss = float(sys.argv[3]), float(sys.argv[4])
    ends = [device(name) for name in sys.argv[1:3]]
    other = dict(zip(ends, reversed(ends)))
    lucky = random.Random(1)
    under_way = deque()  # (when it arrives, where, packet), in this order: all take as long
    is_cut = []
    signal.signal(signal.SIGUSR1, lambda *_: is_cut.append(True))
    ready = selectors.DefaultSelector()
    for fd in ends:
        ready.register(fd, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        wait = max(0, under_way[0][0] - time.monotonic()) if under_way else None
        for key, _ in ready.select(wait):
            packet = os.read(key.fd, MOST)
            if lucky.random() >= loss and not is_cut:
                under_way.append((time.monotonic() + delay, other[key.fd], packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, fd, packet = under_way.popleft()
            send(fd, packet)


main()
