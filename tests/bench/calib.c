/* What calibration adds to a forward pass: calib MODEL [ROUNDS [B T]] runs the model's blocks
 * without a head over B x T random tokens, alternately without taps and with every tap of
 * calib-acts. One line per round: seconds without taps, seconds with them; then where the
 * difference is spent. */
#include <stdio.h>
#include <stdlib.h>

#include "../../lib/tool/model_open.h"
#include "../../lib/tool/restart.h"
#include "../../lib/base/rng.h"
#include "../../lib/base/usage.h"
#include "../../lib/prune/prune.h"
#include "../../lib/tape/tape.h"

static struct err e;
static struct exec x;

static void must(int failed)
{
    if (failed || e.set) {
        fprintf(stderr, "calib: %s\n", e.set ? e.msg : x.err.msg);
        exit(1);
    }
}

static void load(struct model *m, const char *operand)
{
    struct model_in *in = model_open(operand, NULL, &e);
    must(!in || model_load(m, in, MODEL_FROZEN, &e));
    model_close(in);
}

static double forward(struct tape *tape, const struct batch *b)
{
    double t = usage_seconds();
    must(tape_forward(tape, b, &e));
    return usage_seconds() - t;
}

static double calibrate(struct calibration *c, const struct batch *b)
{
    double t = usage_seconds();
    must(calibrate_batch(c, b, &e));
    return usage_seconds() - t;
}

int main(int argc, char **argv)
{
    struct model m;
    int rounds = argc > 2 ? atoi(argv[2]) : 5;
    restart_tuned(argv);
    if (argc < 2 || rounds < 1)
        return fprintf(stderr, "usage: calib MODEL [ROUNDS [B T]]\n"), 2;
    must(exec_open(&x, DEVICE_CPU, 0));
    load(&m, argv[1]);
    int64_t B = 2, T = 512, L = m.spec.num_hidden_layers;
    if (argc > 4) {
        B = atoi(argv[3]);
        T = atoi(argv[4]);
    }
    struct tape_spec spec = {.model = &m, .n_seq = B, .seq_len = T, .end = TAPE_NO_HEAD};
    struct tape *plain = tape_record(&x, &spec, &e);
    must(!plain || tape_open(plain, &e));
    struct calibration *tapped = calibrate_open(&x, &m, B, T, L < 32 ? L : 32, &e);
    must(!tapped);
    int32_t *ids = mem_alloc((size_t)(B * T) * sizeof *ids);
    struct rng r = rng_open(7, 0);
    for (int64_t i = 0; i < B * T; i++)
        ids[i] = (int32_t)rng_below(&r, (uint64_t)m.spec.vocab_size);
    struct batch b = {.n_seq = B, .seq_len = T, .ids = ids};
    double with = 0, without = 0;
    /* touches memory and generates matrix kernels */
    forward(plain, &b), calibrate(tapped, &b);
    x.seconds[OP_seq_stats][0] = x.seconds[OP_row_cosine][0] = 0;
    for (int i = 0; i < rounds; i++) {
        double p = forward(plain, &b), q = calibrate(tapped, &b);
        printf("%.6f %.6f\n", p, q);
        without += p;
        with += q;
    }
    double stats = x.seconds[OP_seq_stats][0], cosines = x.seconds[OP_row_cosine][0];
    fprintf(stderr,
            "of %.4f s more a pass: sums of units %.4f, cosines of blocks %.4f, rest %.4f\n",
            (with - without) / rounds, stats / rounds, cosines / rounds,
            (with - without - stats - cosines) / rounds);
    return 0;
}
