// Tells the size of each event's data in the attribute `size`, and drops what is smaller than `config:` says.
//
// What is handed to us is ours to free, and what we give is freed by the bindings: both come from malloc.
#include <stdlib.h>
#include <string.h>

#include "filter_plugin.h"

// Bytes.
static unsigned long least = 1;

// Before any event, with the `config:` of the route as JSON, "null" without one.
bool exports_meshbus_filter_filter_init(filter_plugin_string_t *config,
                                        exports_meshbus_filter_filter_init_error_t *err) {
  char text[12] = {0};
  bool sound = config->len > 0 && config->len < sizeof text;
  if (sound) {
    memcpy(text, config->ptr, config->len);
    for (size_t at = 0; at < config->len; at++) sound = sound && text[at] >= '0' && text[at] <= '9';
  }
  bool absent = config->len == 4 && memcmp(config->ptr, "null", 4) == 0;
  filter_plugin_string_free(config);
  if (absent) return true;
  if (!sound) {
    err->tag = MESHBUS_FILTER_TYPES_INIT_ERROR_INVALID_CONFIG;
    filter_plugin_string_dup(&err->val.invalid_config, "it is no number of bytes; such as `config: 10`");
    return false;
  }
  least = strtoul(text, NULL, 10);
  return true;
}

static void answer(const exports_meshbus_filter_filter_event_t *event,
                   exports_meshbus_filter_filter_verdict_t *verdict) {
  size_t size = event->data.is_some ? event->data.val.len : 0;
  memset(verdict, 0, sizeof *verdict);
  if (size < least) {
    verdict->tag = MESHBUS_FILTER_TYPES_VERDICT_DROP;
    verdict->val.drop.is_some = true;
    filter_plugin_string_dup(&verdict->val.drop.val, "too small");
    return;
  }
  meshbus_filter_types_output_t *output = calloc(1, sizeof *output);
  meshbus_filter_types_tuple2_string_option_attr_value_t *attribute = calloc(1, sizeof *attribute);
  if (output == NULL || attribute == NULL) abort();
  filter_plugin_string_dup(&attribute->f0, "size");
  attribute->f1.is_some = true;
  attribute->f1.val.tag = MESHBUS_FILTER_TYPES_ATTR_VALUE_INTEGER;
  attribute->f1.val.val.integer = (int32_t)size;
  output->patch.ptr = attribute;
  output->patch.len = 1;
  output->data.tag = MESHBUS_FILTER_TYPES_BODY_KEEP;
  verdict->tag = MESHBUS_FILTER_TYPES_VERDICT_EMIT;
  verdict->val.emit.ptr = output;
  verdict->val.emit.len = 1;
}

// One verdict for each event, in order.
void exports_meshbus_filter_filter_process(exports_meshbus_filter_filter_list_event_t *events,
                                           exports_meshbus_filter_filter_list_verdict_t *ret) {
  ret->len = events->len;
  ret->ptr = calloc(events->len, sizeof *ret->ptr);
  if (events->len > 0 && ret->ptr == NULL) abort();
  for (size_t at = 0; at < events->len; at++) answer(&events->ptr[at], &ret->ptr[at]);
  exports_meshbus_filter_filter_list_event_free(events);
}
