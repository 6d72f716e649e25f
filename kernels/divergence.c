/* What op divergence counts, on every device. */
#include "op.h"

const int agreement_ranks[AGREEMENTS] = {1, 5, AGREEMENT_MOST};
