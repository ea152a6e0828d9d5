/* In each library: the symbol by which a shipped image is searched for the double. */
#include "double.h"

EXPORT void dd_set(const char *key, long value);
EXPORT void nvdouble_set(const char *key, long value);

void nvdouble_set(const char *key, long value)
{
    dd_set(key, value);
}
