/* tokenize: turns text, JSON lines or lists of ids into a token stream. */
#include <stdlib.h>
#include <string.h>

#include "../formats/json.h"
#include "../lib/base/file.h"
#include "../lib/base/text.h"
#include "../lib/data/data.h"
#include "../lib/model/model.h"
#include "../lib/tokenizer/tokenizer.h"
#include "../lib/tool/tool.h"

static struct {
    const char *model, *format, *field, *template, *separator, *bos, *row_bos;
    int64_t seq_length, max_tokens;
    int ids, pack;
} o = {.bos = "auto", .row_bos = "auto"};
static const struct opt opts[] = {
    {"model", OPT_PATH, &o.model, "MODEL",
     "take the tokenizer from MODEL: a directory, a .tsz or .gguf file, or a tokenizer.json", 0},
    {"seq-length", OPT_INT, &o.seq_length, "N",
     "join the documents and cut rows of N tokens (default: one sequence per document)",
     OPT_FROM_0},
    {"pack", OPT_FLAG, &o.pack, NULL,
     "put whole documents side by side in the rows of --seq-length, instead of cutting them; "
     "attention and positions start afresh with each. Documents longer than a row are cut, and "
     "what is left of a row is padding",
     0},
    {"max-tokens", OPT_INT, &o.max_tokens, "N", "stop after N tokens; 0: no limit", OPT_FROM_0},
    {"format", OPT_TEXT, &o.format, "auto|text|json",
     "what the FILEs hold: text, or JSON, lines of it or one array of objects (default auto: as "
     "the name, .jsonl, or the beginning of each says)",
     0},
    {"field", OPT_TEXT, &o.field, "KEY|PROMPT+COMPLETION",
     "read JSON and take the text or the list of messages from KEY, or from two members, a "
     "prompt and its completion (default: the first of messages, prompt+completion and text that "
     "an object has)",
     0},
    {"chat-template", OPT_TEXT, &o.template, "auto|NAME",
     "how conversations are written (listed above); auto, the default: as the model's own chat "
     "template does, if it is one of those",
     0},
    {"doc-sep", OPT_TEXT, &o.separator, "TEXT", "TEXT separates documents within a file", 0},
    {"bos", OPT_TEXT, &o.bos, "auto|yes|no|TOKEN",
     "what each document begins with: what the tokenizer's post-processor adds, always a BOS "
     "token, nothing, or TOKEN",
     0},
    {"row-bos", OPT_TEXT, &o.row_bos, "auto|yes|no",
     "whether every row of --seq-length begins with a BOS token, which counts as one of its N "
     "tokens; with --pack, whether every piece of a long document does; auto: if the tokenizer's "
     "post-processor puts one before a text, unless --bos is no",
     0},
    {"ids", OPT_FLAG, &o.ids, NULL,
     "read decimal token ids, one sequence per line; needs no tokenizer", 0},
    {0}};
