"""An informer as the Python client's users write it: list, watch from there, list again when the position is gone.

informer.py SERVER: keeps config maps of all namespaces; for each line on standard input, NAMESPACE/NAME=VALUE, it answers
with one line of JSON once it has seen the object with that value, or after a minute; for an empty line at once:
{"objects": {"namespace/name": ["uid", "value of data.n"], …}, "relists": 1, "outcomes": ["TIME what it was told last", …]}.
"""

import collections
import datetime
import json
import sys
import threading
import time

from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

objects = {}
lock = threading.Lock()
relists = 0
outcomes = collections.deque(maxlen=50)


def note(text):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    with lock:
        outcomes.append(f"{now} {text}")


def keep(item):
    meta = item.metadata
    with lock:
        objects[f"{meta.namespace}/{meta.name}"] = [meta.uid, (item.data or {}).get("n", "")]


def drop(item):
    with lock:
        objects.pop(f"{item.metadata.namespace}/{item.metadata.name}", None)


def follow(api):
    global relists
    version = None
    while True:
        try:
            if version is None:
                found = api.list_config_map_for_all_namespaces()
                with lock:
                    objects.clear()
                for item in found.items:
                    keep(item)
                version = found.metadata.resource_version
                relists += 1
                note(f"listed at resourceVersion {version}")
            stream = watch.Watch().stream(
                api.list_config_map_for_all_namespaces, resource_version=version, timeout_seconds=5,
                allow_watch_bookmarks=True)
            for event in stream:
                item = event["object"]
                if event["type"] == "DELETED":
                    drop(item)
                elif event["type"] in ("ADDED", "MODIFIED"):
                    keep(item)
                if event["type"] != "BOOKMARK":
                    version = item.metadata.resource_version
                else:
                    version = event["raw_object"]["metadata"]["resourceVersion"]
                note(f"{event['type']} at resourceVersion {version}")
            note(f"the watch ended at resourceVersion {version}")
        except ApiException as error:
            note(f"refused at resourceVersion {version}: {error.status} {error.reason}")
            if error.status == 410:
                version = None
            time.sleep(0.05)
        except (HTTPError, OSError) as error:
            # The server is away: the position may still be good when it is back.
            note(f"failed at resourceVersion {version}: {error!r}")
            time.sleep(0.05)


def main():
    config = client.Configuration()
    config.host = sys.argv[1]
    api = client.CoreV1Api(client.ApiClient(config))
    threading.Thread(target=follow, args=(api,), daemon=True).start()
    for line in sys.stdin:
        name, _, value = line.strip().partition("=")
        deadline = time.monotonic() + 60
        while name and time.monotonic() < deadline:
            with lock:
                if objects.get(name, [None, None])[1] == value:
                    break
            time.sleep(0.02)
        with lock:
            print(json.dumps({"objects": objects, "relists": relists, "outcomes": list(outcomes)}), flush=True)


main()
