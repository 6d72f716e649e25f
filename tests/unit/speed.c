/* Speeds that a footprint and a device predict, worked out by hand; what is measured of a tiny
 * model, which can only be checked to be there. */
#include <math.h>

#include "../../lib/eval/eval.h"
#include "device.h"

/* 100 bytes of weights of which 80 are read for a token, 20 of keys and values at 10 tokens. */
static const struct footprint f = {
    .weight_bytes = 100, .active_bytes = 80, .kv_bytes = 20, .prefill_flops = 6, .decode_flops = 8};

static void check_predicted(void)
{
    struct speed s;
    /* 10 tokens take 60 FLOPs, 3 seconds; their weights, 2 seconds. A token takes 100 bytes */
    speed_predict(&s, &f, 10, &(struct speed_rates){.flops = 20, .bytes = 40});
    CHECK(fabs(s.prefill - 10. / 3) < 1e-12, "bound by products: %g", s.prefill);
    CHECK(fabs(s.decode - 0.4) < 1e-12, "bound by reading: %g", s.decode);
    speed_predict(&s, &f, 10, &(struct speed_rates){.flops = 60, .bytes = 40});
    CHECK(s.prefill == 5, "bound by reading the weights once: %g", s.prefill);
    speed_predict(&s, &f, 10, &(struct speed_rates){.flops = 1, .bytes = 1e6});
    CHECK(s.decode == 0.125, "decode bound by products: %g", s.decode);
}

int main(int argc, char **argv)
{
    struct exec x;
    struct model m;
    struct speed s;
    struct speed_rates r = {0};
    struct err e = {0};
    device_open(&x, &argc, &argv);
    check_predicted();
    load_model(&m, "tests/golden/families/gemma2", MODEL_FROZEN, &x);
    struct speed_options o = {.context = 24, .seconds = 1e-6};
    CHECK(!speed_measure(&s, &x, &m, &o, &e) && s.prefill > 0 && s.decode > 0, "%s", e.msg);
    CHECK(s.state_bytes > 0 && (x.device == DEVICE_CUDA || s.memory > 0),
          "memory while generating");
    CHECK(!speed_rates(&r, &x, DT_BF16, 1e-6, &e) && r.flops > 0 && r.bytes > 0, "%s", e.msg);
    o.context = 1000000;
    model_free(&m);
    load_model(&m, "tests/golden/families/gpt2", MODEL_FROZEN, &x);
    CHECK(speed_measure(&s, &x, &m, &o, &e) && strstr(e.msg, "learned positions"), "%s", e.msg);
    model_free(&m);
    exec_close(&x);
    return check_report();
}