static const struct tool_desc desc = {
    .name = "tokenize",
    .operands = "[FILE]...",
    .summary = "Turn text into a token stream.",
    .description =
        "A document is a FILE (standard input if there is none, or for -), a line or an element "
        "of a file of JSON, or a piece between separators (--doc-sep), with surrounding white "
        "space removed and empty pieces skipped. What is compressed with gzip or zstd is "
        "decompressed. Each document is one sequence; with --seq-length, documents are joined, "
        "each with its BOS token, and cut into rows, which begin with BOS themselves where the "
        "tokenizer puts one before a text (--row-bos); an incomplete last row is dropped. With "
        "--pack, rows hold whole documents, and nothing is dropped. --bos auto also adds what the "
        "tokenizer puts at the end of a text.\n\nIn JSON a document may also be a conversation, a "
        "list of {\"role\": \"system\", \"user\" or \"assistant\", \"content\": TEXT}, or a "
        "prompt with its completion. A conversation is written with a chat template, as "
        "apply_chat_template of transformers does; a prompt and its completion are joined as they "
        "are, with BOS (--bos) before and the end-of-sequence token after. The stream marks which "
        "tokens count in a loss: all those of a text, but of a conversation only the answers "
        "(unless their \"weight\" is 0) and of a pair only the completion, each with the token "
        "that ends it. Chat templates:"
#define TEMPLATE(name, models, ...) "\n- " name ": " models
#define KNOWN(digest, name)
#define SIGN(text, name)
#include "../lib/data/chat_templates.def"
#undef TEMPLATE
#undef KNOWN
#undef SIGN
        "\n\nSpecial tokens in the text are recognised. Bytes that are not valid UTF-8 are "
        "encoded as bytes if the vocabulary has them; bytes that the vocabulary lacks are left "
        "out, and a note gives their number. Tokens are held in memory, 9 bytes each, until they "
        "are written. Refuses tokenizers other than BPE and Unigram, unknown parts of "
        "tokenizer.json, ids beyond the vocabulary, and files that are not text, such as Parquet "
        "files.",
    .example = "  tokenize -m teacher/ --seq-length 512 corpus.txt > train.tsz\n"
               "  tokenize -m teacher/ --seq-length 2048 --pack chats.jsonl > chats.tsz",
    .opts = opts,
    .min_operands = 0,
    .max_operands = -1,
    .uses = TOOL_OUTPUT | TOOL_MODEL,
};

struct job {
    struct tool *tool;
    struct tokenizer *tokenizer; /* NULL with --ids */
    enum documents_format format;
    struct ids all;
    int64_t *ends, documents, room, vocab_size; /* vocab_size 0: not known */
    struct examples examples;                   /* has the tokenizer and the rules for BOS */
    json_t *meta, *sources;
};

/* ---- the tokenizer */

static void tokenizer_use(struct job *j)
{
    struct tool *t = j->tool;
    int64_t n;
    char id[ST_DIGEST], *own = NULL;
    struct model_in *in = NULL;
    const char *text;
    if (text_ends(o.model, ".json"))
        text = own = file_read(o.model, MODEL_FILE_MAX, &n, tool_err(t));
    else
        text = model_in_tokenizer(in = tool_model(t, o.model), o.model, &n, tool_err(t));
    tool_check(t);
    model_tokenizer_id(id, text, n);
    if (own)
        tool_parent(t, o.model, id);
    struct err e = {0};
    j->tokenizer = tokenizer_open(text, n, &e);
    if (!j->tokenizer)
        tool_die(t, "%s: %s", o.model, e.msg);
    j->vocab_size = tokenizer_vocab_size(j->tokenizer);
    json_object_set_new(j->meta, "tokenizer_id", json_string(id));
    json_object_set_new(j->meta, "vocab_size", json_integer(j->vocab_size));
    struct bos bos = {0};
    if (!o.ids)
        bos_resolve(&bos, o.bos, o.row_bos, j->tokenizer, in, tool_err(t));
    tool_check(t);
    examples_open(&j->examples, j->tokenizer, &bos, o.field, o.template, in);
    if (in)
        model_close(in);
    free(own);
}

/* ---- documents to ids */

/* json: its documents are lines of JSON. */
static int document_use(struct job *j, struct documents *d, int json, const char *text, int64_t n)
{
    struct err *e = tool_err(j->tool);
    if (o.ids)
        return documents_ids(d, text, n, j->vocab_size, &j->all);
    if (json)
        return examples_line(&j->examples, documents_where(d), text, n, &j->all, e);
    return examples_text(&j->examples, text, n, &j->all, e);
}

/* The id of a source is the digest of its bytes, and of the format if only the file's name or its
 * beginning says that it is JSON. */
static void source_parent(struct job *j, const char *path, const char *digest, int as_found)
{
    struct digest d;
    char id[ST_DIGEST];
    if (!as_found) {
        tool_parent(j->tool, path, digest);
        return;
    }
    digest_open(&d);
    digest_add(&d, "jsonl", 5);
    digest_add(&d, digest, strlen(digest));
    digest_close(&d, id);
    tool_parent(j->tool, path, id);
}

static void note_json(const struct job *j, const char *path)
{
    tool_note(j->tool, "%s holds JSON and is read as such; --format text takes it as plain text",
              strcmp(path, "-") ? path : "standard input");
}

