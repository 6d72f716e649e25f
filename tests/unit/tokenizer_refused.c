/* What tokenizers refuse: files that are no tokenizer or contradict themselves, and texts that they
 * would make too long. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/tokenizer/tokenizer.h"
#include "check.h"

#define MODEL \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
static const struct {
    const char *json, *says;
} refused[] = {
    {"", "is not a JSON object"},
    {"[]", "is not a JSON object"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}", "is not a JSON object"},
    {"{}", "model is missing"},
    {"{" MODEL "}{}", "more text"},
    {"{" MODEL ",\"x\":tru}", "is not a JSON object"},
    {"{" MODEL "," MODEL "}", "a name twice"},
    {"{\"model\":{\"type\":\"Unigram\"}}", "no vocab"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}", "entry 1"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1],[\"b\"]]}}", "entry 2"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",true]]}}", "entry 1"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",1e999]]}}", "entry 1"},
    {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"a\",-1]]}}", "unk_id 1"},
    {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":\"a\",\"vocab\":[[\"a\",-1]]}}", "unk_id"},
    {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]},\"pre_tokenizer\":{\"type\":"
     "\"ByteLevel\"}}",
     "after ByteLevel"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", "WordPiece"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", "no merges"},
    {"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", "entry 1"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"b\":1.5},\"merges\":[]}}", "entry 2"},
    {"{\"model\":{\"vocab\":{\"a\":0 \"b\":1},\"merges\":[]}}", "is not a JSON object"},
    {"{\"model\":{\"vocab\":{\"a\":4000000},\"merges\":[]}}", "4000000"},
    {"{\"model\":{\"vocab\":{\"a\":99999999999999},\"merges\":[]}}", "entry 1"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", "a b"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"ab\"]}}", "merge 1"},
    {"{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[[\"a\"]]}}", "merge 1"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", "0.1"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}", "</w>"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"continuing_subword_prefix\":\"##\"}}", "##"},
    {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"<unk>\"}}", "<unk>"},
    {"{" MODEL ",\"normalizer\":{\"type\":\"StripAccents\"}}", "StripAccents"},
    {"{" MODEL ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(a)\\\\1\"},"
     "\"content\":\"b\"}}",
     "\\1"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}", "UnicodeScripts"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\h+\"},"
     "\"behavior\":\"Isolated\",\"invert\":false}}",
     "\\h"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a\"},\"behavior\":"
     "\"Isolated\",\"invert\":false}}",
     "[a"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&]\"},"
     "\"behavior\":\"Isolated\",\"invert\":false}}",
     "&&"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a)\"},\"behavior\":"
     "\"Isolated\",\"invert\":false}}",
     ")"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?x)a\"},"
     "\"behavior\":\"Isolated\",\"invert\":false}}",
     "(?x"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[[:cntrl:]]\"},"
     "\"behavior\":\"Isolated\",\"invert\":false}}",
     "[:cntrl:]"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a(\"},\"behavior\":"
     "\"Isolated\",\"invert\":false}}",
     "a("},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":"
     "\"Upwards\",\"invert\":false}}",
     "Upwards"},
    {"{" MODEL ",\"decoder\":{\"type\":\"WordPiece\"}}", "WordPiece"},
    {"{" MODEL ",\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}}", "Metaspace"},
    {"{" MODEL ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
     "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"bbbbbbbb\"},"
     "{\"type\":\"Replace\",\"pattern\":{\"String\":\"b\"},\"content\":\"ccc\"}]}}",
     "more than 16 bytes of one"},
    {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"  \"}}", "Metaspace"},
    {"{" MODEL ",\"post_processor\":{\"type\":\"BertProcessing\"}}", "BertProcessing"},
    {"{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
     "{\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[7]}}}}",
     "id 7"},
    {"{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
     "{\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[\"a\"]}}}}",
     "\"x\" an id that is not a whole number"},
    {"{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
     "{\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}}}}",
     "more than 16 tokens"},
    {"{" MODEL ",\"added_tokens\":[{\"id\":1,\"content\":\"a\"}]}", "id 1"},
    {"{" MODEL ",\"added_tokens\":[{\"id\":2000000000,\"content\":\"x\"}]}", "2000000000"},
    {"{" MODEL ",\"added_tokens\":[{\"content\":\"x\"}]}", "added token 1"},
};

static void test_refused(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct err e = {0};
        struct tokenizer *t = tokenizer_open(refused[i].json, (int64_t)strlen(refused[i].json), &e);
        CHECK(!t && e.set, "accepted: %s", refused[i].json);
        CHECK(strstr(e.msg, refused[i].says) != NULL, "%s: says '%s', not '%s'", refused[i].json,
              e.msg, refused[i].says);
        tokenizer_close(t);
    }
    struct err e = {0};
    struct tokenizer *t = tokenizer_open("{" MODEL "}", (int64_t)strlen("{" MODEL "}"), &e);
    CHECK(t != NULL, "the plain model is refused: %s", e.msg);
    tokenizer_close(t);
}

/* Prefixes that two pre-tokenizers put before ever smaller pieces: refused once they make a text
 * more than sixteen times as long. */
static void test_growth(void)
{
    json_t *steps = json_array();
    for (int i = 0; i < 15; i++) {
        json_array_append_new(steps,
                              json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement",
                                        i % 2 ? "x" : "y", "prepend_scheme", "always", "split", 0));
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Split", "pattern",
                                               "Regex", "[^\\n]", "behavior", "Isolated"));
    }
    json_t *j = json_pack("{s:{s:{s:i}, s:[]}, s:{s:s, s:o}}", "model", "vocab", "a", 0, "merges",
                          "pre_tokenizer", "type", "Sequence", "pretokenizers", steps);
    char *json = json_dumps(j, 0);
    struct err e = {0};
    struct ids x = {0};
    struct tokenizer *t = tokenizer_open(json, (int64_t)strlen(json), &e);
    CHECK(t != NULL, "%s", e.msg);
    CHECK(tokenizer_encode(t, "ab", 2, &x, &e) < 0 && strstr(e.msg, "sixteen times"), "'%s'",
          e.msg);
    ids_free(&x);
    tokenizer_close(t);
    free(json);
    json_decref(j);
}

int main(void)
{
    test_refused();
    test_growth();
    return check_report();
}
