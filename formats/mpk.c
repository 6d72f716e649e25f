/* msgpack <-> JSON: see mpk.h. In: nil, booleans, integers within int64, finite floats, UTF-8 text
 * without NUL, arrays, maps with distinct text keys. Refused: binary and extension types, anything
 * beyond the limits of depth, bytes and entries. */
#include "mpk.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/mem.h"

/* ---- the extent of an object, without recursion or allocation */

/* size: bytes of the type and length fields; body: bytes after them */
struct head {
    unsigned size;
    uint64_t body, entries;
    int container;
};

/* Bytes of the length field of an object that starts with b; -1 for types that streams do not use.
 */
static int length_field(unsigned char b)
{
    if (b < 0xc0 || b >= 0xe0 || (b >= 0xca && b <= 0xd3) || b == 0xc0 || b == 0xc2 || b == 0xc3)
        return 0;
    switch (b) {
    case 0xd9: return 1;
    case 0xda:
    case 0xdc:
    case 0xde: return 2;
    case 0xdb:
    case 0xdd:
    case 0xdf: return 4;
    default: return -1;
    }
}

static void head_parse(struct head *h, const unsigned char *p, int field)
{
    /* 0xca float32 .. 0xd3 int64 */
    static const unsigned char numbers[] = {4, 8, 1, 2, 4, 8, 1, 2, 4, 8};
    unsigned char b = p[0];
    uint64_t n = 0;
    for (int i = 1; i <= field; i++)
        n = n << 8 | p[i];
    *h = (struct head){.size = 1 + (unsigned)field};
    if (b >= 0xd9 && b <= 0xdb)
        h->body = n;
    else if (b >= 0xdc && b <= 0xdf)
        h->container = 1, h->entries = b < 0xde ? n : 2 * n;
    else if (b >= 0xa0 && b <= 0xbf)
        h->body = b & 31;
    else if (b >= 0x80 && b <= 0x9f)
        h->container = 1, h->entries = b < 0x90 ? 2 * (b & 15u) : b & 15u;
    else if (b >= 0xca && b <= 0xd3)
        h->body = numbers[b - 0xca];
}

/* Peak memory of a value, measured: msgpack-c's object, jansson's value, its place in a container;
 * for a text, its copies and the buffer it arrived in. */
static uint64_t memory_of(const struct head *h, unsigned char type)
{
    enum { VALUE = 64, TEXT = 64, MAP = 200, ARRAY = 104 };
    int is_text = (type >= 0xa0 && type <= 0xbf) || (type >= 0xd9 && type <= 0xdb),
        is_map = (type & 0xf0) == 0x80 || type == 0xde || type == 0xdf;
    if (is_text)
        return VALUE + TEXT + 3 * h->body;
    if (h->container)
        return VALUE + (is_map ? MAP : ARRAY);
    return VALUE;
}

int mpk_scan(struct mpk_scan *s, const unsigned char *p, uint64_t have, const char **why)
{
    if (!s->started)
        s->started = 1, s->left[0] = s->owed = 1;
    for (;;) {
        while (s->depth && !s->left[s->depth])
            s->depth--;
        if (s->at > have)
            return 0;
        if (!s->left[0] && !s->depth)
            return 1;
        if (s->at == have)
            return 0;
        int field = length_field(p[s->at]);
        if (field < 0)
            return *why = "a msgpack type that headers do not use", -1;
        if (have - s->at < 1 + (uint64_t)field)
            return 0;
        struct head h;
        head_parse(&h, p + s->at, field);
        s->left[s->depth]--;
        s->owed += h.entries - 1;
        s->memory += memory_of(&h, p[s->at]);
        s->at += h.size + h.body;
        if (s->at + s->owed > s->limits.bytes)
            return *why = "a size larger than the limit or than what is left", -1;
        if (s->memory > s->limits.memory)
            return *why = "values that would take far more memory than the input has bytes", -1;
        if (h.container && s->depth == MPK_DEPTH)
            return *why = "nesting deeper than 32", -1;
        if (h.container)
            s->left[++s->depth] = h.entries;
    }
}

/* ---- decoding */

static json_t *object_to_json(const msgpack_object *o, const char **why);

static json_t *text_to_json(const msgpack_object_str *s, const char **why)
{
    if (s->size && memchr(s->ptr, 0, s->size))
        return *why = "text with a NUL byte", NULL;
    json_t *v = json_stringn(s->size ? s->ptr : "", s->size);
    if (!v)
        *why = "text that is not UTF-8";
    return v;
}