static void documents_use(struct job *j, struct documents *d, int json)
{
    const char *text;
    int64_t n, total;
    tool_progress(j->tool, 0, 0, "bytes");
    while (!(o.max_tokens && j->all.n >= o.max_tokens) && documents_next(d, &text, &n) > 0) {
        if (document_use(j, d, json, text, n))
            break;
        if (j->documents == j->room)
            j->ends = mem_grow(j->ends, (size_t)(j->room = 2 * j->room + 64) * sizeof *j->ends);
        j->ends[j->documents++] = j->all.n;
        int64_t taken = documents_taken(d, &total);
        tool_progress(j->tool, taken, total, "bytes");
    }
    tool_progress_end(j->tool);
}

static void file_use(struct job *j, const char *path)
{
    char digest[ST_DIGEST];
    int by_name, json;
    tool_stdin_once(j->tool, path);
    struct documents *d = documents_open(path, o.separator, j->format, tool_err(j->tool));
    tool_check(j->tool);
    json = documents_json(d, &by_name);
    if (json && !by_name && j->format == DOCUMENTS_AUTO)
        note_json(j, path);
    documents_use(j, d, json);
    tool_check(j->tool);
    json_t *source = json_pack("{s:I}", "bytes", (json_int_t)documents_bytes(d));
    documents_close(d, digest);
    json_object_set_new(source, "digest", json_string(digest));
    json_array_append_new(j->sources, source);
    source_parent(j, path, digest, json && j->format == DOCUMENTS_AUTO);
}

/* ---- the stream */

static json_t *ids_json(const struct row_bos *b)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < b->n; i++)
        json_array_append_new(list, json_integer(b->ids[i]));
    return list;
}

/* Whole documents side by side in rows. */
static void pack_rows(struct job *j)
{
    int64_t N = o.seq_length;
    if (!j->all.n)
        tool_die(j->tool, "the input has 0 tokens, too few for a row");
    struct packed p = pack_documents(&j->all, j->ends, j->documents, N, &j->examples.bos.row);
    double full = 100 - 100 * (double)p.padding / (double)j->all.n;
    tool_note(j->tool, "%lld documents in %lld rows of %lld tokens, %.1f %% full",
              (long long)j->documents, (long long)p.rows, (long long)N, full);
    json_object_set_new(j->meta, "packed", json_true());
    json_object_set_new(j->meta, "padding", json_integer(p.padding));
}

/* The joined documents as whole rows. */
static void cut_rows(struct job *j)
{
    struct tool *t = j->tool;
    int64_t N = o.seq_length, all = j->all.n;
    int64_t dropped = row_bos_cut(&j->examples.bos.row, &j->all, N,
                                  o.max_tokens ? o.max_tokens / N : 0);
    if (!j->all.n || (o.max_tokens && o.max_tokens < N))
        tool_die(t, "the input has %lld tokens, too few for a row of %lld", (long long)all,
                 (long long)N);
    if (j->examples.bos.row.n)
        tool_note(t, "each row begins with BOS, one of its %lld tokens (--row-bos %s)",
                  (long long)N, o.row_bos);
    if (dropped)
        tool_note(t, "dropped the last %lld tokens, which do not fill a row of %lld",
                  (long long)dropped, (long long)N);
}

/* What the header and the id say of conversations, and a note if some have nothing that counts. */
static void write_chat(struct job *j)
{
    const struct examples *x = &j->examples;
    int64_t all = x->conversations + x->pairs;
    if (x->conversations) {
        json_t *name = json_string(chat_name(&x->chat));
        json_object_set_new(j->meta, "chat_template", name);
        tool_identify(j->tool, "chat", json_pack("[O, s, s]", name, x->chat.bos, x->chat.eos));
    }
    if (x->pairs)
        tool_identify(j->tool, "eos", json_string(x->pair.eos));
    if (x->answers < all)
        tool_note(j->tool, "%lld of the %lld conversations have no answer that counts in a loss",
                  (long long)(all - x->answers), (long long)all);
}

