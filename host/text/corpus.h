/* Private to host/text: all input texts in one piece of memory. */
#pragma once
#include "loader.h"

typedef struct Bytes {
    char *data;
    int64_t n, capacity;
} Bytes;

/* A file, or one text of a file of JSON lines. */
typedef struct Document {
    int64_t first; /* byte of the corpus at which it begins; it ends where the next does */
    int source;    /* index of its file */
    int64_t line;  /* of a file of JSON lines or labelled texts; 0 otherwise */
} Document;

typedef struct Corpus {
    Bytes text;
    Document *documents; /* n_documents + 1 of them: the last is the end */
    int64_t n_documents, document_capacity;
    char **sources; /* names of the files, for messages */
    int n_sources;
    bool json; /* the texts are strings of JSON lines */
} Corpus;

/* Reads files, folders (every regular file in and below them, by name) and "-", standard input.
 * With a field, inputs are JSON lines, and each text ends with a newline. A folder must not hold
 * `output`. */
bool corpus_read(Corpus *c, const char *const *inputs, int n_inputs, const char *field,
                 const char *output, Error *e);
void corpus_free(Corpus *c);
/* "FILE", or "FILE:LINE" of a document that is a line. */
void corpus_name(const Corpus *c, const Document *d, char *name, size_t size);
/* text_encode of bytes [first, last) of a document. */
int64_t corpus_encode(const Corpus *c, const Document *d, const Tokenizer *t, int64_t first,
                      int64_t last, int32_t *ids, Error *e);

/* tokenize.c. The tokenizer that a request asks for, made of this text where it has to be. */
bool tokenize_choose(Tokenizer *t, const TokenizeRequest *r, const Corpus *c, Error *e);
