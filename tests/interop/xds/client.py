"""A gRPC client that is led to its servers by xDS.

client.py: for each line `SERVICE SECONDS` on standard input it makes one call of at most that time, and answers with one
line of JSON: {"reply": …, "error": …, "seconds": …}.
"""

import json
import sys
import time

import grpc

channels = {}


def call(service, limit):
    if service not in channels:
        channels[service] = grpc.insecure_channel(f"xds:///{service}")
    begin = time.monotonic()
    reply, error = None, None
    try:
        reply = channels[service].unary_unary("/test.Backend/Name")(b"", timeout=limit).decode()
    except grpc.RpcError as failure:
        error = f"{failure.code().name}: {failure.details()}"
    return {"reply": reply, "error": error, "seconds": time.monotonic() - begin}


for line in sys.stdin:
    name, seconds = line.split()
    print(json.dumps(call(name, float(seconds))), flush=True)
