/* Evaluating a model: its loss on text, and the text it generates. */
#ifndef PARE_EVAL_H
#define PARE_EVAL_H

#include "against.h"
#include "choice_items.h"
#include "choices.h"
#include "divergence.h"
#include "dump.h"
#include "generate.h"
#include "json_lines.h"
#include "loss.h"
#include "prompts.h"
#include "published.h"
#include "report.h"
#include "sample.h"
#include "speed.h"

#endif