static json_t *map_to_json(const msgpack_object_map *m, const char **why)
{
    json_t *map = json_object();
    for (uint32_t i = 0; i < m->size; i++) {
        const msgpack_object_kv *kv = &m->ptr[i];
        json_t *key = NULL, *value = NULL;
        if (kv->key.type != MSGPACK_OBJECT_STR)
            *why = "a map key that is not text";
        else if ((key = text_to_json(&kv->key.via.str, why)) &&
                 json_object_get(map, json_string_value(key)))
            *why = "a map key that occurs twice";
        else if (key && (value = object_to_json(&kv->val, why)))
            json_object_set_new_nocheck(map, json_string_value(key), value);
        json_decref(key);
        if (!value) {
            json_decref(map);
            return NULL;
        }
    }
    return map;
}

static json_t *array_to_json(const msgpack_object_array *a, const char **why)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < a->size; i++) {
        json_t *value = object_to_json(&a->ptr[i], why);
        if (!value) {
            json_decref(array);
            return NULL;
        }
        json_array_append_new(array, value);
    }
    return array;
}

/* Recurses as deep as the nesting, which the scan has bounded. */
static json_t *object_to_json(const msgpack_object *o, const char **why)
{
    json_t *v = NULL;
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: return json_null();
    case MSGPACK_OBJECT_BOOLEAN: return json_boolean(o->via.boolean);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        if (o->via.u64 > INT64_MAX)
            return *why = "an integer of more than 63 bits", NULL;
        return json_integer((json_int_t)o->via.u64);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: return json_integer(o->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        if (!(v = json_real(o->via.f64)))
            *why = "a number that is not finite";
        return v;
    case MSGPACK_OBJECT_STR: return text_to_json(&o->via.str, why);
    case MSGPACK_OBJECT_ARRAY: return array_to_json(&o->via.array, why);
    case MSGPACK_OBJECT_MAP: return map_to_json(&o->via.map, why);
    default: return *why = "a msgpack type that headers do not use", NULL;
    }
}

json_t *mpk_decode(const unsigned char *p, size_t n, const char **why)
{
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    size_t at = 0;
    json_t *v = NULL;
    msgpack_unpack_return r = msgpack_unpack_next(&u, (const char *)p, n, &at);
    if (r != MSGPACK_UNPACK_SUCCESS) /* the scan found nothing wrong */
        *why = "no memory, or broken msgpack";
    else if (at != n)
        *why = "bytes after the object";
    else
        v = object_to_json(&u.data, why);
    msgpack_unpacked_destroy(&u);
    return v;
}

/* ---- encoding */

struct bytes {
    unsigned char *p;
    size_t n, room;
};

/* The packer's output: it grows without failing, so the packer's results need no check. */
static int bytes_add(void *self, const char *p, size_t n)
{
    struct bytes *b = self;
    if (b->room - b->n < n)
        b->p = mem_grow(b->p, b->room = 2 * b->room + n + 256);
    memcpy(b->p + b->n, p, n);
    b->n += n;
    return 0;
}

static int pack(msgpack_packer *pk, const json_t *v, int depth);

static void pack_text(msgpack_packer *pk, const char *s, size_t n)
{
    msgpack_pack_str(pk, n);
    msgpack_pack_str_body(pk, s, n);
}

static int pack_map(msgpack_packer *pk, const json_t *v, int depth)
{
    const char *key;
    json_t *value;
    msgpack_pack_map(pk, json_object_size(v));
    json_object_foreach((json_t *)v, key, value) {
        pack_text(pk, key, strlen(key));
        if (pack(pk, value, depth + 1))
            return -1;
    }
    return 0;
}

static int pack(msgpack_packer *pk, const json_t *v, int depth)
{
    if (depth > MPK_DEPTH)
        return -1;
    switch (json_typeof(v)) {
    case JSON_NULL: return msgpack_pack_nil(pk);
    case JSON_TRUE: return msgpack_pack_true(pk);
    case JSON_FALSE: return msgpack_pack_false(pk);
    case JSON_INTEGER: return msgpack_pack_int64(pk, json_integer_value(v));
    case JSON_REAL: return msgpack_pack_double(pk, json_real_value(v));
    case JSON_STRING: pack_text(pk, json_string_value(v), json_string_length(v)); return 0;
    case JSON_OBJECT: return pack_map(pk, v, depth);
    case JSON_ARRAY:
        msgpack_pack_array(pk, json_array_size(v));
        for (size_t i = 0; i < json_array_size(v); i++)
            if (pack(pk, json_array_get(v, i), depth + 1))
                return -1;
        return 0;
    }
    return -1;
}

int mpk_encode(const json_t *value, unsigned char **bytes, size_t *n, const char **why)
{
    struct bytes b = {0};
    msgpack_packer pk;
    msgpack_packer_init(&pk, &b, bytes_add);
    if (pack(&pk, value, 0)) {
        free(b.p);
        return *why = "nesting deeper than 32", -1;
    }
    *n = b.n;
    *bytes = b.p;
    return 0;
}
