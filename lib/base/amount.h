/* Large numbers as people write them in options: a number, which may have a fraction and an
 * exponent, and a decimal unit. Units may be in lower case. */
#ifndef PARE_AMOUNT_H
#define PARE_AMOUNT_H

#include <stdint.h>

/* How many: 8e9, 100M, 1.5B; K, M, B (or G) and T are thousands, millions, billions, trillions.
 * Rounded down. -1: not such a number, or 2^63 and more. */
int64_t amount_count(const char *text);
/* How many bytes: 5GB, 500M, 1e9; K, M, G, T, each with or without B, and B alone is 1. */
int64_t amount_bytes(const char *text);
/* A share: 0.5 or 50%. -1: not a number, or negative. */
double amount_share(const char *text);

#endif
