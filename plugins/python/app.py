"""Tells the total of an order's lines in the attribute `total`, and drops what is below `config:`; the rest passes."""

import json
from decimal import Decimal, InvalidOperation

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import log, types

# Of the currency, whichever it is.
least = Decimal(0)


class Filter(exports.Filter):
    def init(self, config: str) -> None:
        """Before any event, with the `config:` of the route as JSON, "null" without one."""
        global least
        given = json.loads(config, parse_float=Decimal)
        if given is None:
            return
        if type(given) not in (int, Decimal):
            raise Err(types.InitError_InvalidConfig("it is no number; such as `config: 9.50`"))
        least = Decimal(given)

    def process(self, events: list[types.Event]) -> list[types.Verdict]:
        """One verdict for each event, in order."""
        return [verdict(event) for event in events]


def verdict(event: types.Event) -> types.Verdict:
    if event.attributes.type != "com.example.order":
        return types.Verdict_Pass()
    try:
        lines = json.loads(event.data or b"", parse_float=Decimal)["lines"]
        # Exact: 0.1 and 0.2 are 0.3.
        total = sum((Decimal(line["price"]) * Decimal(line["count"]) for line in lines), Decimal(0))
    except (ValueError, KeyError, TypeError, InvalidOperation):
        log.log(log.Level.WARN, "an order without lines", [("id", event.attributes.id)])
        return types.Verdict_DeadLetter("an order without lines")
    if total < least:
        return types.Verdict_Drop("a small order")
    patch = [("total", types.AttrValue_Text(str(total)))]
    return types.Verdict_Emit([types.Output(patch, types.Body_Keep(), None)])
