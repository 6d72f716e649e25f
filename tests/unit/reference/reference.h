/* A row of the op test: how to draw a random instance, and the op in double precision, as plainly
 * as possible. */
#ifndef PARE_REFERENCE_H
#define PARE_REFERENCE_H

#include "../../../kernels/op.h"
#include "../../../lib/base/rng.h"

enum { IN0, IN1, IN2, IN3, W0, W1, W2, W3, OUT, OPERANDS };

/* One random instance. `shape` fills call.in/w/out (rows, cols, dtype of half-precision weights;
 * rows 0 = absent), call.rows, call.p, batch (n_seq, seq_len, pos0; ids and tables from
 * test_buffer). The frame then draws the values. */
struct trial {
    enum op op;
    int number, large; /* large: big enough that the kernel uses its threads */
    struct rng rng;
    struct op_args call;
    struct batch batch;
    double spread;       /* standard deviation of the values drawn; 1 if shape leaves it 0 */
    double *v[OPERANDS]; /* exactly the values that the kernel gets; NULL if absent */
    const char *wrong;   /* what test_call found */
    struct buffer *buffers;
};

struct op_test {
    void (*shape)(struct trial *t);
    void (*reference)(const struct trial *t, double *out); /* out[rows * cols], from t->v */
    double tolerance; /* of |y - reference| / |reference|; gradients get ten times as much */
    /* bf16: how often a value is rounded on its way from the inputs to an output or gradient */
    int roundings;
    int matrix; /* w0 is a matrix, which a device may hold in bf16; other weights are f32 vectors */
    /* An op that does not fit the scheme tests itself instead: NULL, or what is wrong. Its x is
     * t->call.x, whose `compute` says what type its activations have; calls through test_call. */
    const char *(*whole)(struct trial *t);
};

/* exactly that many bytes, with guards around them that are checked; freed with the trial */
void *test_buffer(struct trial *t, size_t bytes);
/* low..high, odd sizes preferred */
int64_t test_size(struct trial *t, int64_t low, int64_t high);
/* batch and call.rows */
void test_rows(struct trial *t, int64_t n_seq, int64_t seq_len, int64_t pos0);
/* after test_rows: in large trials and some others, splits the sequences into documents */
void test_documents(struct trial *t);
int64_t test_start(const struct trial *t, int64_t row);  /* where the document of a row begins */
struct operand test_operand(int64_t rows, int64_t cols); /* f32 */
void test_fill(struct trial *t, float *to, int64_t n, double spread); /* normal values */
/* a copy in bf16; the values are rounded to it */
void *test_narrow(struct trial *t, float *values, int64_t n);
float *test_widen(struct trial *t, const void *from, enum dtype d, int64_t n);
/* as dtype d, which values are rounded to; q8_0: each block by its largest */
void test_store(void *to, enum dtype d, float *values, int64_t n);
/* Runs the call in one direction on the device of host->x: the trial's buffers that it points to
 * are copied there and back. Provides scratch, and checks that larger calls need no less. */
void test_call(struct trial *t, const struct op_args *host, int back);
int test_guards_whole(const struct trial *t);
void test_buffers_free(struct trial *t);
/* larger of |got - want| / |want| and an eighth of the worst element's; NaN counts as 1 */
double test_error(const float *got, const double *want, int64_t n);

/* of every row: NAME_test */
#define OP(name, inputs, weights, cheap, reads, memo) extern const struct op_test name##_test;
#include "../../../kernels/ops.def"
#undef OP

#endif
