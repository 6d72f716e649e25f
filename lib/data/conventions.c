/* Windows as they are cut where published perplexities come from. gptq needs nothing of its own:
 * windows of joined text, one after the other. */
#include "windows_private.h"

const char *const convention_names[CONVENTIONS] = {[CONVENTION_GPTQ] = "gptq",
                                                   [CONVENTION_HF_STRIDE] = "hf-stride",
                                                   [CONVENTION_HARNESS] = "harness",
                                                   [CONVENTION_LLAMA_CPP] = "llama.cpp"};

/* The documentation of transformers, "Perplexity of fixed-length models": a window every `stride`
 * tokens, until one reaches the end; each counts what those before have not. */
void cut_hf_stride(struct cutting *c)
{
    const struct window_options *o = &c->w->o;
    int64_t total = c->t->total, counted = 0;
    for (int64_t at = 0; counted < total && !c->e->set; at += o->stride) {
        int64_t end = min64(at + o->context, total), first = max64(1, counted - at);
        window_add(c, (struct window){.at = at, .n = (int32_t)(end - at), .first = (int32_t)first});
        counted = end;
    }
}

/* get_rolling_token_windows of lm-evaluation-harness, with a context of one token: the first window
 * predicts up to `context` tokens after the prefix, which the document itself may begin with; each
 * further one as many after the last token before them. The last begins earlier, so that it is as
 * long as the others, and counts what is left. */
static void cut_document(struct cutting *c, int64_t start, int64_t end)
{
    const struct window_options *o = &c->w->o;
    int64_t prefix = o->bos.n, n = o->context + 1;
    if (window_has_bos(c, start) > 0)
        start = min64(end, start + prefix);
    int64_t done = min64(end, start + o->context);
    struct window first = {.at = start, .bos = 1, .first = (int32_t)prefix};
    first.n = (int32_t)(prefix + done - start);
    window_add(c, first);
    while (done < end && !c->e->set) {
        int64_t next = min64(end, done + o->context);
        window_add(c, (struct window){
                          .at = next - n, .n = (int32_t)n, .first = (int32_t)(n - (next - done))});
        done = next;
    }
}

void cut_harness(struct cutting *c)
{
    for (int64_t i = 0; i < c->t->n && !c->e->set; i++)
        cut_document(c, tokens_start(c->t, i), tokens_start(c->t, i + 1));
}

/* llama.cpp, tools/perplexity: windows one after the other, of each of which the BOS replaces the
 * first token and the second half counts. */
void cut_llama_cpp(struct cutting *c)
{
    const struct window_options *o = &c->w->o;
    int64_t n = o->context;
    for (int64_t at = 0; at + n <= c->t->total && !c->e->set; at += n) {
        int replaced = o->bos.n && !window_has_bos(c, at);
        window_add(c, (struct window){.at = at + (replaced ? o->bos.n : 0),
                                      .n = (int32_t)n,
                                      .first = (int32_t)first_counted(o),
                                      .bos = replaced});
    }
}
