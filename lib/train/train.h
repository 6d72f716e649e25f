/* Training and distillation: the step, the run around it, checkpoints and the log. */
#ifndef PARE_TRAIN_H
#define PARE_TRAIN_H

#include "checkpoint.h"
#include "held_out.h"
#include "log.h"
#include "lora.h"
#include "options.h"
#include "rows.h"
#include "run.h"
#include "schedule.h"
#include "step.h"
#include "stream.h"

#endif