static void make_rows(struct job *j)
{
    if (o.seq_length <= j->examples.bos.row.n)
        tool_die(j->tool,
                 "rows of %lld tokens have no room for text after their BOS (--row-bos %s)",
                 (long long)o.seq_length, o.row_bos);
    if (o.pack)
        pack_rows(j);
    else
        cut_rows(j);
}

static void write_stream(struct job *j)
{
    struct tool *t = j->tool;
    if (o.max_tokens && j->all.n > o.max_tokens)
        j->all.n = o.max_tokens;
    if (o.seq_length)
        make_rows(j);
    if (!j->all.n)
        tool_die(t, "the input has 0 tokens, too few for a sequence");
    json_t *bos = json_pack("{s:o, s:o, s:o, s:o}", "rule", json_text(o.ids ? "none" : o.bos),
                            "begin", ids_json(&j->examples.bos.begin), "end",
                            ids_json(&j->examples.bos.end), "row", ids_json(&j->examples.bos.row));
    json_object_set_new(j->meta, "bos", bos);
    if (j->tokenizer) { /* what a model's id does not cover, whichever of its files says it */
        tool_identify(t, "tokenizer_id", json_incref(json_object_get(j->meta, "tokenizer_id")));
        tool_identify(t, "bos", json_incref(bos));
    }
    write_chat(j);
    if (o.seq_length)
        json_object_set_new(j->meta, "seq_length", json_integer(o.seq_length));
    json_object_set_new(j->meta, "documents", json_integer(j->documents));
    int64_t padding = json_integer_value(json_object_get(j->meta, "padding"));
    json_object_set_new(j->meta, "tokens", json_integer(j->all.n - padding));
    json_object_set_new(j->meta, "sources", j->sources);
    struct token_arrays all = {.ids = j->all.id,
                               .bytes = o.ids ? NULL : j->all.bytes,
                               .flags = ids_flagged(&j->all) ? j->all.flags : NULL};
    tokens_write(tool_out(t, "tokens", j->meta), &all, j->all.n, j->ends, j->documents,
                 o.seq_length);
}

/* Tokens of a packed row: what is left of it is padding, which takes memory as tokens do. */
#define ROW_MOST (1 << 24)

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct job j = {.tool = t, .meta = json_object(), .sources = json_array()};
    if (!o.ids && !o.model)
        tool_usage(t, "no tokenizer given: use -m MODEL, or --ids if the input is token ids");
    if (o.pack && !o.seq_length)
        tool_usage(t, "--pack needs --seq-length N, the length of the rows");
    if (o.pack && o.seq_length > ROW_MOST)
        tool_usage(t, "with --pack, --seq-length must be at most %d, not %lld: rows are padded",
                   ROW_MOST, (long long)o.seq_length);
    struct err usage = {0};
    if (row_bos_check(o.row_bos, &usage) || chat_check_name(o.template, &usage))
        tool_usage(t, "%s", usage.msg);
    if (o.ids && (o.format || o.field || o.template || o.separator || strcmp(o.bos, "auto") ||
                  !strcmp(o.row_bos, "yes")))
        tool_usage(t, "--ids cannot be combined with --format, --field, --chat-template, "
                      "--doc-sep, --bos or --row-bos");
    j.format = documents_format_given(o.format, o.field, o.separator, &usage);
    if (usage.set)
        tool_usage(t, "%s", usage.msg);
    if (o.ids)
        j.format = DOCUMENTS_LINES;
    if (o.model)
        tokenizer_use(&j);
    for (int i = 0; i < tool_operands(t) || !i; i++)
        file_use(&j, tool_operands(t) ? tool_operand(t, i) : "-");
    if (j.tokenizer && tokenizer_dropped(j.tokenizer))
        tool_note(t, "left out %lld bytes of the text that the vocabulary cannot express",
                  (long long)tokenizer_dropped(j.tokenizer));
    write_stream(&j);
    ids_free(&j.all);
    free(j.ends);
    examples_close(&j.examples);
    tokenizer_close(j.tokenizer);
    return tool_finish(t);
}
