// Tells the size of each event's data in the attribute `size`, and drops what is smaller than `config:` says.
//
// A variant is `{tag, val}`, an option without a value `undefined`, an error thrown its payload.

// Bytes.
let least = 1;

export const filter = {
  // Before any event, with the `config:` of the route as JSON, "null" without one.
  init(config) {
    const given = JSON.parse(config);
    if (given === null) return;
    if (!Number.isInteger(given) || given < 0) {
      throw { tag: "invalid-config", val: "it is no number of bytes; such as `config: 10`" };
    }
    least = given;
  },

  // One verdict for each event, in order.
  process(events) {
    return events.map(({ data }) => {
      const size = data?.length ?? 0;
      if (size < least) return { tag: "drop", val: "too small" };
      const patch = [["size", { tag: "integer", val: size }]];
      return { tag: "emit", val: [{ patch, data: { tag: "keep" }, to: undefined }] };
    });
  },
};
