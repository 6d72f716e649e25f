/* The front matter of a Markdown file, such as a model card: YAML between two lines "---" at its
 * beginning. Of YAML, only what cards are written in is read: entries of the first level whose
 * value is a text, or a list of texts, one line each or in brackets. A text is plain or quoted, on
 * one line. Entries and members of any other kind are left out, as are comments. */
#ifndef PARE_FRONT_MATTER_H
#define PARE_FRONT_MATTER_H

#include <jansson.h>

/* {key: text or [text, ...]}; empty if the file has no front matter. Never NULL; json_decref it. */
json_t *front_matter_read(const char *text);
/* A text as a value that reads back as itself, here and in any reader of YAML: in quotes, unless it
 * is a plain word, path or URL. NULL: it is not UTF-8, or has characters that do not show. free()
 * it. */
char *front_matter_value(const char *text);

#endif
