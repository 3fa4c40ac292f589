/* The GenApi description of a port, written from its features. */
#ifndef INSPECTD_XML_H
#define INSPECTD_XML_H

#include "camera_features.h"

/* The text, to be freed, or NULL without memory. `port` is the name of the port's node. */
char *xml_write(const char *model, const char *port, const struct feature *rows, size_t count);

#endif
