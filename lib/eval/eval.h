/* What a model is worth: its loss on text, and the text that it writes. */
#ifndef PARE_EVAL_H
#define PARE_EVAL_H

#include "generate.h"
#include "loss.h"
#include "sample.h"

#endif
