/* Finding the least important units of a model and removing them: activation sums, scores, orders,
 * probes of layers, cuts and their proof. */
#ifndef PARE_PRUNE_H
#define PARE_PRUNE_H

#include "acts.h"
#include "budget.h"
#include "calibrate.h"
#include "importance.h"
#include "layer_table.h"
#include "merge.h"
#include "nested.h"
#include "per_layer.h"
#include "probe.h"
#include "rank.h"
#include "reference.h"
#include "repair.h"
#include "search.h"
#include "shape_report.h"
#include "slice.h"
#include "taylor.h"
#include "variants.h"
#include "vocab.h"

#endif
