/* Text and tokens: documents of a text, token streams by position and one sequence at a time,
 * joining them, windows, batches, sources of training and their order. */
#ifndef PARE_DATA_H
#define PARE_DATA_H

#include "batch.h"
#include "bos.h"
#include "chat.h"
#include "documents.h"
#include "examples.h"
#include "logits.h"
#include "logits_in.h"
#include "loss_on.h"
#include "order.h"
#include "pack.h"
#include "sequences.h"
#include "sources.h"
#include "tokenizer_config.h"
#include "text_size.h"
#include "tokens.h"
#include "windows.h"

#endif
