/* See file_kind.h. */
#include "file_kind.h"

#include <string.h>

#include "utf8.h"

#define TO_UTF8 "iconv -f UTF-16 -t UTF-8 FILE"
#define TO_LINES "to_json(orient=\"records\", lines=True) of pandas"
#define PICKLE "a PyTorch or pickle file"

static const struct signature {
    int at, n;
    const char *bytes;
    struct file_kind kind;
} signatures[] = {
    {0, 2, "\x1f\x8b", {FILE_GZIP, "a gzip file", NULL}},
    {0, 4, "\x28\xb5\x2f\xfd", {FILE_ZSTD, "a zstd file", NULL}},
    {4, 6, "1AY&SY", {FILE_OTHER, "a bzip2 file", "bzip2 -dc FILE"}},
    {0, 6, "\xfd\x37zXZ\0", {FILE_OTHER, "an xz file", "xz -dc FILE"}},
    {0, 4, "\x04\x22\x4d\x18", {FILE_OTHER, "an lz4 file", "lz4 -dc FILE"}},
    {0, 5, "PAR1\x15", {FILE_OTHER, "a Parquet file", TO_LINES}},
    {0, 6, "ARROW1", {FILE_OTHER, "an Arrow file", TO_LINES}},
    {0, 4, "\xff\xff\xff\xff", {FILE_OTHER, "an Arrow stream", TO_LINES}},
    {0, 4, "Obj\x01", {FILE_OTHER, "an Avro file", TO_LINES}},
    {0, 4, "PK\3\4", {FILE_OTHER, "a ZIP archive", "unzip -p FILE"}},
    {0, 6, "7z\xbc\xaf\x27\x1c", {FILE_OTHER, "a 7z archive", "7z x -so FILE"}},
    {257, 6, "ustar\0", {FILE_OTHER, "a tar archive", "tar -xOf FILE"}},
    {257, 8, "ustar  \0", {FILE_OTHER, "a tar archive", "tar -xOf FILE"}},
    {0, 5, "%PDF-", {FILE_OTHER, "a PDF file", "pdftotext FILE -"}},
    {0, 16, "SQLite format 3\0", {FILE_OTHER, "an SQLite database", NULL}},
    {0, 4, "\x89HDF", {FILE_OTHER, "an HDF5 file", NULL}},
    {0, 6, "\x93NUMPY", {FILE_OTHER, "a NumPy array", NULL}},
    {0, 5, "GGUF\2", {FILE_GGUF, "a GGUF file", NULL}},
    {0, 5, "GGUF\3", {FILE_GGUF, "a GGUF file", NULL}},
    {0, 4, "\177ELF", {FILE_OTHER, "a program", NULL}},
    {0, 4, "\x89PNG", {FILE_OTHER, "a PNG image", NULL}},
    {0, 3, "\xff\xd8\xff", {FILE_OTHER, "a JPEG image", NULL}},
    {0, 2, "\x80\2", {FILE_OTHER, PICKLE, NULL}},
    {0, 2, "\x80\3", {FILE_OTHER, PICKLE, NULL}},
    {0, 2, "\x80\4", {FILE_OTHER, PICKLE, NULL}},
    {0, 2, "\x80\5", {FILE_OTHER, PICKLE, NULL}},
    {0, 2, "\xff\xfe", {FILE_OTHER, "UTF-16 text", TO_UTF8}},
    {0, 2, "\xfe\xff", {FILE_OTHER, "UTF-16 text", TO_UTF8}},
    {2, 7, "\x0a\x05<unk>", {FILE_OTHER, "a SentencePiece model", NULL}},
    {2, 7, "\x0a\x05<pad>", {FILE_OTHER, "a SentencePiece model", NULL}},
    {1, 5, "\xa4pare", {FILE_STREAM, "a pare stream", NULL}},
    {3, 5, "\xa4pare", {FILE_STREAM, "a pare stream", NULL}},
};

/* Eight bytes give the length of a JSON object, which follows. */
static int is_safetensors(const unsigned char *p, int64_t n)
{
    return n > 9 && p[8] == '{' && p[9] == '"' && !p[4] && !p[5] && !p[6] && !p[7];
}

const struct file_kind *file_kind(const void *head, int64_t n)
{
    static const struct file_kind weights = {FILE_WEIGHTS, "a safetensors file", NULL};
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const struct signature *s = &signatures[i];
        if (s->at + s->n <= n && !memcmp((const char *)head + s->at, s->bytes, (size_t)s->n))
            return &s->kind;
    }
    return is_safetensors(head, n) ? &weights : NULL;
}

int file_is_text(const void *head, int64_t n)
{
    const char *s = head;
    int valid = 1;
    int64_t whole = n ? utf8_run(s, n, &valid) : 0;
    return valid && n - whole < 4 && !memchr(s, 0, (size_t)n);
}
