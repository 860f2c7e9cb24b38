# A management server in the other direction: gRPC of C++ serves it, and what it says is written by hand from the
# protocol's messages. Lines of JSON on its input put and delete resources: {"type", "name", "version", "value"} in base64,
# or without value. It prints its port, and each refusal. Its arguments are a port, and how long a request may be.
import base64
import json
import sys
import threading
from concurrent import futures

import grpc

changed = threading.Condition()
table = {}
WHOLE = ("envoy.config.cluster.v3.Cluster", "envoy.config.listener.v3.Listener")


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, payload):
    payload = payload.encode() if isinstance(payload, str) else payload
    return varint(number << 3 | 2) + varint(len(payload)) + payload if payload else b""


def fields(data):
    at = 0

    def read():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = read()
        if key & 7 == 2:
            size = read()
            yield key >> 3, data[at : at + size]
            at += size
        elif key & 7 == 0:
            yield key >> 3, read()
        else:
            raise ValueError(f"wire type {key & 7}")


def text(data, number):
    return next((value.decode() for at, value in fields(data) if at == number), "")


def texts(data, number):
    return [value.decode() for at, value in fields(data) if at == number]


def any_of(type_url, value):
    return field(2, field(1, type_url) + field(2, value))


class Wanted:
    def __init__(self):
        self.names, self.again, self.has, self.told = set(), set(), {}, None

    def now(self, type_url):
        of = table.get(type_url, {})
        return dict(of) if "*" in self.names else {n: of[n] for n in self.names if n in of}


def stream(requests, context, take, answer):
    wanted, ended, count = {}, [], 0

    def read():
        try:
            for request in requests:
                with changed:
                    take(wanted, request)
                    changed.notify_all()
        except grpc.RpcError:
            pass
        with changed:
            ended.append(True)
            changed.notify_all()

    threading.Thread(target=read, daemon=True).start()
    while True:
        with changed:
            found = [(t, made) for t, w in sorted(wanted.items()) if (made := answer(t, w)) is not None]
            if not found:
                if ended:
                    return
                changed.wait()
                continue
        for type_url, made in found:
            count += 1
            yield made + field(4, type_url) + field(5, f"n{count}")


def refused(type_url, request, number):
    error = next((value for at, value in fields(request) if at == number), None)
    if error is not None:
        print(json.dumps({"refused": type_url, "why": text(error, 2)}), flush=True)


def delta_take(wanted, request):
    type_url = text(request, 2)
    of = wanted.setdefault(type_url, Wanted())
    if of.told is None:
        of.told = False
        of.has = {text(entry, 1): text(entry, 2) for at, entry in fields(request) if at == 5}
    for name in texts(request, 3):
        of.names.add(name)
        of.again.add(name)
    of.names -= set(texts(request, 4))
    of.has = {n: v for n, v in of.has.items() if "*" in of.names or n in of.names}
    refused(type_url, request, 7)


def delta_answer(type_url, of):
    now = of.now(type_url)
    put = {n: r for n, r in now.items() if of.has.get(n) != r[0]}
    gone = [n for n in of.has if n not in now] + [n for n in of.again if n not in now and n != "*" and n not in of.has]
    first = of.told is False
    if not (put or gone or first):
        of.again = set()
        return None
    of.again, of.told, of.has = set(), True, {n: r[0] for n, r in now.items()}
    out = field(1, "s")
    for name, (version, value) in put.items():
        out += field(2, field(1, version) + field(3, name) + any_of(type_url, value))
    return out + b"".join(field(6, name) for name in gone)


def sotw_take(wanted, request):
    type_url = text(request, 4)
    of = wanted.setdefault(type_url, Wanted())
    names = set(texts(request, 3))
    if not names and of.told is None and type_url.split("/")[-1] in WHOLE:
        names = {"*"}
    of.names = names if names or "*" not in of.names else of.names
    if of.told is None:
        of.told = False
    refused(type_url, request, 6)


def sotw_answer(type_url, of):
    now = of.now(type_url)
    versions = {n: r[0] for n, r in now.items()}
    whole = type_url.split("/")[-1] in WHOLE
    news = now if whole else {n: r for n, r in now.items() if of.has.get(n) != r[0]}
    if of.told and (versions == of.has if whole else not news):
        of.has = versions
        return None
    of.told, of.has = True, versions
    return field(1, "s") + b"".join(any_of(type_url, value) for _, value in news.values())


def serve():
    service = "envoy.service.discovery.v3.AggregatedDiscoveryService"
    method = grpc.stream_stream_rpc_method_handler
    methods = {
        "DeltaAggregatedResources": method(lambda r, c: stream(r, c, delta_take, delta_answer)),
        "StreamAggregatedResources": method(lambda r, c: stream(r, c, sotw_take, sotw_answer)),
    }
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", int(sys.argv[2]))]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    for line in sys.stdin:
        said = json.loads(line)
        with changed:
            of = table.setdefault(said["type"], {})
            if "value" in said:
                of[said["name"]] = (said["version"], base64.b64decode(said["value"]))
            else:
                of.pop(said["name"], None)
            changed.notify_all()
    server.stop(0)


serve()
