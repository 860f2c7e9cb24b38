"""Calls a method with messages as they are.

call.py HOST:PORT PATH: each line of standard input is a request in base64, each line of output a response.
"""

import base64
import sys

import grpc


def same(message):
    return message


target, path = sys.argv[1:]
with grpc.insecure_channel(target) as channel:
    method = channel.stream_stream(path, request_serializer=same, response_deserializer=same)
    requests = (base64.b64decode(line) for line in iter(sys.stdin.readline, ""))
    for response in method(requests):
        print(base64.b64encode(response).decode(), flush=True)
